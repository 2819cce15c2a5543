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
    #[value(name = "x86_64")]
    X86_64,
}

/// Builds it.
pub(super) fn lib(arguments: &LibArgs) -> Result<u8> {
    let Target::X86_64 = arguments.target;
    let made = library::build(&arguments.out)?;
    for file in [&made.object, &made.archive, &made.header] {
        output::say(file.display())?;
    }
    Ok(0)
}
