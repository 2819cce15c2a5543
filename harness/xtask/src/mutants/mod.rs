//! `cargo xtask mutants`: whether the tests would notice if the code were wrong.

mod ordinary;
mod survivors;

use anyhow::{Result, bail};
use clap::Args;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Small changes that cargo-mutants makes, against the ordinary tests.
    #[arg(long)]
    ordinary: bool,
    /// Only every Nth of them, beginning with number K, from 0: a full run takes hours.
    #[arg(long, value_name = "K/N", requires = "ordinary")]
    shard: Option<String>,
}

/// Runs the mutants that the arguments name.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.ordinary {
        bail!("name the mutants to run: --ordinary");
    }
    ordinary::run(arguments.shard.as_deref())
}
