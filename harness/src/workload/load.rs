//! What all workers of one run share: the settings, when to end, what was counted, what went wrong.
//!
//! Locks: `failures`, a lock of the host, never held across a call into the machine: a thread that
//! waits there would take its CPU with it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::stop::Stop;
use super::{Limit, Settings};

/// What a worker does, and what is counted of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    Map,
    Unmap,
    Protect,
    Advise,
    Sync,
    Grow,
    Load,
    Store,
    Fetch,
    Refused,
    Fork,
    Exec,
    Thread,
    Wait,
    OutOfMemory,
}

impl Deed {
    /// Every deed, in the order of its number.
    pub(super) const ALL: [Self; 15] = [
        Self::Map,
        Self::Unmap,
        Self::Protect,
        Self::Advise,
        Self::Sync,
        Self::Grow,
        Self::Load,
        Self::Store,
        Self::Fetch,
        Self::Refused,
        Self::Fork,
        Self::Exec,
        Self::Thread,
        Self::Wait,
        Self::OutOfMemory,
    ];

    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Map => "mmap",
            Self::Unmap => "munmap",
            Self::Protect => "mprotect",
            Self::Advise => "madvise",
            Self::Sync => "msync",
            Self::Grow => "brk",
            Self::Load => "loads",
            Self::Store => "stores",
            Self::Fetch => "instruction fetches",
            Self::Refused => "accesses refused as they must be",
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Thread => "threads",
            Self::Wait => "wait",
            Self::OutOfMemory => "out of memory",
        }
    }
}

/// Counts of each deed.
pub(super) type Deeds = [u64; Deed::ALL.len()];

/// See the header.
pub(super) struct Load {
    pub(super) settings: Settings,
    started: Instant,
    deeds: [AtomicU64; Deed::ALL.len()],
    rounds: AtomicU64,
    planned: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// Failures kept; what broke once in a loop tends to break in every round.
const KEPT: usize = 20;

impl Load {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            started: Instant::now(),
            deeds: Default::default(),
            rounds: AtomicU64::new(0),
            planned: AtomicU64::new(0),
            failures: Mutex::default(),
        }
    }

    /// Announces workers that each ask [`Load::goes_on`] before every round.
    pub(super) fn plan(&self, workers: u64) {
        if let Limit::Rounds(rounds) = self.settings.limit {
            self.planned.fetch_add(rounds * workers, Ordering::Relaxed);
        }
    }

    /// Whether a worker that has done `rounds` rounds begins another one.
    pub(super) fn goes_on(&self, rounds: u64) -> bool {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        match self.settings.limit {
            Limit::Rounds(limit) => rounds < limit,
            Limit::Time(limit) => self.started.elapsed() < limit && !self.is_broken(),
        }
    }

    /// How much of the run is over, 0 to 1.
    pub(super) fn fraction(&self) -> f64 {
        let (done, all) = match self.settings.limit {
            Limit::Time(limit) => (self.elapsed().as_secs_f64(), limit.as_secs_f64()),
            Limit::Rounds(_) => (
                self.rounds.load(Ordering::Relaxed) as f64,
                self.planned.load(Ordering::Relaxed) as f64,
            ),
        };
        if all > 0.0 { (done / all).min(1.0) } else { 0.0 }
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds what a worker has counted.
    pub(super) fn add(&self, deeds: &Deeds) {
        for (all, own) in self.deeds.iter().zip(deeds) {
            all.fetch_add(*own, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub(super) fn deeds(&self) -> Deeds {
        std::array::from_fn(|index| self.deeds[index].load(Ordering::Relaxed))
    }

    /// Records why a worker stopped and returns its exit status.
    pub(super) fn settle(&self, who: &str, result: Result<(), Stop>) -> i32 {
        let Err(stop) = result else { return 0 };
        match &stop {
            Stop::OutOfMemory => {
                self.deeds[Deed::OutOfMemory as usize].fetch_add(1, Ordering::Relaxed);
            }
            Stop::Broken(what) => self.fail(format!("{who}: {what}")),
        }
        stop.status()
    }

    /// Records that something is wrong.
    pub(super) fn fail(&self, what: String) {
        let mut failures = self.failures.lock().expect("nobody panics holding it");
        if failures.len() < KEPT {
            failures.push(what);
        }
    }

    /// What went wrong so far.
    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.lock().expect("nobody panics holding it").clone()
    }

    fn is_broken(&self) -> bool {
        !self.failures.lock().expect("nobody panics holding it").is_empty()
    }
}
