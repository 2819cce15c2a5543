//! `cargo xtask mutants --ordinary`: cargo-mutants over the core of the component.
//!
//! It changes one operator, constant or function body at a time in a copy of the tree, and runs the tests
//! that `.cargo/mutants.toml` names. It never touches memory orders, fences or wake-ups.
//!
//! Flow: cargo-mutants -> lists of names -> share killed, survivors nobody has accepted -> verdict.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::survivors::Accepted;
use crate::{step, workspace};

/// Pinned, because another version makes other mutants.
const VERSION: &str = "27.1.0";
const PACKAGES: &str = "-p rumpvm -p rumpvm-tests";
/// The component's own unit tests, the cases, every failed allocation, random programs against the model, and
/// what several CPUs do: cargo runs them in this order, quickest first, and the first that fails ends it.
const TESTS: &str = "--lib --test cases --test out_of_memory --test random --test threads";
/// Seconds. The tests take some twenty on an idle desk; a mutant that hangs hangs for good.
const TIMEOUT: &str = "120";
/// Of a hundred viable mutants.
const KILLED_AT_LEAST: usize = 90;
const ACCEPTED: &str = "tests/mutants/ordinary.txt";
/// Exit codes of a run that came to its end: all caught, some missed, some timed out.
const FINISHED: [i32; 3] = [0, 2, 3];

/// What came of the mutants of one run, by name.
#[derive(Debug)]
struct Outcome {
    caught: Vec<String>,
    missed: Vec<String>,
    timed_out: Vec<String>,
    unviable: Vec<String>,
}

/// Runs all mutants, or those of `shard`; an error if too few are killed or one survives unlisted.
pub(super) fn run(shard: Option<&str>) -> Result<()> {
    need_cargo_mutants()?;
    let root = workspace::root();
    let accepted = fs::read_to_string(root.join(ACCEPTED)).context(ACCEPTED)?;
    let accepted = Accepted::parse(&accepted).context(ACCEPTED)?;
    let folder = workspace::metadata()?.target_directory.join("mutants");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {folder}"))?;

    // One folder for all builds: the dependencies are built once.
    let build = folder.join("build");
    let mut whole = step::cargo(&root, &format!("test --profile mutants {PACKAGES} {TESTS}"));
    step::run("the tests as they are", whole.env("CARGO_TARGET_DIR", &build))?;

    // cargo-mutants would try the unchanged tree in the mutated package alone, where not all tests are.
    let mut command = step::cargo(&root, "mutants --package rumpvm --baseline skip --colors never");
    command.args(["--test-package", "rumpvm,rumpvm-tests", "--timeout", TIMEOUT]);
    command.args(TESTS.split_whitespace().map(|word| format!("--cargo-arg={word}")));
    command.args(["--output", folder.as_str()]);
    if let Some(shard) = shard {
        // One after another, so that each shard has a little of every file.
        command.args(["--sharding", "round-robin", "--shard", shard]);
    }
    command.env("CARGO_TARGET_DIR", &build);
    println!("xtask: mutants");
    let status = command.status().context("cannot start cargo mutants")?;
    if !status.code().is_some_and(|code| FINISHED.contains(&code)) {
        bail!("cargo mutants did not come to its end: {status}");
    }
    Outcome::read(folder.join("mutants.out").as_std_path())?.judge(accepted)
}

fn need_cargo_mutants() -> Result<()> {
    let root = workspace::root();
    let version = step::cargo(&root, "mutants --version").output();
    let wanted = format!("cargo-mutants {VERSION}");
    if version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted) {
        return Ok(());
    }
    let install = format!("install --locked cargo-mutants@{VERSION}");
    step::run(&format!("cargo {install}"), &mut step::cargo(&root, &install))
}

impl Outcome {
    fn read(folder: &Path) -> Result<Self> {
        let list = |name: &str| -> Result<Vec<String>> {
            let path = folder.join(name);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        Ok(Self {
            caught: list("caught.txt")?,
            missed: list("missed.txt")?,
            timed_out: list("timeout.txt")?,
            unviable: list("unviable.txt")?,
        })
    }

    /// Says how it went. What timed out was noticed: a test that hangs fails.
    fn judge(self, accepted: Accepted) -> Result<()> {
        let killed = [&self.caught[..], &self.timed_out[..]].concat();
        let viable = killed.len() + self.missed.len();
        println!(
            "xtask: {viable} viable mutants (and {} that do not compile): {} killed, {} of them by a \
             time-out; {} survived",
            self.unviable.len(),
            killed.len(),
            self.timed_out.len(),
            self.missed.len(),
        );
        let complaints = accepted.compare(&self.missed, &killed);
        for name in &complaints.dead {
            println!("xtask: {ACCEPTED} lists what the tests kill now: {name}");
        }
        for mutant in &complaints.unlisted {
            println!("xtask: survived, and has no reason in {ACCEPTED}: {mutant}");
        }
        if killed.len() * 100 < viable * KILLED_AT_LEAST {
            bail!("{} of {viable} killed: less than {KILLED_AT_LEAST} %", killed.len());
        }
        if !complaints.unlisted.is_empty() {
            bail!("{} mutants survived that {ACCEPTED} does not list", complaints.unlisted.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(caught: usize, missed: usize) -> Outcome {
        let names = |count: usize, what: &str| -> Vec<String> {
            (0..count).map(|number| format!("a.rs:{number}:1: {what}")).collect()
        };
        Outcome {
            caught: names(caught, "caught"),
            missed: names(missed, "missed"),
            timed_out: Vec::new(),
            unviable: names(5, "unviable"),
        }
    }

    fn accepting(survivors: usize) -> Accepted {
        Accepted::parse(&format!("# Why.\n{}", "a.rs: missed\n".repeat(survivors))).unwrap()
    }

    #[test]
    fn nine_tenths_of_the_viable_mutants_have_to_die() {
        assert!(outcome(9, 1).judge(accepting(1)).is_ok());
        assert!(outcome(17, 2).judge(accepting(2)).is_err());
    }

    #[test]
    fn a_survivor_that_nobody_has_accepted_fails_the_run() {
        assert!(outcome(99, 1).judge(accepting(0)).is_err());
        assert!(outcome(0, 0).judge(accepting(0)).is_ok());
    }
}
