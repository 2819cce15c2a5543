//! `rumpvm lib`: the library for other kernels.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use rumpvm_boot::library;

use super::output;

#[derive(Args)]
pub(super) struct LibArgs {
    /// What the kernel runs on.
    #[arg(long, value_enum, default_value_t = Target::X86_64)]
    target: Target,
    /// Where to put it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Long mode, four levels of page tables.
    #[value(name = "x86_64")]
    X86_64,
    /// Protected mode, the classic two levels.
    #[value(name = "i386")]
    I386,
    /// Protected mode, PAE: three levels, and no-execute.
    #[value(name = "i386-pae")]
    I386Pae,
}

/// Builds it.
pub(super) fn lib(arguments: &LibArgs) -> Result<u8> {
    let target = match arguments.target {
        Target::X86_64 => library::Target::X86_64,
        Target::I386 => library::Target::I386,
        Target::I386Pae => library::Target::I386Pae,
    };
    let made = library::build(target, &arguments.out)?;
    for file in [&made.object, &made.archive, &made.header] {
        output::say(file.display())?;
    }
    Ok(0)
}
