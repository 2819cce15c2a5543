//! `cargo xtask layers`: imports that point the wrong way, in what cargo knows and in the sources.
//!
//! Flow: cargo metadata -> crate rules; source files -> facts -> module rules -> complaints, one line
//! each with file, line and rule.

mod rules;
mod source;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, Package};

use crate::workspace;
use rules::Place;
use source::What;
use table::{COMPONENT, CRATES, CrateRule, Home};

/// Checks every crate of the workspace; an error if any rule is broken.
pub(crate) fn run() -> Result<()> {
    let metadata = workspace::metadata()?;
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        match CRATES.iter().find(|rule| rule.name == package.name.as_str()) {
            Some(rule) => {
                dependencies(&metadata, package, rule, &mut complaints);
                sources(package, rule, &mut complaints)?;
            }
            None => complaints.push(format!(
                "{}: package {} has no layer: add it to layers/table.rs",
                package.manifest_path, package.name
            )),
        }
    }
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    if !complaints.is_empty() {
        bail!("layers: {} broken", complaints.len());
    }
    println!("xtask: layers: every import points downward");
    Ok(())
}

/// What the manifest names. Dependencies of tests alone are no imports: tests look down on everything.
fn dependencies(all: &Metadata, package: &Package, rule: &CrateRule, complaints: &mut Vec<String>) {
    for dependency in &package.dependencies {
        if dependency.kind == DependencyKind::Development {
            continue;
        }
        let name = dependency.name.as_str();
        let ours = all.workspace_packages().iter().any(|one| one.name.as_str() == name);
        let allowed = match ours {
            true => rule.below.contains(&name),
            false => rule.outside.is_none_or(|outside| outside.contains(&name)),
        };
        if !allowed {
            let manifest = relative(package.manifest_path.as_std_path());
            complaints.push(format!("{manifest}:1: {} may not depend on {name}", rule.name));
        }
    }
}

/// What the sources name.
fn sources(
    package: &Package,
    rule: &'static CrateRule,
    complaints: &mut Vec<String>,
) -> Result<()> {
    let folder = package.manifest_path.parent().context("a manifest lies in a folder")?;
    let folder = match folder.join("src").as_std_path() {
        src if src.is_dir() => src.to_path_buf(),
        _ => folder.as_std_path().to_path_buf(),
    };
    let exports = if rule.name == COMPONENT { exports(&folder)? } else { BTreeMap::new() };
    for file in rust_files(&folder)? {
        let module = module_of(&folder, &file);
        if module.iter().any(|part| part == "tests") {
            continue;
        }
        let place = Place { rule, module: &module, exports: &exports };
        let facts = facts(&file, &module)?;
        for fact in &facts {
            if let Some(broken) = rules::broken(&place, fact) {
                complaints.push(format!("{}:{}: {broken}", relative(&file), fact.line));
            }
        }
        let says_no_std = facts.iter().any(|fact| fact.what == What::NoStd);
        if rule.home == Home::Bare && file.ends_with("src/lib.rs") && !says_no_std {
            complaints.push(format!("{}:1: {} must say #![no_std]", relative(&file), rule.name));
        }
    }
    Ok(())
}

fn facts(file: &Path, module: &[String]) -> Result<Vec<source::Fact>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file:?}"))?;
    source::facts(&text, module).with_context(|| relative(file))
}

/// Names that `lib.rs` re-exports, and the module each comes from.
fn exports(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut exports = BTreeMap::new();
    for fact in facts(&folder.join("lib.rs"), &[])? {
        if let What::Path(path) = fact.what
            && let [first, .., last] = path.as_slice()
        {
            let module = if first == "crate" { &path[1] } else { first };
            exports.insert(last.clone(), module.clone());
        }
    }
    Ok(exports)
}

/// The module that `file` is: `src/map/entry.rs` is `map`, `entry`.
fn module_of(folder: &Path, file: &Path) -> Vec<String> {
    let below = file.strip_prefix(folder).unwrap_or(file).with_extension("");
    let mut parts: Vec<String> =
        below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// Every Rust file below `folder`, in order; build products and nested packages are not ours to read.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {folder:?}"))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") && !path.join("Cargo.toml").exists() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// `path` as seen from the workspace's root.
fn relative(path: &Path) -> String {
    path.strip_prefix(workspace::root()).unwrap_or(path).display().to_string()
}
