//! `rumpvm boot`: a Linux program on bare metal, as if it ran here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use rumpvm_boot::emulator::{self, Settings};
use rumpvm_boot::hardware::Hardware;
use rumpvm_boot::image::{self, Profile};
use rumpvm_boot::ramdisk;

use crate::values;

#[derive(Args)]
pub(super) struct BootArgs {
    /// Memory of the machine: 16M, 128M, 64G...
    #[arg(long, default_value = "128M", value_parser = values::memory, value_name = "SIZE")]
    memory: u64,

    /// CPUs of the machine.
    #[arg(long, default_value = "1", value_parser = values::cpus(), value_name = "N")]
    cpus: usize,

    /// What the programs find: a folder, or a cpio archive; without it, the host's busybox.
    #[arg(long, value_name = "DIR|CPIO")]
    initrd: Option<PathBuf>,

    /// A program of the host's, put beside busybox as /bin/NAME. Can be said several times.
    #[arg(long, conflicts_with = "initrd", value_name = "FILE")]
    add: Vec<PathBuf>,

    /// A file that the machine sees as a disk: /dev/vda, the next one /dev/vdb. Can be said several times.
    #[arg(long, value_name = "FILE")]
    disk: Vec<PathBuf>,

    /// Refused: nothing is swapped out yet.
    #[arg(long = "swap", hide = true, value_parser = values::swap, value_name = "SIZE")]
    _swap: Option<u64>,

    /// A boot image that was built before, as `rumpvm image` does; without it, it is built now.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,

    /// Time is counted in instructions, and nothing is left to chance: runs are alike.
    #[arg(long)]
    icount: bool,

    /// Do not show the kernel's log, unless it panics.
    #[arg(long)]
    quiet: bool,

    /// Check every invariant when the program has ended.
    #[arg(long)]
    check: bool,

    /// End with status 124 after so long: 30s, 2m...
    #[arg(long, value_parser = values::time, value_name = "TIME")]
    timeout: Option<Duration>,

    /// The program, by its path in the machine, and its words; without, a shell to type at.
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// Runs it; the program's exit status.
pub(super) fn boot(arguments: &BootArgs) -> Result<u8> {
    for disk in &arguments.disk {
        is_there(disk)?;
    }
    let image = match &arguments.image {
        Some(image) => is_there(image)?.to_path_buf(),
        None => image::build(Profile::Quick)?,
    };
    let ramdisk = ramdisk(arguments)?;
    let memory = format!("{}K", arguments.memory.div_ceil(1024));
    let outcome = emulator::run(&Settings {
        image: &image,
        ramdisk: &ramdisk,
        program: &arguments.program,
        hardware: Hardware {
            machine: ("q35", "max"),
            memory: &memory,
            cpus: arguments.cpus,
            counts_instructions: arguments.icount,
        },
        disks: &arguments.disk,
        quiet: arguments.quiet,
        limit: arguments.timeout,
        words: if arguments.check { "check" } else { "" },
        captured: None,
    })?;
    Ok(outcome.status)
}

fn ramdisk(arguments: &BootArgs) -> Result<PathBuf> {
    match &arguments.initrd {
        None => ramdisk::of_busybox(&arguments.add),
        Some(path) if path.is_dir() => ramdisk::of_folder(path),
        Some(path) => Ok(is_there(path)?.to_path_buf()),
    }
}

fn is_there(path: &Path) -> Result<&Path> {
    path.metadata().with_context(|| format!("cannot find {}", path.display()))?;
    Ok(path)
}
