//! The library for other kernels, linked with hosts in C (`tests/link`): programs that pretend to be kernels, each as C
//! and as C++, and a kernel for each of the library's targets, in QEMU.
//!
//! A host checks by itself, says what it saw, and exits as it should only if a counter of the component says that its code
//! ran. Two kernels have page tables that are not their library's, and must be refused.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::library::{self, Layer, Library, Misuse, Target};
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

/// The hosts that are programs, on x86-64, by what they are linked with. Smaller libraries have one that needs no more.
const HOSTS: [((Layer, Misuse), &[&str]); 4] = [
    (
        (Layer::All, Misuse::Undefined),
        &["hosted", "calls", "cpus", "processes", "preempted", "heap"],
    ),
    ((Layer::Spaces, Misuse::Undefined), &["calls"]),
    ((Layer::Memory, Misuse::Undefined), &["heap"]),
    ((Layer::Memory, Misuse::Told), &["heap", "misuse"]),
];

/// Far more than a host takes.
const LIMIT: Duration = Duration::from_secs(60);

/// What a kernel is compiled with: nothing that needs a libc, the FPU, or a stack below the stack pointer.
const KERNEL_WORDS: &str = "-O1 -Wall -Wextra -Wpedantic -Werror -std=c11 -ffreestanding -fno-pie -mgeneral-regs-only \
     -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -c";

/// A PC; the last device ends QEMU with an exit status.
const MACHINE: &str = "-M pc -cpu max -m 64M -display none -no-reboot -serial stdio \
     -device isa-debug-exit,iobase=0xf4,iosize=4";

/// What all kernels have.
const KERNEL: [&str; 2] = ["kernel.c", "boot.c"];

/// Who keeps a kernel's spaces: rumpvm, or the kernel itself, over rumpvm's page tables.
const SPACES: [(Layer, &str); 2] = [(Layer::All, "space_map.c"), (Layer::Pmap, "space_pmap.c")];

/// A kernel.
struct Kernel {
    name: &'static str,
    target: Target,
    /// Its own files.
    sources: &'static [&'static str],
    /// For the compiler, besides what all have.
    words: &'static str,
    /// What `ld` calls its machine, and where it sees physical address 0.
    linked: (&'static str, &'static str),
    /// The emulator, with the machine's CPUs.
    emulator: (&'static str, &'static str),
    /// What rumpvm says when it refuses this kernel, whose tables are not as its own; nothing if it does not.
    refused: &'static str,
}

const LONG: Kernel = Kernel {
    name: "kernel",
    target: Target::X86_64,
    sources: &["kernel.S", "machine64.c"],
    words: "-mcmodel=kernel -mno-red-zone",
    linked: ("elf_x86_64", "0xffffffff80000000"),
    emulator: ("qemu-system-x86_64", "2"),
    refused: "",
};

const PROTECTED: Kernel = Kernel {
    name: "kernel-i386",
    target: Target::I386,
    sources: &["kernel32.S", "machine32.c"],
    words: "-m32 -march=i586",
    linked: ("elf_i386", "0xc0000000"),
    emulator: ("qemu-system-i386", "1"),
    refused: "",
};

/// Where a file offers both ways to start, QEMU takes Multiboot; so one has no header of that.
const KERNELS: [Kernel; 7] = [
    LONG,
    Kernel { name: "kernel-pvh", words: "-mcmodel=kernel -mno-red-zone -DPVH_ONLY", ..LONG },
    PROTECTED,
    Kernel {
        name: "kernel-i386-pae",
        target: Target::I386Pae,
        words: "-m32 -march=i586 -DPAE",
        ..PROTECTED
    },
    Kernel {
        name: "kernel-i386-pae-registers",
        target: Target::I386Pae,
        words: "-m32 -march=i586 -DPAE -DREGISTERS",
        ..PROTECTED
    },
    Kernel {
        name: "kernel-i386-pae-without",
        words: "-m32 -march=i586 -DPAE",
        refused: "CR4.PAE is on: link the library for i386-pae",
        ..PROTECTED
    },
    Kernel {
        name: "kernel-i386-with-pae",
        target: Target::I386Pae,
        refused: "CR4.PAE is off: link the library for i386",
        ..PROTECTED
    },
];

/// QEMU's exit status when the kernel has written 16 to that device.
const WELL: i32 = 33;
/// And when it has written 2, since rumpvm has called its panic.
const BADLY: i32 = 5;

