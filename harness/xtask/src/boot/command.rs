//! `rumpvm boot` itself, as it is typed: what it exits with, what it shows, and what is on the disks afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rumpvm_boot::guests;

use super::terminal;
use crate::{step, workspace};

/// A promise of the command, and what tries it.
type Trial = (&'static str, fn(&Path) -> Result<()>);

const TRIALS: [Trial; 5] = [
    ("a shell at a terminal, with an editor and jobs", terminal::session),
    ("a program reads and writes the files that are its disks", disks),
    ("a panic is told, and is status 101", panic),
    ("a program that takes too long is status 124", time),
    ("a disk that is not there is named", no_disk),
];

/// Tries them with `image`; only those whose title contains `only`.
pub(super) fn run(image: &Path, only: &str) -> Result<()> {
    // With the features that the whole workspace asks for, as its tests have built it.
    let build = "build --quiet --workspace --bin rumpvm";
    step::run("rumpvm", &mut step::cargo(&workspace::root(), build))?;
    for (promise, trial) in TRIALS {
        let title = format!("rumpvm boot: {promise}");
        if title.contains(only) {
            let started = Instant::now();
            trial(image).with_context(|| title.clone())?;
            step::say(format_args!("{title}: done in {:.1} s", started.elapsed().as_secs_f64()));
        }
    }
    Ok(())
}

/// `rumpvm boot OPTIONS -- PROGRAM`.
pub(super) fn boot(image: &Path, options: &[&str], program: &[&str]) -> Result<Command> {
    let mut command = Command::new(workspace::metadata()?.target_directory.join("debug/rumpvm"));
    command.args(["boot", "--quiet", "--image"]).arg(image).args(options).arg("--").args(program);
    Ok(command)
}

/// The same, to its end, with nothing to read.
fn outcome(image: &Path, options: &[&str], program: &[&str]) -> Result<Output> {
    let mut command = boot(image, options, program)?;
    command.stdin(Stdio::null());
    command.output().with_context(|| format!("cannot start {command:?}"))
}

/// Fails with all that was said, unless it ended with `status`.
fn expect(output: &Output, status: i32) -> Result<()> {
    if output.status.code() == Some(status) {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    bail!("{}, not {status}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Bytes of a disk.
const DISK: usize = 1 << 20;

/// `harness/guest/disk.c` says what it finds and what it leaves.
fn disks(image: &Path) -> Result<()> {
    guests::in_c()?;
    // The comma because it means something to QEMU.
    let file = |name: &str| -> Result<PathBuf> { Ok(guests::folder()?.join(name)) };
    let (first, second) = (file("first,of.two")?, file("second.of.two")?);
    let mut expected: Vec<u8> = (0..DISK).map(|at| (at % 251) as u8).collect();
    fs::write(&first, &expected)?;
    fs::write(&second, vec![0; DISK])?;
    let program = file("disk.musl")?;
    let path = |path: &Path| path.display().to_string();
    let (program, disks) = (path(&program), [path(&first), path(&second)]);
    let options = ["--check", "--add", &program, "--disk", &disks[0], "--disk", &disks[1]];
    expect(&outcome(image, &options, &["/bin/disk.musl"])?, 0)?;
    expected[505..523].copy_from_slice(b"across two sectors");
    expected[70_001..170_001].fill(0xaa);
    expected[300_000..300_700].fill(0x55);
    expected[DISK - 3..].copy_from_slice(b"abc");
    ensure!(fs::read(&first)? == expected, "{} is not as it was left", first.display());
    ensure!(fs::read(&second)? == expected, "{} is not the first's copy", second.display());
    Ok(())
}

fn panic(image: &Path) -> Result<()> {
    let script = "echo before; echo c > /proc/sysrq-trigger; echo after";
    let output = outcome(image, &["--cpus", "2"], &["/bin/sh", "-c", script])?;
    expect(&output, 101)?;
    ensure!(output.stdout == b"before\n", "the program went on");
    let story = String::from_utf8_lossy(&output.stderr);
    for part in ["rumpvm: panic on CPU", "asked for by /proc/sysrq-trigger", "called from 0x"] {
        ensure!(story.contains(part), "`{part}` is missing in the story: {story}");
    }
    Ok(())
}

fn time(image: &Path) -> Result<()> {
    expect(&outcome(image, &["--timeout", "2s"], &["/bin/sleep", "1000"])?, 124)
}

fn no_disk(image: &Path) -> Result<()> {
    let output = outcome(image, &["--disk", "/no/such/disk"], &["/bin/true"])?;
    ensure!(!output.status.success(), "it ran without");
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("/no/such/disk"), "it does not say which: {said}");
    Ok(())
}
