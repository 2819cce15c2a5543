//! The explorer as a program of its own (`harness/explore/src/main.rs`): built where it is told, and asked.
//!
//! Flow: arguments -> child process -> lines of fields, as they come.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

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

/// What comes next from a child.
#[derive(Debug)]
pub(super) enum Next {
    /// Fields of a line.
    Line(Vec<String>),
    /// It has ended; whether well, and how.
    End(bool, String),
    /// It was silent for too long, and was stopped.
    Silence,
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
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| self.program.display().to_string())?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (send, lines) = mpsc::channel();
        let stdout = BufReader::new(stdout.expect("it is piped"));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = BufReader::new(stderr.expect("it is piped"));
        let complaint = thread::spawn(move || stderr.lines().map_while(Result::ok).last());
        Ok(Run { child, lines, complaint: Some(complaint) })
    }
}

/// A child that runs; stopped when it is dropped.
pub(super) struct Run {
    child: Child,
    lines: Receiver<String>,
    /// The last line of what it complains about.
    complaint: Option<thread::JoinHandle<Option<String>>>,
}

impl Run {
    /// Waits for the next line, `patience` at most.
    pub(super) fn next(&mut self, patience: Duration) -> Next {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Next::Line(line.split('\t').map(str::to_owned).collect()),
            Err(RecvTimeoutError::Timeout) => Next::Silence,
            Err(RecvTimeoutError::Disconnected) => match self.child.wait() {
                Ok(status) => {
                    let said = self.complaint.take().and_then(|thread| thread.join().ok());
                    let said = said.flatten().map_or(String::new(), |line| format!(": {line}"));
                    Next::End(status.success(), format!("{status}{said}"))
                }
                Err(error) => Next::End(false, error.to_string()),
            },
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

    #[test]
    fn a_program_that_dies_or_falls_silent_is_told_from_one_that_ends() {
        let shell = Hunter { program: "/bin/sh".into() };
        let mut well = shell.start(&["-c", "echo a; exit 0"]).unwrap();
        assert!(matches!(well.next(Duration::MAX), Next::Line(line) if line == ["a"]));
        assert!(matches!(well.next(Duration::MAX), Next::End(true, _)));
        let mut dead = shell.start(&["-c", "echo why >&2; kill -SEGV $$"]).unwrap();
        assert!(matches!(dead.next(Duration::MAX), Next::End(false, how) if how.contains("why")));
        let mut silent = shell.start(&["-c", "exec sleep 1000"]).unwrap();
        assert!(matches!(silent.next(Duration::from_millis(1)), Next::Silence));
    }
}
