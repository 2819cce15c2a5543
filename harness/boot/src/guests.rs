//! The programs of `harness/guest`, each one static file that runs on Linux and in the image alike.
//!
//! Those in C are built with both C libraries; those in Rust with the library that Rust's own links for this host.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{debian, step, workspace};

/// A C library, and what links a program with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Library {
    /// GNU's.
    Glibc,
    /// The one that is made for static programs.
    Musl,
}

impl Library {
    fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
        }
    }

    fn compiler(self) -> [&'static str; 2] {
        match self {
            Self::Glibc => ["gcc", "-pthread"],
            // Debian's would name an interpreter otherwise.
            Self::Musl => ["musl-gcc", "-no-pie"],
        }
    }
}

/// Where those in C are built: `NAME.glibc` and `NAME.musl`.
pub fn folder() -> Result<PathBuf> {
    Ok(workspace::metadata()?.target_directory.join("guest").into())
}

/// Every program in C that is only run. With both libraries where the library matters; the smallest machine that unpacks
/// them all has little room.
pub fn in_c() -> Result<Vec<PathBuf>> {
    let names = ["signals", "threads", "calls"];
    let libraries = [Library::Glibc, Library::Musl];
    let pairs = names.iter().flat_map(|name| libraries.map(|library| (*name, library)));
    let small = ["disk", "hog", "priorities", "alarms", "jobs"].map(|name| (name, Library::Musl));
    let answers = ["locks", "rights", "sockets", "limits", "clocks", "heard"];
    let answers = answers.map(|name| (name, Library::Musl));
    pairs.chain(answers).chain(small).map(|(name, library)| built(name, library)).collect()
}

/// The folder with the programs in Rust. The flag is for their target only, so it rebuilds nothing of the workspace's
/// own.
pub fn in_rust() -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    debian::need(&["gcc", "libc6-dev"])?;
    let words = format!("build --quiet --profile quick --target {TARGET} -p rumpvm-guest");
    let mut build = step::cargo(&workspace::root(), &words);
    build.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    step::run("guests in Rust", &mut build)?;
    Ok(workspace::metadata()?.target_directory.join(TARGET).join("quick").into())
}

/// The program `name`, built with `library`.
pub fn built(name: &str, library: Library) -> Result<PathBuf> {
    debian::need(&["gcc", "libc6-dev", "musl-tools"])?;
    let folder = folder()?;
    fs::create_dir_all(&folder)?;
    let source = workspace::root().join("harness/guest").join(name).with_extension("c");
    let program = folder.join(format!("{name}.{}", library.name()));
    let [compiler, flag] = library.compiler();
    let mut command = Command::new(compiler);
    command.args(["-static", flag, "-O1", "-Wall", "-Werror", "-o"]).arg(&program).arg(&source);
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{compiler} does not build {}", source.display());
    }
    Ok(program)
}