/// Builds the library and runs every host.
pub(crate) fn run() -> Result<()> {
    debian::need(&["gcc", "g++", "libc6-dev", "qemu-system-x86"])?;
    for ((layer, misuse), hosts) in HOSTS {
        let folder = folder(Target::X86_64, layer, misuse)?;
        let library = library::build(Target::X86_64, layer, misuse, &folder)?;
        for host in hosts {
            for language in &LANGUAGES {
                run_host(host, language, &library, &folder)?;
            }
        }
    }
    for (target, (layer, spaces)) in below_kernels() {
        let folder = folder(target, layer, Misuse::Undefined)?;
        let library = library::build(target, layer, Misuse::Undefined, &folder)?;
        let most = if layer == Layer::All { KERNELS.len() } else { 1 };
        for kernel in KERNELS.iter().filter(|kernel| kernel.target == target).take(most) {
            run_kernel(kernel, spaces, &library, &folder)?;
        }
    }
    Ok(())
}

/// Where a library goes.
fn folder(target: Target, layer: Layer, misuse: Misuse) -> Result<PathBuf> {
    let products = PathBuf::from(workspace::metadata()?.target_directory);
    let ending = if misuse == Misuse::Told { "-debug" } else { "" };
    Ok(products.join("lib").join(target.name()).join(format!("{}{ending}", layer.name())))
}

/// What kernels are linked with: for each target everything, and page tables alone.
fn below_kernels() -> impl Iterator<Item = (Target, (Layer, &'static str))> {
    let targets = [Target::X86_64, Target::I386, Target::I386Pae];
    targets.into_iter().flat_map(|target| SPACES.map(|spaces| (target, spaces)))
}

/// Text, data and bss of the library for x86-64 with each layer; fails where a budget is passed.
pub(crate) fn sizes() -> Result<()> {
    let mut table =
        String::from("| layer | text | data | bss | budget of text |\n|---|---|---|---|---|\n");
    for layer in Layer::EACH {
        let folder = folder(Target::X86_64, layer, Misuse::Undefined)?;
        let library = library::build(Target::X86_64, layer, Misuse::Undefined, &folder)?;
        // Constants count as data.
        let [(_, text), (_, constants), (_, data), (_, bss)] = library.sizes;
        let row = format!(
            "| {} | {} | {} | {} | {} |\n",
            layer.name(),
            kib(text),
            kib(constants + data),
            kib(bss),
            kib(layer.budget()),
        );
        table.push_str(&row);
    }
    print!("{table}");
    Ok(())
}

fn kib(bytes: u64) -> String {
    format!("{:.1} KiB", bytes as f64 / 1024.0)
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

/// A kernel that leaves its virtual memory to rumpvm, or its page tables.
fn run_kernel(kernel: &Kernel, spaces: &str, library: &Library, folder: &Path) -> Result<()> {
    let sources = workspace::root().join("tests/link");
    let image = folder.join(kernel.name);
    let (machine, base) = kernel.linked;
    let mut link = Command::new("ld");
    link.args(["-m", machine, &format!("--defsym=IMAGE={base}")]);
    link.args(["-nostdlib", "-static", "-znoexecstack", "--no-warn-rwx-segments", "-T"]);
    link.arg(sources.join("kernel.ld")).arg("-o").arg(&image);
    for source in kernel.sources.iter().chain(&KERNEL).chain([&spaces]) {
        let object = folder.join(format!("{}-{source}.o", kernel.name));
        let mut compile = Command::new("gcc");
        compile.args(KERNEL_WORDS.split_whitespace()).args(kernel.words.split_whitespace());
        compile.arg(format!("-I{}", folder.display())).arg(sources.join(source));
        step::run(source, compile.arg("-o").arg(&object))?;
        link.arg(object);
    }
    step::run(kernel.name, link.arg(&library.object))?;
    let (emulator, cpus) = kernel.emulator;
    let mut machine = Command::new(emulator);
    machine.args(MACHINE.split_whitespace()).args(["-smp", cpus]).arg("-kernel").arg(&image);
    let (status, said) = step::within(LIMIT, &mut machine)?;
    print!("{said}");
    let expected = if kernel.refused.is_empty() { WELL } else { BADLY };
    match status {
        Some(status) if status == expected && said.contains(kernel.refused) => Ok(()),
        Some(status) => bail!("{}: QEMU ended with {status}", kernel.name),
        None => bail!("{} did not end", kernel.name),
    }
}
