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
    /// How much of rumpvm is in it.
    #[arg(long, value_enum, default_value_t = Layer::All)]
    layer: Layer,
    /// Tells the kernel's `panic` of blocks freed twice, written beyond their end or after they were freed.
    #[arg(long)]
    debug: bool,
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

#[derive(Clone, Copy, ValueEnum)]
enum Layer {
    /// Frames alone.
    Frames,
    /// Frames, kernel mappings, and an allocator.
    Memory,
    /// Page tables under the kernel's own map: pmap(9).
    Pmap,
    /// Everything but processes.
    Spaces,
    /// Everything.
    All,
}

/// Builds it.
pub(super) fn lib(arguments: &LibArgs) -> Result<u8> {
    let target = match arguments.target {
        Target::X86_64 => library::Target::X86_64,
        Target::I386 => library::Target::I386,
        Target::I386Pae => library::Target::I386Pae,
    };
    let layer = match arguments.layer {
        Layer::Frames => library::Layer::Frames,
        Layer::Memory => library::Layer::Memory,
        Layer::Pmap => library::Layer::Pmap,
        Layer::Spaces => library::Layer::Spaces,
        Layer::All => library::Layer::All,
    };
    let misuse = match arguments.debug {
        false => library::Misuse::Undefined,
        true => library::Misuse::Told,
    };
    let made = library::build(target, layer, misuse, &arguments.out)?;
    for file in [&made.object, &made.archive, &made.header] {
        output::say(file.display())?;
    }
    Ok(0)
}
