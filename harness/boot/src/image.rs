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
    let products = workspace::metadata()?.target_directory;
    let file = format!("{TARGET}/{}/rumpvm-image", profile.folder());
    let image = |folder: &str| products.join(folder).join(&file).into();
    let name = profile.name();
    if has_rustup_target() {
        let words = format!("build --quiet --profile {name} --target {TARGET} {PACKAGES}");
        step::run("bare metal", &mut step::cargo(&workspace::root(), &words))?;
        return Ok(image("."));
    }
    need_debian_compiler()?;
    let folder = "bare-debian";
    let words =
        format!("build -Zbuild-std=core,alloc --profile {name} --target {TARGET} {PACKAGES}");
    let mut build = debian::cargo(products.join(folder).as_std_path(), &words);
    // The target's own choice comes with rustup's compilers only.
    build.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", "ld.lld");
    step::run("bare metal, with Debian's compiler", &mut build)?;
    Ok(image(folder))
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
