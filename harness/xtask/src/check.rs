//! `cargo xtask check`: formatting, layers, `rumpvm.h`, packages, clippy, documentation. Quickest first.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{header, layers, step, workspace};

/// Runs every quick check.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    need_components()?;
    step::run("format", &mut step::cargo(&root, "fmt --all --check"))?;
    let fuzzers = "fmt --manifest-path harness/fuzz/Cargo.toml --check";
    step::run("format of the fuzzers", &mut step::cargo(&root, fuzzers))?;
    layers::run()?;
    header::check()?;
    package(&root)?;
    let clippy = "clippy --workspace --all-targets --quiet -- -D warnings";
    step::run("clippy", &mut step::cargo(&root, clippy))?;
    // Of the library's layers the workspace has the uppermost.
    let layer = "clippy -p rumpvm-foreign --no-default-features --features pmap,kmem --quiet -- -D warnings";
    step::run("clippy of the layers below", &mut step::cargo(&root, layer))?;
    // The counters of locks are in no other build.
    let counters = "clippy -p rumpvm-harness --features lock-counters --quiet -- -D warnings";
    step::run("clippy of the lock counters", &mut step::cargo(&root, counters))?;
    let mut doc = step::cargo(&root, "doc --workspace --no-deps --quiet");
    step::run("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Crates that others may depend on, lowest first.
const PUBLISHED: &str = "-p rumpvm-arch -p rumpvm-platform -p rumpvm -p rumpvm-hosted";

/// What is published can be packed, and the component does without each of its features. (Without `--no-verify` each package
/// is also built by itself, in half a minute.)
fn package(root: &Path) -> Result<()> {
    let pack = format!("package --quiet --no-verify --allow-dirty {PUBLISHED}");
    step::run("packages", &mut step::cargo(root, &pack))?;
    let bare = "check --quiet -p rumpvm --no-default-features";
    step::run("rumpvm without features", &mut step::cargo(root, bare))
}

/// rustfmt and clippy come with rustup's default profile, but not with its minimal one.
fn need_components() -> Result<()> {
    for (component, program) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if step::succeeds(&mut step::cargo(&workspace::root(), &format!("{program} --version"))) {
            continue;
        }
        println!("xtask: cargo {program} is missing: rustup component add {component}");
        if !step::succeeds(Command::new("rustup").args(["component", "add", component])) {
            bail!("cargo {program} is missing; install it and try again");
        }
    }
    Ok(())
}
