//! `cargo xtask test`: everything that can fail on a machine without special hardware.
//!
//! Nine stages: the tests of every crate; a short run of each fuzzer; the small primitives under loom; the component
//! and the boot image for bare metal; that image in an emulator; hosts in C, linked with the library, and its sizes; what it costs,
//! against the baseline; every scenario of the explorer; and the command line as a user would type it, in release mode,
//! each run ending with `check`.

use std::process::Command;

use anyhow::Result;

use crate::{bench, boot, explore, fuzz, link, step, workspace};

/// The runs of the command line. Each exits with 0 only if `check` passed at its end, or nothing differed from this
/// host's Linux. Seeds are fixed, so that what fails here fails again at the next desk.
const RUNS: [&str; 7] = [
    "differ --ops 2000000 --seed 1",
    "run tuxload --cpus 2 --seed 1 --time 3s",
    "run bulkbuild --cpus 2 --seed 1 --time 5s",
    "run bigbuffer --cpus 2 --seed 1 --time 3s",
    "run server --cpus 2 --seed 1 --time 3s",
    "run mapstorm --cpus 2 --seed 1 --time 5s",
    "run mapstorm --cpus 1 --memory 16M --seed 2 --time 3s --json",
];

/// Runs every test.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    step::run("tests", &mut step::cargo(&root, "test --workspace"))?;
    fuzz::short()?;
    primitives()?;
    boot::run("")?;
    link::run()?;
    link::sizes()?;
    bench::check()?;
    step::run("release build", &mut step::cargo(&root, "build --release -p rumpvm-harness"))?;
    explore::short()?;
    command_line()
}

/// The tests of `tests/loom`, which are empty without the flag. A folder of their own keeps the flag from
/// rebuilding everything else.
fn primitives() -> Result<()> {
    let folder = workspace::metadata()?.target_directory.join("loom");
    let words = "test --release -p rumpvm-loom -- --test-threads=1";
    let mut command = step::cargo(&workspace::root(), words);
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", folder);
    step::run("primitives under loom", &mut command)
}

fn command_line() -> Result<()> {
    let metadata = workspace::metadata()?;
    let program = metadata.target_directory.join("release/rumpvm");
    for run in RUNS {
        let mut command = Command::new(&program);
        step::run(&format!("rumpvm {run}"), command.args(run.split_whitespace()))?;
    }
    let report = metadata.target_directory.join("tour.html");
    step::run("tour", Command::new(&program).args(["tour", "--report", report.as_str()]))
}
