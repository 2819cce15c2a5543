//! The build for bare metal: the component and the boot image, without `std`, for `x86_64-unknown-none`.
//!
//! Two ways lead there. rustup's target is tried first. Where it cannot be had, Debian's own compiler
//! builds `core` and `alloc` from the sources that Debian packages beside it; that takes half a
//! minute, once.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{debian, step, workspace};

const TARGET: &str = "x86_64-unknown-none";
const PACKAGES: &str = "-p rumpvm -p rumpvm-image";

/// How it is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// With every check of the compiler's, for tests.
    Checked,
    /// As fast as can be had in a short build, for use.
    Quick,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Checked => "dev",
            Self::Quick => "quick",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Checked => "debug",
            Self::Quick => "quick",
        }
    }
}

/// Builds for bare metal, after setting up what is missing; returns where the image is.
pub fn build(profile: Profile) -> Result<PathBuf> {
    let words = format!("build --quiet --profile {} {PACKAGES}", profile.name());
    let products = compile("bare metal", &words, None)?;
    Ok(products.join(profile.folder()).join("rumpvm-image"))
}

/// Runs cargo with `words`, and for this compiler with `flags` in place of the workspace's own, for bare metal; returns the
/// folder of the products of all profiles.
pub(crate) fn compile(title: &str, words: &str, flags: Option<&str>) -> Result<PathBuf> {
    compile_for(TARGET, title, words, flags)
}

/// As [`compile`], for another of the compiler's targets.
pub(crate) fn compile_for(
    target: &str,
    title: &str,
    words: &str,
    flags: Option<&str>,
) -> Result<PathBuf> {
    let products = workspace::metadata()?.target_directory;
    let (mut command, folder) = if has_rustup_target(target) {
        let words = format!("{words} --target {target}");
        (step::cargo(&workspace::root(), &words), products)
    } else {
        need_debian_compiler(target)?;
        let folder = products.join("bare-debian");
        let words = format!("{words} -Zbuild-std=core,alloc --target {target}");
        let mut command = debian::cargo(folder.as_std_path(), &words);
        // The target's own choice comes with rustup's compilers only.
        command.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", "ld.lld");
        (command, folder)
    };
    if let Some(flags) = flags {
        command.env("RUSTFLAGS", flags).env_remove("CARGO_ENCODED_RUSTFLAGS");
    }
    step::run(title, &mut command)?;
    Ok(folder.join(target).into())
}

/// Whether rustup has the target, or could add it just now.
fn has_rustup_target(target: &str) -> bool {
    step::succeeds(Command::new("rustup").args(["target", "add", target]))
}

fn need_debian_compiler(target: &str) -> Result<()> {
    let packages = [&debian::COMPILER[..], &["lld"]].concat();
    let instead = format!("`rustup target add {target}` would do instead");
    debian::need(&packages).context(instead)
}
