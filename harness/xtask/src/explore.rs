//! `cargo xtask explore`: every scenario, in the short form that `test` runs, or for a night.
//!
//! Flow: release build -> `rumpvm explore` over all scenarios -> its exit status.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::{step, workspace};

/// What the short form runs of each scenario, in each memory order. Some ten million schedules in all, because the
/// small ones about locks are ten points long; two or three minutes on two processors.
const SHORT: &str = "--points 5000000";

/// What a night is for: a billion points of each scenario, and all schedules with two preemptions of those that have at
/// most sixty.
const NIGHT: &str = "--points 1000000000 --short 60";

#[derive(Args)]
pub(crate) struct Arguments {
    /// A billion points of each scenario, and every schedule with two preemptions of the short ones.
    #[arg(long)]
    nightly: bool,

    /// What random choices follow from; another one each night finds more.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
}

/// Builds the explorer and lets it run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = workspace::root();
    step::run("release build", &mut step::cargo(&root, "build --release -p rumpvm-harness"))?;
    short_or_long(if arguments.nightly { NIGHT } else { SHORT }, arguments.seed)
}

/// The short form, with a program that has been built.
pub(crate) fn short() -> Result<()> {
    short_or_long(SHORT, 1)
}

fn short_or_long(depth: &str, seed: u64) -> Result<()> {
    let program = workspace::metadata()?.target_directory.join("release/rumpvm");
    let words = format!("explore {depth} --seed {seed}");
    step::run(&format!("rumpvm {words}"), Command::new(program).args(words.split_whitespace()))
}
