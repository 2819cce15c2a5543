//! Trials: the test programs, one after the other, with one mutant on, until one notices.
//!
//! Tests run in one thread, so that the first line that says FAILED ends the trial, and a test that works much longer
//! than any did without a mutant hangs, as one does that sleeps for good: it has noticed too. What counts is the time
//! on a CPU, not the time on the wall: more people may work here. And because threads that spin for each other take more
//! of it then, a test that hangs is asked once more, with more patience.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::build::Programs;
use super::schema::VARIABLE;
use crate::mutants::child::{Next, Run};

/// A test may work so many times as long as any without a mutant.
const PATIENCE: u32 = 4;
/// And so many times as long again when it is asked once more.
const MORE_PATIENCE: u32 = 4;
/// And this, for what is very quick.
const GRACE: Duration = Duration::from_millis(700);
/// Between two looks at a silent test.
const LOOK: Duration = Duration::from_secs(1);
/// Looks after which one that does nothing at all has gone to sleep for good.
const ASLEEP: u32 = 6;
/// One that sleeps, but not for good, may take so many times longer than it may work, and at least so long, because
/// others may have all the CPUs.
const DROWSY: u32 = 20;
const NAP: Duration = Duration::from_secs(60);
/// Kilobytes of address space: a mutant that takes memory for ever must not take the desk's. The tests
/// need an eighth of it. Not for good: one test sets limits of its own.
const ADDRESS_SPACE: &str = "8000000";

/// What came of one mutant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// By the test program of this name.
    Killed(String),
    TimedOut(String),
    Survived,
    /// It does not compile.
    Unviable,
}

/// Test programs that pass.
pub(super) struct Jury {
    /// By name: the program, and how long a test of it may work.
    tests: BTreeMap<String, (PathBuf, Duration)>,
    folder: PathBuf,
}

impl Jury {
    /// Runs `tests` once without a mutant, in `folder`, to see that they pass and how long they are silent.
    pub(super) fn new(programs: &Programs, tests: &[&str], folder: PathBuf) -> Result<Self> {
        let mut jury = Self { tests: BTreeMap::new(), folder };
        for name in tests {
            let program = programs.get(*name).with_context(|| format!("no test called {name}"))?;
            let started = Instant::now();
            let mut longest = Duration::ZERO;
            let mut run = jury.start(program, 0)?;
            match listen(&mut run, Duration::MAX, &mut longest) {
                None => {}
                Some(Noticed::Failed) => bail!("{name} fails without a mutant"),
                Some(Noticed::Hangs) => bail!("{name} sleeps for good without a mutant"),
            }
            println!("xtask: {name} passes in {:.1} s", started.elapsed().as_secs_f64());
            let patience = longest * PATIENCE + GRACE;
            jury.tests.insert((*name).to_owned(), (program.clone(), patience));
        }
        Ok(jury)
    }

    /// The same judges, as built elsewhere: `programs`.
    pub(super) fn with(&self, programs: &Programs, folder: PathBuf) -> Self {
        let tests = self.tests.iter().filter_map(|(name, (_, patience))| {
            Some((name.clone(), (programs.get(name)?.clone(), *patience)))
        });
        Self { tests: tests.collect(), folder }
    }

    /// Tries mutant `number` with the tests of `order`; 0 is what was built.
    pub(super) fn judge(&self, number: usize, order: &[&str]) -> Result<Outcome> {
        for name in order {
            let (program, patience) = self.tests.get(*name).context("it was not built")?;
            let ask = |patience| -> Result<Option<Noticed>> {
                let (mut run, mut longest) = (self.start(program, number)?, Duration::ZERO);
                Ok(listen(&mut run, patience, &mut longest))
            };
            let noticed = match ask(*patience)? {
                Some(Noticed::Hangs) => ask(*patience * MORE_PATIENCE)?,
                noticed => noticed,
            };
            match noticed {
                None => {}
                Some(Noticed::Failed) => return Ok(Outcome::Killed((*name).to_owned())),
                Some(Noticed::Hangs) => return Ok(Outcome::TimedOut((*name).to_owned())),
            }
        }
        Ok(Outcome::Survived)
    }

    fn start(&self, program: &PathBuf, number: usize) -> Result<Run> {
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit -S -v {ADDRESS_SPACE}; exec \"$0\" --test-threads=1");
        command.args(["-c", &script]).arg(program).current_dir(&self.folder);
        command
            .env(VARIABLE, number.to_string())
            .env("RUMPVM_SHORT", "1")
            .env("RUST_BACKTRACE", "0");
        Run::start(&mut command)
    }
}

/// How a mutant was noticed.
enum Noticed {
    Failed,
    Hangs,
}

/// Follows a test program to its end, or to the first sign that something is wrong. `longest` gets the longest
/// time that it worked between two lines.
fn listen(run: &mut Run, patience: Duration, longest: &mut Duration) -> Option<Noticed> {
    let (mut said, mut looked, mut idle) = (Duration::ZERO, Duration::ZERO, 0);
    let mut last_line = Instant::now();
    loop {
        let next = run.next(LOOK);
        let now = run.cpu_time();
        match next {
            Next::Line(fields) if fields[0].ends_with("FAILED") => return Some(Noticed::Failed),
            Next::Line(_) => {
                *longest = (*longest).max(now.saturating_sub(said));
                (said, idle, last_line) = (now, 0, Instant::now());
            }
            Next::End(true, _) => return None,
            Next::End(false, _) => return Some(Noticed::Failed),
            Next::Silence => {
                idle = if now == looked && run.is_asleep() { idle + 1 } else { 0 };
                let drowsy = last_line.elapsed() > patience.saturating_mul(DROWSY).max(NAP);
                if now.saturating_sub(said) > patience || idle == ASLEEP || drowsy {
                    return Some(Noticed::Hangs);
                }
            }
        }
        looked = now;
    }
}

/// Numbers of outcomes, by test program.
pub(super) fn tally<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> BTreeMap<&'a str, usize> {
    let mut tally = BTreeMap::new();
    for outcome in outcomes {
        if let Outcome::Killed(test) | Outcome::TimedOut(test) = outcome {
            *tally.entry(test.as_str()).or_default() += 1;
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn the_first_test_that_fails_dies_or_hangs_ends_the_trial() {
        let program = env::temp_dir().join(format!("rumpvm-jury-{}", process::id()));
        let script = "#!/bin/sh\necho a ... ok\ncase $RUMPVM_MUTANT in\n1) echo b ... FAILED;;\n\
            2) kill -SEGV $$;;\n3) while true; do true; done;;\n4) exec sleep 1000;;\nesac\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let programs = Programs::from([("one".to_owned(), program.clone())]);
        let mut jury = Jury::new(&programs, &["one"], env::temp_dir()).unwrap();
        jury.tests.get_mut("one").unwrap().1 = Duration::from_millis(300);
        let judge = |number| jury.judge(number, &["one"]).unwrap();
        assert_eq!(judge(0), Outcome::Survived);
        assert_eq!(judge(1), Outcome::Killed("one".to_owned()));
        assert_eq!(judge(2), Outcome::Killed("one".to_owned()));
        assert_eq!(judge(3), Outcome::TimedOut("one".to_owned()));
        assert_eq!(judge(4), Outcome::TimedOut("one".to_owned()));
        fs::remove_file(program).unwrap();
    }
}
