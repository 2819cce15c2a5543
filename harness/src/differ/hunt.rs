//! The hunt: programs by the thousand, on all processors, until one differs or enough steps were compared.
//!
//! Flow:  numbers, taken in turn by each lane -> program -> both voices -> the difference with the lowest number,
//!        shrunk.
//! Owns:  the voices, one pair for each lane.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::{
    Answers, Difference, Failed, Ground, Program, RESIDENT, Voice, ask, compare, generate, shrink,
};

/// What to hunt through.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Steps to compare, at least.
    pub ops: u64,
    /// What the programs follow from.
    pub seed: u64,
    /// Most processes of a program.
    pub processes: u8,
    /// Threads, each with its own voices.
    pub lanes: usize,
}

/// A difference, as it was met and as it was shrunk.
#[derive(Clone, Debug)]
pub struct Found {
    /// Number of the program.
    pub number: u64,
    /// Its steps, before.
    pub steps: usize,
    /// The shrunk one.
    pub program: Program,
    /// How it differs.
    pub difference: Difference,
}

/// What a hunt has come to.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// Programs compared.
    pub programs: u64,
    /// Steps compared.
    pub ops: u64,
    /// How long it took.
    pub seconds: f64,
    /// Programs in which the host had taken something out of memory, and when asked again had not.
    pub taken: u64,
    /// What was found.
    pub found: Option<Found>,
}

/// A pair of voices: the host's first.
pub type Voices = (Box<dyn Voice>, Box<dyn Voice>);

struct Met {
    number: u64,
    program: Program,
    difference: Difference,
}

/// Compares programs until enough steps were compared, or one differed. `voices` makes a pair for each lane;
/// `progress` is told the share that is done.
pub fn hunt(
    settings: &Settings,
    ground: &Ground,
    voices: &(dyn Fn() -> io::Result<Voices> + Sync),
    progress: &(dyn Fn(f64) + Sync),
) -> Result<Hunt, Failed> {
    let begun = Instant::now();
    let (next, ops, programs) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (stop, taken) = (AtomicBool::new(false), AtomicU64::new(0));
    let met: Mutex<Option<Met>> = Mutex::new(None);
    let lane = || -> Result<(), Failed> {
        let failed = |error: io::Error| Failed(format!("a voice cannot start: {error}"));
        let (mut linux, mut ours) = voices().map_err(failed)?;
        while !stop.load(Ordering::Relaxed) && ops.load(Ordering::Relaxed) < settings.ops {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let program = generate(settings.seed, number, settings.processes, ground);
            let (theirs, mine) = ask(&mut *linux, &mut *ours, &program)
                .map_err(|error| Failed(format!("program {number}: {error}")))?;
            programs.fetch_add(1, Ordering::Relaxed);
            let done = ops.fetch_add(program.ops.len() as u64, Ordering::Relaxed);
            progress((done as f64 / settings.ops as f64).min(1.0));
            if let Some(difference) = compare(&program, &theirs, &mine) {
                if passes(&difference, &program, &mut *linux, &mine)? {
                    taken.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                stop.store(true, Ordering::Relaxed);
                let mut met = met.lock().expect("no lane panics with it");
                if met.as_ref().is_none_or(|other| number < other.number) {
                    *met = Some(Met { number, program, difference });
                }
            }
        }
        Ok(())
    };
    let guarded = || lane().inspect_err(|_| stop.store(true, Ordering::Relaxed));
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..settings.lanes.max(1)).map(|_| scope.spawn(guarded)).collect();
        let ended = lanes.into_iter().map(|lane| lane.join());
        let panicked = || Failed("a lane of the hunt panicked".into());
        ended.map(|lane| lane.unwrap_or_else(|_| Err(panicked()))).collect::<Result<Vec<()>, _>>()
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let found = match met.into_inner().expect("no lane panics with it") {
        Some(met) => Some(found(met, voices)?),
        None => None,
    };
    let count = |count: AtomicU64| count.into_inner();
    Ok(Hunt { programs: count(programs), ops: count(ops), seconds, taken: count(taken), found })
}

/// Whether a difference in what is in memory is gone when the host is asked again: it may take what was never stored
/// to out of memory whenever it likes.
fn passes(
    difference: &Difference,
    program: &Program,
    linux: &mut dyn Voice,
    mine: &Answers,
) -> Result<bool, Failed> {
    if difference.part != RESIDENT {
        return Ok(false);
    }
    linux.start(program)?;
    Ok(compare(program, &linux.finish(program)?, mine).is_none())
}

/// Shrinks what was met, with voices of its own.
fn found(met: Met, voices: &(dyn Fn() -> io::Result<Voices> + Sync)) -> Result<Found, Failed> {
    let failed = |error: io::Error| Failed(format!("a voice cannot start: {error}"));
    let (mut linux, mut ours) = voices().map_err(failed)?;
    let (program, difference) = shrink(&mut *linux, &mut *ours, &met.program, &met.difference)?;
    Ok(Found { number: met.number, steps: met.program.ops.len(), program, difference })
}

/// Compares one program.
pub fn one(program: &Program, voices: Voices) -> Result<Option<Difference>, Failed> {
    let (mut linux, mut ours) = voices;
    let (theirs, mine) = ask(&mut *linux, &mut *ours, program)?;
    Ok(compare(program, &theirs, &mine))
}
