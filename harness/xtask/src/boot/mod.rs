//! The boot image in an emulator: every kind of machine that it should start on, and what runs there.
//!
//! Each run has its own limit of time. What the machine says is shown when it ends in any other way than it should;
//! otherwise its last line is.

mod command;
mod linux;
mod terminal;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::image::{self, Profile};
use crate::{debian, disc, step, workspace};

/// Where the image comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Medium {
    /// QEMU puts it into memory: PVH.
    Kernel,
    /// GRUB reads it from a disc: Multiboot.
    Disc,
}

/// One machine, and what runs on it.
struct Run {
    medium: Medium,
    /// Machine type, with its properties.
    machine: &'static str,
    /// CPU: what it can do.
    cpu: &'static str,
    /// How many there are.
    cpus: u32,
    /// How much memory. It may be more than the host has: what the image does not touch is never there.
    memory: &'static str,
    /// It has a disk.
    disk: bool,
    /// The image's command line.
    words: &'static str,
    /// Exit status of the image.
    status: i32,
}

const fn on(machine: &'static str, cpu: &'static str, cpus: u32, memory: &'static str) -> Run {
    let medium = Medium::Kernel;
    Run { medium, machine, cpu, cpus, memory, disk: false, words: "cases", status: 0 }
}

impl Run {
    fn title(&self) -> String {
        let Self { machine, cpu, cpus, memory, words, .. } = self;
        let from = if self.medium == Medium::Disc { " from a disc" } else { "" };
        format!("boot {machine} -cpu {cpu} -smp {cpus} -m {memory}{from}: {words}")
    }
}

/// Without the chips of 1981.
const SMALLEST: &str = "microvm,pic=off,pit=off,rtc=off";

/// `max` can do all that QEMU can; `qemu64` is of 2003 and has neither x2APIC, pages of 1 GiB, SMEP nor SMAP.
const RUNS: [Run; 18] = [
    on("pc", "max", 1, "64M"),
    on("pc", "max", 2, "64M"),
    on("q35", "max", 4, "128M"),
    on("pc", "qemu64", 1, "20M"),
    Run { words: "ring3", ..on("pc", "max", 1, "64M") },
    Run { words: "ring3", ..on("q35", "max", 4, "64M") },
    Run { words: "ring3", ..on("pc", "qemu64", 2, "64M") },
    Run { words: "ring3", ..on("microvm", "max", 2, "64M") },
    Run { words: "ring3", ..on(SMALLEST, "qemu64", 1, "64M") },
    Run { words: "ring3", ..on("q35", "max", 2, "64G") },
    Run { words: "ring3", medium: Medium::Disc, ..on("pc", "max", 2, "64M") },
    Run { words: "storm", ..on("pc", "max", 1, "64M") },
    Run { words: "storm", ..on("q35", "max", 2, "128M") },
    Run { words: "disk", disk: true, ..on("pc", "qemu64", 1, "32M") },
    Run { words: "disk", disk: true, ..on("q35", "max", 2, "64M") },
    Run { words: "panic", status: 101, ..on("pc", "max", 2, "32M") },
    Run { words: "overflow", status: 101, ..on("q35", "qemu64", 2, "32M") },
    Run { words: "nothing", status: 2, ..on("pc", "max", 2, "32M") },
];

/// A busy machine without hardware's help takes one minute for all cases.
const LIMIT: Duration = Duration::from_secs(600);

/// Bytes of a disk.
const DISK: u64 = 4 << 20;

/// Builds the image and boots it on each machine; only those runs whose title contains `only`.
pub(crate) fn run(only: &str) -> Result<()> {
    let image = image::build(Profile::Checked)?;
    debian::need(&["qemu-system-x86"])?;
    for run in RUNS.iter().filter(|run| run.title().contains(only)) {
        match run.medium {
            Medium::Kernel => boot(&image, run)?,
            Medium::Disc => {
                let place = disc::usual_place()?;
                let contents = disc::Contents { image: &image, words: run.words, ramdisk: None };
                disc::make(&place, &contents)?;
                boot(&place, run)?;
            }
        }
    }
    linux::run(&image, only)?;
    command::run(&image, only)
}

fn boot(image: &Path, run: &Run) -> Result<()> {
    let title = run.title();
    step::say(&title);
    let started = Instant::now();
    let mut command = command(image, run);
    if run.disk {
        give_disk(&mut command)?;
    }
    let (status, said) = step::within(LIMIT, &mut command)?;
    if status != Some(exit_status(run.status)) {
        let how = match status {
            Some(status) => format!("ended with {status}"),
            None => format!("did not end within {} s", LIMIT.as_secs()),
        };
        bail!("{said}\n{title}: QEMU {how}; as a command: {}", spell(&command));
    }
    let last = said.lines().last().unwrap_or_default();
    step::say(format_args!("{title}: done in {:.1} s: {last}", started.elapsed().as_secs_f64()));
    Ok(())
}

/// What QEMU exits with when the image does with `status`: its debug device doubles and adds one.
fn exit_status(status: i32) -> i32 {
    if status == 0 { 0 } else { status << 1 | 1 }
}

fn command(image: &Path, run: &Run) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    let memory = format!("memory-backend-ram,id=ram,size={},reserve=off", run.memory);
    command.args(["-machine", &format!("{},memory-backend=ram", run.machine)]);
    command.args(["-object", &memory, "-m", run.memory, "-cpu", run.cpu]);
    command.args(["-smp", &run.cpus.to_string()]);
    match run.medium {
        Medium::Kernel => command.arg("-kernel").arg(image).args(["-append", run.words]),
        Medium::Disc => command.arg("-cdrom").arg(image),
    };
    command.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    command
}

/// Gives the machine a disk full of zeros.
fn give_disk(command: &mut Command) -> Result<()> {
    let disk = workspace::metadata()?.target_directory.join("rumpvm-disk.img");
    let file = File::create(&disk).with_context(|| format!("cannot make {disk}"))?;
    file.set_len(DISK).with_context(|| format!("cannot lengthen {disk}"))?;
    command.args(["-drive", &format!("file={disk},format=raw,if=none,id=disk")]);
    command.args(["-device", "virtio-blk-pci,drive=disk"]);
    Ok(())
}

/// The command as one types it.
fn spell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}
