//! `cargo xtask bench --guest`: what a program pays its kernel, here and on Linux, in instructions.
//!
//! Flow:  `harness/guest/measure.c` -> the image and Debian's kernel, in the same emulator on the same machine, one after
//!        the other -> lines `measured NAME: TICKS` -> the table.
//!
//! The emulator counts a nanosecond for each instruction, so runs are alike: a REP instruction counts once for each
//! turn (a page of zeros: 512, in both kernels), and what caches and TLBs would cost is not seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rumpvm_boot::emulator::{self, Settings};
use rumpvm_boot::guests::{self, Library};
use rumpvm_boot::hardware::Hardware;
use rumpvm_boot::image::{self, Profile};
use rumpvm_boot::{linux, ramdisk};

/// What a call that does nothing may take.
const NULL_CALL: u64 = 150;
/// From the image's first instruction to its first program's, with 128 MiB; what is measured has the program's own way to
/// its `main` besides.
const START: u64 = 20_000_000;

/// The last processor that all x86-64 kernels must do with, so that both do without the same.
const MACHINE: (&str, &str) = ("q35", "qemu64");
/// For the operations, of which one makes 64 MiB resident, and a fork of them.
const ROOMY: Hardware<'_> =
    Hardware { machine: MACHINE, memory: "256M", cpus: 1, counts_instructions: true };
/// For the start.
const SMALL: Hardware<'_> = Hardware { memory: "128M", ..ROOMY };

/// On a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

/// What the program printed, in its order.
type Figures = Vec<(String, u64)>;

/// The name under which it prints the counter at its own first line.
const BEGAN: &str = "start";

/// Prints the table; fails where a budget is missed.
pub(super) fn run() -> Result<()> {
    let guest = Guest::build()?;
    let (ours, _) = guest.here(&ROOMY, &[])?;
    let (our_start, entry) = guest.here(&SMALL, &[BEGAN])?;
    let (theirs, their_start) = (guest.on_linux(&ROOMY, &[])?, guest.on_linux(&SMALL, &[BEGAN])?);
    let theirs: BTreeMap<String, u64> = theirs.into_iter().collect();
    println!("{:<42} {:>12} {:>12} {:>6}", "instructions", "rumpvm", "Linux", "ratio");
    for (name, ours) in ours.iter().filter(|(name, _)| name != BEGAN) {
        print(name, *ours, theirs.get(name).copied());
    }
    let (since_reset, linux) = (figure(&our_start, BEGAN)?, figure(&their_start, BEGAN)?);
    print("reset to the main of a program", since_reset, Some(linux));
    let budgets = Budgets { null_call: figure(&ours, "null call")?, start: since_reset - entry };
    budgets.judge()
}

/// The same program in the image alone, and whether it keeps the budgets.
pub(crate) fn short() -> Result<()> {
    let guest = Guest::build()?;
    let (figures, entry) = guest.here(&SMALL, &["short"])?;
    let start = figure(&figures, BEGAN)? - entry;
    Budgets { null_call: figure(&figures, "null call")?, start }.judge()
}

fn print(name: &str, ours: u64, theirs: Option<u64>) {
    let ratio =
        theirs.map_or(String::new(), |theirs| format!("{:.2}", ours as f64 / theirs as f64));
    let theirs = theirs.map_or(String::new(), |theirs| theirs.to_string());
    println!("{name:<42} {ours:>12} {theirs:>12} {ratio:>6}");
}

fn figure(figures: &Figures, name: &str) -> Result<u64> {
    let found = figures.iter().find(|(found, _)| found == name);
    Ok(found.with_context(|| format!("`measure` printed no line for {name}"))?.1)
}

/// What has one.
struct Budgets {
    null_call: u64,
    start: u64,
}

impl Budgets {
    fn judge(&self) -> Result<()> {
        let rows = [
            ("null call", self.null_call, NULL_CALL),
            ("entry to the main of a program", self.start, START),
        ];
        for (name, cost, most) in rows {
            println!("{name}: {cost} instructions, at most {most}");
        }
        let missed: Vec<&str> =
            rows.iter().filter(|(_, cost, most)| cost > most).map(|(name, ..)| *name).collect();
        ensure!(missed.is_empty(), "over the budget: {}", missed.join(", "));
        Ok(())
    }
}

/// The program, and the image that runs it.
struct Guest {
    program: PathBuf,
    image: PathBuf,
}

impl Guest {
    fn build() -> Result<Self> {
        Ok(Self {
            program: guests::built("measure", Library::Glibc)?,
            image: image::build(Profile::Quick)?,
        })
    }

    /// Its figures in the image, and what the counter was at the image's first instruction.
    fn here(&self, hardware: &Hardware<'_>, words: &[&str]) -> Result<(Figures, u64)> {
        let ramdisk = ramdisk::of_program("measure", &self.program)?;
        let program: Vec<String> =
            ["/measure"].iter().chain(words).map(|word| word.to_string()).collect();
        let outcome = emulator::run(&Settings {
            image: &self.image,
            ramdisk: &ramdisk,
            program: &program,
            hardware: *hardware,
            disks: &[],
            quiet: true,
            limit: Some(LIMIT),
            words: "",
            captured: Some(b""),
        })?;
        ensure!(outcome.status == 0, "{}\n`measure` ended with {}", outcome.log, outcome.status);
        let entry = outcome.log.lines().find_map(entry_in).context("no entry in the log")?;
        Ok((figures_in(&String::from_utf8_lossy(&outcome.output)), entry))
    }

    /// Its figures on Linux.
    fn on_linux(&self, hardware: &Hardware<'_>, words: &[&str]) -> Result<Figures> {
        Ok(figures_in(&linux::run(hardware, Path::new(&self.program), words)?))
    }
}

fn figures_in(text: &str) -> Figures {
    let line = |line: &str| {
        let (name, ticks) = line.strip_prefix("measured ")?.split_once(": ")?;
        Some((name.to_string(), ticks.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn entry_in(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("rumpvm: the counter was at ")?;
    rest.strip_suffix(" at the first instruction")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_figure_is_left_out() {
        let text = "measured start: 5\n[    1.4] init\nmeasured null call: 120\nmeasured x: y\n";
        let expected = [("start".to_string(), 5), ("null call".to_string(), 120)];
        assert_eq!(figures_in(text), expected);
    }
}
