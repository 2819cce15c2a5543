//! Replaying recordings of real programs: their processes and address spaces rebuilt on a machine of
//! our own, and every result compared with the one that Linux gave.
//!
//! Reading order: `driver` (events to calls), `births`, `processes`, `memory` (then `mmap`, `mremap`, `waits`),
//! `untold` and `judge` (what is compared), `infer` (what no call shows), `outcome` and `text`.
//!
//! Flow:  [`Trace`] -> `driver` -> rumpvm -> `judge` -> [`Outcome`] -> text or JSON.
//! Owns:  a machine for the time of one replay.

mod births;
mod curve;
mod driver;
mod endless;
mod files;
mod infer;
mod judge;
mod known;
mod memory;
mod mmap;
mod mremap;
mod narrow;
mod options;
mod outcome;
mod overlap;
mod processes;
mod tally;
mod text;
mod touch;
mod untold;
mod waits;

pub use options::{Options, ReplayArgs, Touch};
pub use outcome::{
    BrokenLine, Disagreement, Forks, Inferred, Moment, Outcome, Places, Tally, Touches,
};
pub use untold::Untold;

use std::fmt;
use std::panic;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

use rumpvm::CallError;

use crate::machine::Machine;
use crate::trace::{Trace, TraceError};
use driver::Replay;

/// CPUs of the machine. A recording is one order of events, so one CPU replays it.
const CPUS: usize = 1;

/// Times that progress is told of a whole recording.
const TOLD: usize = 1000;

/// Why there was no replay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplayError {
    /// The file is not taken.
    Trace(TraceError),
    /// The machine has no memory for the processes themselves. More memory helps.
    NoMemory,
}

/// Replays the recording at `path` on a fresh machine. `progress` is told now and then how many events
/// are done, and of how many.
///
/// # Panics
/// If rumpvm does, or the host has no room for the machine.
pub fn replay(
    path: &Path,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Outcome, ReplayError> {
    let trace = Trace::load(path).map_err(ReplayError::Trace)?;
    replay_trace(trace, options, progress)
}

/// Replays a recording that has been read.
///
/// # Panics
/// As [`replay`].
pub fn replay_trace(
    trace: Trace,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Outcome, ReplayError> {
    let started = Instant::now();
    let machine = Machine::builder().memory(options.memory).cpus(CPUS).build();
    let events = trace.events.len();
    let (sender, receiver) = mpsc::channel();
    let outcome = thread::scope(|scope| {
        let on_cpu = scope.spawn(|| start(&machine, trace, *options, sender));
        receiver.iter().for_each(|done| progress(done as u64, events as u64));
        on_cpu.join().unwrap_or_else(|story| panic::resume_unwind(story))
    });
    let mut outcome = outcome.map_err(|_| ReplayError::NoMemory)?;
    outcome.check = machine.try_check().err();
    outcome.agrees = outcome.disagreements.is_empty() && outcome.check.is_none();
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}

fn start(
    machine: &Machine,
    trace: Trace,
    options: Options,
    progress: Sender<usize>,
) -> Result<Outcome, CallError> {
    let step = trace.events.len().div_ceil(TOLD).max(1);
    let tell = move |done: usize| {
        if done.is_multiple_of(step) {
            // Nobody listens any more only if the listener has panicked.
            progress.send(done).ok();
        }
    };
    machine.on_cpu(move |vm| Replay::new(vm, &trace, &options).run(tell))
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trace(error) => error.fmt(f),
            Self::NoMemory => f.write_str(
                "the machine has no memory for the recorded processes; try a larger --memory",
            ),
        }
    }
}

impl std::error::Error for ReplayError {}
