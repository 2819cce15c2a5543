//! The build for bare metal: `rumpvm` and what it stands on, without `std`, for `x86_64-unknown-none`.
//!
//! Two ways lead there. rustup's target is tried first. Where it cannot be had, Debian's own compiler
//! builds `core` and `alloc` from the sources that Debian packages beside it; that takes half a
//! minute, once. Its objects go to a folder of their own, because another compiler's would be rebuilt
//! by every change between the two.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{step, workspace};

const TARGET: &str = "x86_64-unknown-none";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/core";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];
const PACKAGES: &str = "-p rumpvm";

/// Builds for bare metal, after setting up what is missing.
pub(crate) fn run() -> Result<()> {
    if has_rustup_target() {
        let words = format!("build --target {TARGET} {PACKAGES}");
        return step::run("bare metal", &mut step::cargo(&workspace::root(), &words));
    }
    need_debian_compiler()?;
    step::run("bare metal, with Debian's compiler", &mut debian_build()?)
}

/// Whether rustup has the target, or could add it just now.
fn has_rustup_target() -> bool {
    step::succeeds(Command::new("rustup").args(["target", "add", TARGET]))
}

fn need_debian_compiler() -> Result<()> {
    if Path::new(DEBIAN_CARGO).exists() && Path::new(DEBIAN_SOURCES).exists() {
        return Ok(());
    }
    let install = format!("apt-get install -y {}", DEBIAN_PACKAGES.join(" "));
    println!("xtask: no target {TARGET} from rustup: {install}");
    let mut update = Command::new("apt-get");
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "-q", "--no-install-recommends"]).args(DEBIAN_PACKAGES);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    if !step::succeeds(update.arg("update")) || !step::succeeds(&mut command) {
        bail!(
            "cannot build for {TARGET}: run `rustup target add {TARGET}`, or as root `{install}`"
        );
    }
    Ok(())
}

/// Debian's cargo on the same sources. `RUSTC_BOOTSTRAP` admits `-Zbuild-std`, which has no stable
/// form; what rustup's cargo has put into our environment must not reach it.
fn debian_build() -> Result<Command> {
    let folder = workspace::metadata()?.target_directory.join("bare-debian");
    let words = format!("build -Zbuild-std=core,alloc --target {TARGET} {PACKAGES}");
    let mut command = Command::new(DEBIAN_CARGO);
    command.current_dir(workspace::root()).args(words.split_whitespace());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CARGO", "RUST"].iter().any(|prefix| text.starts_with(prefix));
        if ours && text != "CARGO_HOME" {
            command.env_remove(&name);
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("/usr/bin:{path}"));
    command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_TARGET_DIR", folder.as_str());
    Ok(command)
}
