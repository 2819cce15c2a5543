//! Debian's packages, and its own compiler: for what rustup's cannot do everywhere.
//!
//! Debian's compiler comes with the sources of the standard library and with the LLVM that it was built
//! against, so it can build `core` for bare metal and `std` for a sanitizer. What it builds goes to folders
//! of its own, because another compiler's objects would be rebuilt by every change between the two.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{step, workspace};

/// The compiler, its cargo, and the sources of the standard library.
pub const COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const CARGO: &str = "/usr/bin/cargo";
const RUSTC: &str = "/usr/bin/rustc";

/// Installs those of `packages` that are missing.
pub fn need(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install -y {}", missing.join(" "));
    step::say(format_args!("missing: {install}"));
    let mut update = Command::new("apt-get");
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "-q", "--no-install-recommends"]).args(&missing);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    if !step::succeeds(update.arg("update")) || !step::succeeds(&mut command) {
        bail!("cannot install {}: run, as root, `{install}`", missing.join(" "));
    }
    Ok(())
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    query.output().is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

/// The major version of the LLVM in Debian's compiler: clang and the sanitizers must be of the same.
pub fn llvm() -> Result<u32> {
    let output = Command::new(RUSTC).arg("-vV").output().context("cannot start Debian's rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    llvm_of(&text).with_context(|| format!("{RUSTC} -vV names no LLVM version: {text}"))
}

fn llvm_of(text: &str) -> Option<u32> {
    let version = text.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

/// Debian's cargo on the workspace, with `words` separated by spaces; objects go to `folder`.
/// `RUSTC_BOOTSTRAP` admits `-Zbuild-std`, which has no stable form; what rustup's cargo has put into our
/// environment must not reach it.
pub fn cargo(folder: &Path, words: &str) -> Command {
    let mut command = Command::new(CARGO);
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
    command.env("RUSTC", RUSTC).env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_TARGET_DIR", folder);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_says_which_llvm_it_has() {
        let text = "rustc 1.96.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_of(text), Some(22));
        assert_eq!(llvm_of("rustc 1.96.0\n"), None);
    }
}
