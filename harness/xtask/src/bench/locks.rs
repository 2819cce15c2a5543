//! `cargo xtask bench locks`: what a lock costs that nobody else wants, in instructions.
//!
//! Instructions, not time, so that the answer is the same on every machine and at every moment: valgrind runs
//! the same loop a thousand and two thousand times, and the difference is a thousand rounds. What an empty
//! round takes is taken off.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{debian, step, workspace};

/// One way to take and give back a lock, and what it may cost.
struct Row {
    /// What `tests/lock_cost.rs` calls it.
    name: &'static str,
    /// Instructions that it may take.
    budget: Option<u64>,
}

const fn row(name: &'static str, budget: Option<u64>) -> Row {
    Row { name, budget }
}

/// The first two budgets are what the locks were designed for.
const ROWS: [Row; 10] = [
    row("spin", Some(25)),
    row("token", Some(60)),
    row("shared token", Some(60)),
    row("token and data", None),
    row("read", None),
    row("write", None),
    row("mutex", None),
    row("sleep lock", None),
    row("spin crate", None),
    row("std", None),
];

const ROUNDS: u64 = 1000;

/// Prints what each lock costs; fails if one is over its budget.
pub(crate) fn run() -> Result<()> {
    debian::need(&["valgrind"])?;
    let words = "build --release -p rumpvm-tests --example lock_cost";
    step::run("lock cost", &mut step::cargo(&workspace::root(), words))?;
    let program: PathBuf =
        workspace::metadata()?.target_directory.join("release/examples/lock_cost").into();
    let nothing = round(&program, "nothing")?;
    println!("{:<16} {:>12} {:>8}", "uncontended", "instructions", "at most");
    let mut over = Vec::new();
    for Row { name, budget } in ROWS {
        let cost = round(&program, name)?.saturating_sub(nothing);
        let at_most = budget.map_or(String::new(), |budget| budget.to_string());
        println!("{name:<16} {cost:>12} {at_most:>8}");
        if budget.is_some_and(|budget| cost > budget) {
            over.push(name);
        }
    }
    ensure!(over.is_empty(), "over the budget: {}", over.join(", "));
    Ok(())
}

/// Instructions of one round of `name`.
fn round(program: &Path, name: &str) -> Result<u64> {
    let (once, twice) = (count(program, name, ROUNDS)?, count(program, name, 2 * ROUNDS)?);
    // Start-up may differ by a few instructions (the environment's length, for one).
    Ok((twice.saturating_sub(once) + ROUNDS / 2) / ROUNDS)
}

/// Instructions of a whole run with `times` rounds of `name`.
fn count(program: &Path, name: &str, times: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    let output = command.arg(program).arg(name).arg(times.to_string()).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{command:?}: {told}");
    }
    let collected = told.lines().find_map(|line| line.split_once("Collected : "));
    let (_, number) = collected.with_context(|| format!("no count in what {command:?} says"))?;
    Ok(number.trim().parse()?)
}
