//! `cargo xtask bench`: what the component costs, beside its budgets and its peers.
//!
//! The measuring is a program of its own, `harness/bench`, so that the peers' crates are no business of any other.

pub(crate) mod guest;
mod locks;

use std::process::Command;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{debian, step, workspace};

/// What to measure.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Only rows with this in their name, as in `baseline.txt` of harness/bench.
    row: Option<String>,
    /// Compare instructions with the baseline; fail if one is more than 3 % away.
    #[arg(long, conflicts_with_all = ["bless", "profile", "row"])]
    check: bool,
    /// Make the instructions of today the baseline.
    #[arg(long, conflicts_with_all = ["profile", "row"])]
    bless: bool,
    /// What a program pays its kernel, here and on Linux, in the same emulator.
    #[arg(long, conflicts_with_all = ["check", "bless", "profile", "row"])]
    guest: bool,
    /// Where the instructions go, by file and line.
    #[arg(long, requires = "row")]
    profile: bool,
}

#[derive(Subcommand)]
enum Part {
    /// Locks that nobody else wants, in instructions; fails where one is over its budget.
    Locks,
    /// Allocation traces of real programs, on the kernel heap and on other allocators, on one CPU and on two.
    Heap,
}

/// Measures what `arguments` say; everything by default.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match arguments.part {
        Some(Part::Locks) => return locks::run(),
        Some(Part::Heap) => return measure(&["heap"]),
        None => {}
    }
    if arguments.guest {
        return guest::run();
    }
    let row = arguments.row.as_deref();
    let words: &[&str] = match (arguments, row) {
        (Arguments { check: true, .. }, _) => &["check"],
        (Arguments { bless: true, .. }, _) => &["bless"],
        (Arguments { profile: true, .. }, Some(row)) => &["profile", row],
        (_, Some(row)) => &["all", row],
        (_, None) => &["all"],
    };
    measure(words)
}

/// What CI runs: the locks' budgets, and instructions against the baseline.
pub(crate) fn check() -> Result<()> {
    locks::run()?;
    measure(&["check"])
}

fn measure(words: &[&str]) -> Result<()> {
    debian::need(&["valgrind"])?;
    let build = "build --release -p rumpvm-bench";
    step::run("benchmark build", &mut step::cargo(&workspace::root(), build))?;
    let program = workspace::metadata()?.target_directory.join("release/rumpvm-bench");
    step::run("benchmark", Command::new(program).args(words))
}
