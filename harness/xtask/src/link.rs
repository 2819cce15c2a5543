//! The library for other kernels, linked with hosts in C (`tests/link`): each is built as C and as C++,
//! and run.
//!
//! A host checks by itself, says what it saw, and exits with 0 only if a counter of the component says that its code ran.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::library::{self, Library};
use crate::{debian, step, workspace};

/// A compiler, and how it is told what to compile.
struct Language {
    name: &'static str,
    compiler: &'static str,
    words: &'static [&'static str],
}

const LANGUAGES: [Language; 2] = [
    Language { name: "C", compiler: "gcc", words: &["-std=c11", "-Wstrict-prototypes"] },
    Language { name: "C++", compiler: "g++", words: &["-std=c++11", "-xc++"] },
];

/// The object stands at a fixed place, so the program does too.
const WORDS: [&str; 8] =
    ["-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fno-pie", "-pthread"];

/// The hosts that are programs.
const HOSTS: [&str; 2] = ["hosted", "cpus"];

/// Far more than a host takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Builds the library and runs every host.
pub(crate) fn run() -> Result<()> {
    debian::need(&["gcc", "g++", "libc6-dev"])?;
    let folder = PathBuf::from(workspace::metadata()?.target_directory).join("lib");
    let library = library::build(&folder)?;
    for host in HOSTS {
        for language in &LANGUAGES {
            run_host(host, language, &library, &folder)?;
        }
    }
    Ok(())
}

/// A program that pretends to be a kernel.
fn run_host(host: &str, language: &Language, library: &Library, folder: &Path) -> Result<()> {
    let program = folder.join(format!("{host}-{}", language.compiler));
    let source = workspace::root().join(format!("tests/link/{host}.c"));
    let mut compile = Command::new(language.compiler);
    compile.args(WORDS).args(language.words).arg(format!("-I{}", folder.display())).arg(source);
    // As an archive for the one and an object for the other, so that both are tried.
    match language.name {
        "C" => compile.args(["-xnone", "-no-pie"]).arg(&library.object),
        _ => compile.args(["-xnone", "-no-pie", "-lrumpvm"]).arg(format!("-L{}", folder.display())),
    };
    step::run(&format!("{host}.c as {}", language.name), compile.arg("-o").arg(&program))?;
    let (status, said) = step::within(LIMIT, &mut Command::new(&program))?;
    print!("{said}");
    match status {
        Some(0) => Ok(()),
        Some(status) => bail!("{} ended with {status}", program.display()),
        None => bail!("{} did not end", program.display()),
    }
}
