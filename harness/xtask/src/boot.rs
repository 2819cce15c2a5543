//! The boot image in an emulator: every kind of machine that it should start on, and what runs there.
//!
//! Each run has its own limit of time. What the machine says is shown when it ends in any other way than it should;
//! otherwise its last line is.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{bare, debian};

/// One machine, and what runs on it.
struct Run {
    /// Machine type, with its properties.
    machine: &'static str,
    /// CPU: what it can do.
    cpu: &'static str,
    /// How many there are.
    cpus: u32,
    /// How much memory.
    memory: &'static str,
    /// The image's command line.
    words: &'static str,
    /// Exit status of the image.
    status: i32,
}

const fn run_of(machine: &'static str, cpu: &'static str, cpus: u32, memory: &'static str) -> Run {
    Run { machine, cpu, cpus, memory, words: "cases", status: 0 }
}

/// `max` can do all that QEMU can; `qemu64` is of 2003 and has neither x2APIC, large pages of 1 GiB, SMEP nor SMAP.
const RUNS: [Run; 7] = [
    run_of("pc", "max", 1, "128M"),
    run_of("pc", "max", 2, "128M"),
    run_of("q35", "max", 4, "256M"),
    run_of("pc", "qemu64", 2, "16M"),
    Run { words: "cases anon", ..run_of("microvm", "max", 2, "64M") },
    Run { words: "cases anon", ..run_of("microvm,pic=off,pit=off,rtc=off", "qemu64", 1, "64M") },
    Run { words: "nothing", status: 2, ..run_of("pc", "max", 2, "32M") },
];

/// A busy machine without hardware's help takes one minute for all cases.
const LIMIT: Duration = Duration::from_secs(600);

/// Builds the image and boots it on each machine.
pub(crate) fn run() -> Result<()> {
    let image = bare::build()?;
    debian::need(&["qemu-system-x86"])?;
    for run in &RUNS {
        boot(&image, run)?;
    }
    Ok(())
}

fn boot(image: &Path, run: &Run) -> Result<()> {
    let title = format!(
        "boot {} -cpu {} -smp {} -m {}: {}",
        run.machine, run.cpu, run.cpus, run.memory, run.words
    );
    println!("xtask: {title}");
    let started = Instant::now();
    let (status, said) = watch(&mut command(image, run))?;
    if status != Some(exit_status(run.status)) {
        let how = match status {
            Some(status) => format!("ended with {status}"),
            None => format!("did not end within {} s", LIMIT.as_secs()),
        };
        bail!("{said}\n{title}: QEMU {how}; as a command: {}", words(image, run));
    }
    let last = said.lines().last().unwrap_or_default();
    println!("xtask: {title}: done in {:.1} s: {last}", started.elapsed().as_secs_f64());
    Ok(())
}

/// What QEMU exits with when the image does with `status`: its debug device doubles and adds one.
fn exit_status(status: i32) -> i32 {
    if status == 0 { 0 } else { status << 1 | 1 }
}

fn command(image: &Path, run: &Run) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-machine", run.machine, "-cpu", run.cpu, "-m", run.memory]);
    command.args(["-smp", &run.cpus.to_string()]);
    command.arg("-kernel").arg(image).args(["-append", run.words]);
    command.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    command
}

fn words(image: &Path, run: &Run) -> String {
    let command = command(image, run);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// Runs `command` until it ends, or for so long; returns its exit status and what it said.
fn watch(command: &mut Command) -> Result<(Option<i32>, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut output = child.stdout.take().context("its output is a pipe")?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let end = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status.code(),
            None if Instant::now() > end => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            None => thread::sleep(Duration::from_millis(50)),
        }
    };
    Ok((status, reader.join().unwrap_or_default()))
}
