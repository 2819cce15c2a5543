//! The explorer as a program of its own (`harness/explore/src/main.rs`): built where it is told, and asked.
//!
//! Flow: arguments -> child process -> lines of fields, as they come.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::child::{Next, Run};
use crate::step;

/// A built explorer.
#[derive(Clone)]
pub(super) struct Hunter {
    program: PathBuf,
}

/// What a hunt has brought.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bag {
    pub(super) schedules: u64,
    pub(super) seconds: f64,
    /// Scenario, kind and message of the failure.
    pub(super) found: Option<[String; 3]>,
}

impl Hunter {
    /// Builds the explorer of the tree at `tree`; what is built is kept in `target`.
    pub(super) fn build(tree: &Path, target: &Path) -> Result<Self> {
        // Two jobs: what is built for a mutant is two crates, one after the other.
        let words = "build --quiet --profile quick --package rumpvm-explore --jobs 2";
        let mut cargo = step::cargo(tree, words);
        // Warnings are what a flaw looks like; errors are shown.
        cargo.env("CARGO_TARGET_DIR", target).env("CARGO_ENCODED_RUSTFLAGS", "-Awarnings");
        let output = cargo.output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("it does not build:\n{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self { program: target.join("quick/rumpvm-explore") })
    }

    /// A shell script instead of the explorer.
    #[cfg(test)]
    pub(super) fn pretend(program: &Path, script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(program, script).unwrap();
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { program: program.to_owned() }
    }

    /// Names of all scenarios.
    pub(super) fn scenarios(&self) -> Result<Vec<String>> {
        Ok(self.lines(&["list"])?.into_iter().flatten().collect())
    }

    /// Explores `scenarios` until one fails or `time` is over.
    pub(super) fn hunt(&self, scenarios: &[String], time: Duration) -> Result<Bag> {
        let seconds = time.as_secs().to_string();
        let mut words = vec!["hunt", &seconds];
        words.extend(scenarios.iter().map(String::as_str));
        // Time is looked at between schedules, and one that never ends has none after it.
        let mut run = self.start(&words)?;
        match run.next(time + Duration::from_secs(30)) {
            Next::Line(fields) => Bag::parse(&fields[1..]),
            Next::End(_, how) => bail!("the explorer itself broke down: {how}"),
            Next::Silence => bail!("the explorer itself hangs"),
        }
    }

    /// All lines that it prints for `words`.
    pub(super) fn lines(&self, words: &[&str]) -> Result<Vec<Vec<String>>> {
        let mut run = self.start(words)?;
        let mut lines = Vec::new();
        loop {
            match run.next(Duration::from_secs(300)) {
                Next::Line(line) => lines.push(line),
                Next::End(true, _) => return Ok(lines),
                Next::End(false, how) => bail!("`{}`: {how}", words.join(" ")),
                Next::Silence => bail!("`{}` hangs", words.join(" ")),
            }
        }
    }

    /// Starts it with `words`.
    pub(super) fn start(&self, words: &[&str]) -> Result<Run> {
        let mut command = Command::new(&self.program);
        Run::start(command.args(words))
    }
}

impl Bag {
    /// Schedules, seconds; then scenario, kind and message if something was found.
    pub(super) fn parse(fields: &[String]) -> Result<Self> {
        ensure!(fields.len() == 2 || fields.len() == 5, "the explorer says {fields:?}");
        let found = match &fields[2..] {
            [scenario, kind, message] => {
                Some([scenario, kind, message].map(|text| text.to_owned()))
            }
            _ => None,
        };
        let (schedules, seconds) = (fields[0].parse()?, fields[1].parse()?);
        Ok(Self { schedules, seconds, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Vec<String> {
        line.split('\t').map(str::to_owned).collect()
    }

    #[test]
    fn a_bag_says_what_was_found_if_anything_was() {
        let empty = Bag::parse(&fields("12\t0.50")).unwrap();
        assert_eq!(empty, Bag { schedules: 12, seconds: 0.5, found: None });
        let full = Bag::parse(&fields("12\t0.50\tone\tdeadlock\tall wait")).unwrap();
        assert_eq!(full.found.unwrap(), ["one", "deadlock", "all wait"]);
        assert!(Bag::parse(&fields("12\t0.50\tone")).is_err());
    }
}
