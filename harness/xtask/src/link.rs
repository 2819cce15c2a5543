//! The library for other kernels, linked with hosts in C (`tests/link`): programs that pretend to be kernels, each as C
//! and as C++, and a kernel, in QEMU.
//!
//! A host checks by itself, says what it saw, and exits as it should only if a counter of the component says that its code
//! ran.

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
const HOSTS: [&str; 6] = ["hosted", "calls", "cpus", "processes", "preempted", "heap"];

/// Far more than a host takes.
const LIMIT: Duration = Duration::from_secs(60);

/// What a kernel is compiled with: nothing that needs a libc, the FPU, or a stack below the stack pointer.
const KERNEL_WORDS: &str = "-O1 -Wall -Wextra -Wpedantic -Werror -std=c11 -ffreestanding -fno-pie -mcmodel=kernel \
     -mno-red-zone -mgeneral-regs-only -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -c";

/// A PC with two CPUs; the last device ends QEMU with an exit status.
const MACHINE: &str = "-M pc -cpu max -smp 2 -m 64M -display none -no-reboot -serial stdio \
     -device isa-debug-exit,iobase=0xf4,iosize=4";

/// QEMU's exit status when the kernel has written 16 to that device.
const WELL: i32 = 33;

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
    run_kernel(&library, &folder)
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

/// `kernel.c`: a kernel that leaves its virtual memory to rumpvm.
fn run_kernel(library: &Library, folder: &Path) -> Result<()> {
    debian::need(&["qemu-system-x86"])?;
    let sources = workspace::root().join("tests/link");
    let kernel = folder.join("kernel");
    let mut link = Command::new("ld");
    link.args(["-nostdlib", "-static", "-znoexecstack", "--no-warn-rwx-segments", "-T"]);
    link.arg(sources.join("kernel.ld")).arg("-o").arg(&kernel);
    for source in ["kernel.S", "kernel.c", "space_map.c"] {
        let object =
            folder.join(source).with_extension(if source.ends_with('S') { "S.o" } else { "o" });
        let mut compile = Command::new("gcc");
        compile.args(KERNEL_WORDS.split_whitespace()).arg(format!("-I{}", folder.display()));
        step::run(source, compile.arg(sources.join(source)).arg("-o").arg(&object))?;
        link.arg(object);
    }
    step::run("a kernel in C", link.arg(&library.object))?;
    let mut machine = Command::new("qemu-system-x86_64");
    machine.args(MACHINE.split_whitespace()).arg("-kernel").arg(&kernel);
    let (status, said) = step::within(LIMIT, &mut machine)?;
    print!("{said}");
    match status {
        Some(WELL) => Ok(()),
        Some(status) => bail!("QEMU ended with {status}"),
        None => bail!("the kernel did not end"),
    }
}
