//! A child process whose lines are read as they come, with a limit to how long it may be silent.
//!
//! Flow: a command -> child -> two threads that read its pipes -> lines. The child is killed where [`Run`] is
//! dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// What comes next from a child.
#[derive(Debug)]
pub(super) enum Next {
    /// Fields of a line.
    Line(Vec<String>),
    /// It has ended; whether well, and how.
    End(bool, String),
    /// It was silent for too long. It may still say something.
    Silence,
}

/// A child that runs; stopped when it is dropped.
pub(super) struct Run {
    child: Child,
    lines: Receiver<String>,
    /// The last line of what it complains about.
    complaint: Option<thread::JoinHandle<Option<String>>>,
}

impl Run {
    /// Starts `command`.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
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

    /// How long its threads have run on CPUs, all together, as far as the system tells.
    pub(super) fn cpu_time(&self) -> Duration {
        let fields = fields(&format!("/proc/{}/stat", self.child.id()));
        let ticks = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Whether all of its threads sleep; one that only waits for a CPU does not.
    pub(super) fn is_asleep(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        threads.into_iter().flatten().flatten().all(|thread| {
            let fields = fields(&thread.path().join("stat").to_string_lossy());
            fields.first().is_none_or(|state| state == "S")
        })
    }

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

/// What proc(5) says in `stat` behind the program's name, which is in parentheses: first the state, eleventh and
/// twelfth from there the ticks on CPUs.
fn fields(stat: &str) -> Vec<String> {
    let text = fs::read_to_string(stat).unwrap_or_default();
    let behind = text.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_dies_or_falls_silent_is_told_from_one_that_ends() {
        let start =
            |script: &str| Run::start(Command::new("/bin/sh").args(["-c", script])).unwrap();
        let mut well = start("echo a; exit 0");
        assert!(matches!(well.next(Duration::MAX), Next::Line(line) if line == ["a"]));
        assert!(matches!(well.next(Duration::MAX), Next::End(true, _)));
        let mut dead = start("echo why >&2; kill -SEGV $$");
        assert!(matches!(dead.next(Duration::MAX), Next::End(false, how) if how.contains("why")));
        let mut busy = start("while true; do true; done");
        while busy.cpu_time() < Duration::from_millis(50) {
            assert!(matches!(busy.next(Duration::from_millis(10)), Next::Silence));
        }
        let mut silent = start("exec sleep 1000");
        assert!(matches!(silent.next(Duration::from_millis(1)), Next::Silence));
        while !silent.is_asleep() {
            thread::yield_now();
        }
    }
}
