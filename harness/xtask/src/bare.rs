//! The build for bare metal: `rumpvm` and what it stands on, without `std`, for `x86_64-unknown-none`.
//!
//! Two ways lead there. rustup's target is tried first. Where it cannot be had, Debian's own compiler
//! builds `core` and `alloc` from the sources that Debian packages beside it; that takes half a
//! minute, once.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{debian, step, workspace};

const TARGET: &str = "x86_64-unknown-none";
const PACKAGES: &str = "-p rumpvm";

/// Builds for bare metal, after setting up what is missing.
pub(crate) fn run() -> Result<()> {
    if has_rustup_target() {
        let words = format!("build --target {TARGET} {PACKAGES}");
        return step::run("bare metal", &mut step::cargo(&workspace::root(), &words));
    }
    need_debian_compiler()?;
    let folder = workspace::metadata()?.target_directory.join("bare-debian");
    let words = format!("build -Zbuild-std=core,alloc --target {TARGET} {PACKAGES}");
    let mut build = debian::cargo(folder.as_std_path(), &words);
    step::run("bare metal, with Debian's compiler", &mut build)
}

/// Whether rustup has the target, or could add it just now.
fn has_rustup_target() -> bool {
    step::succeeds(Command::new("rustup").args(["target", "add", TARGET]))
}

fn need_debian_compiler() -> Result<()> {
    let packages = [&debian::COMPILER[..], &["lld"]].concat();
    let instead = format!("`rustup target add {TARGET}` would do instead");
    debian::need(&packages).context(instead)
}
