//! The shipped recordings, part of the program, so that the tour finds them wherever it is started.

use std::io;
use std::time::Duration;

use rumpvm_arch::PAGE_SIZE;

use crate::replay::{self, Moment, Options, Outcome, Tally, Touch};
use crate::report::{Count, Part, PartKind, Run, Sample};
use crate::trace::Trace;

/// A recording of a real program.
pub struct Recording {
    /// Which program.
    pub name: &'static str,
    bytes: &'static [u8],
}

macro_rules! recordings {
    ($($name:literal),+) => {
        /// The shipped recordings; `tests/traces/README.md` says what each of them did.
        pub(super) static RECORDINGS: &[Recording] = &[$(Recording {
            name: $name,
            bytes: include_bytes!(concat!("../../../tests/traces/", $name, ".strace.gz")),
        }),+];
    };
}

recordings!["python", "git", "rustc", "node", "sort", "make"];

impl Recording {
    /// Replays it, touching pages as programs do: few of them often, most of them never.
    pub(super) fn replay(&self, progress: &(dyn Fn(f64) + Sync)) -> io::Result<Part> {
        let options = Options { touch: Touch::Zipf, ..Options::default() };
        let trace = Trace::parse(self.bytes).map_err(io::Error::other)?;
        let mut told = |done: u64, all: u64| progress(done as f64 / all.max(1) as f64);
        let outcome = replay::replay_trace(trace, &options, &mut told).map_err(io::Error::other)?;
        Ok(part(self.name, &outcome))
    }
}

/// What the report shows of a replay.
fn part(name: &str, outcome: &Outcome) -> Part {
    let calls = Tally::sum(outcome.calls.values());
    let count = |what: &str, count: u64| Count::new(what, count);
    let run = Run {
        name: name.into(),
        kind: PartKind::Trace,
        failures: failures(outcome),
        elapsed: Duration::from_secs_f64(outcome.seconds),
        operations: calls.calls + outcome.touches.pages,
        samples: outcome.curve.iter().map(sample).collect(),
        details: vec![
            count("calls", calls.calls),
            count("calls with Linux's result", calls.agreed),
            count("calls whose result cannot be compared", calls.untold),
            count("pages touched", outcome.touches.pages),
            count("processes", outcome.processes),
            count("further threads", outcome.threads),
            count("forks", outcome.forks.count),
            count("page-table entries that forks did not copy", outcome.forks.entries_shared),
            count("page-table pages that forks shared", outcome.forks.tables_shared),
        ],
    };
    run.with_statistics(&outcome.statistics)
}

fn failures(outcome: &Outcome) -> Vec<String> {
    let differs = |one: &replay::Disagreement| {
        format!("line {}: {}: Linux {}, rumpvm {}", one.line, one.call, one.linux, one.rumpvm)
    };
    let disagreements = outcome.disagreements.iter().map(differs);
    disagreements.chain(outcome.check.clone()).collect()
}

fn sample(moment: &Moment) -> Sample {
    Sample {
        seconds: moment.seconds,
        used_bytes: moment.frames * PAGE_SIZE,
        table_bytes: moment.table_frames * PAGE_SIZE,
    }
}
