//! What a thread has spent of its CPU, for others to look at while it runs.
//!
//! Flow:  the CPU tells it at every switch -> anybody reads.
//! Locks: none; see [`Spent::time`].

use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crate::clock;

/// It does not run.
const OFF: u64 = 0;
/// Its CPU is changing the other word.
const CHANGING: u64 = u64::MAX;

/// Nanoseconds that a thread has run, and whether it does.
pub(crate) struct Spent {
    /// Up to when it went on.
    ran: AtomicU64,
    /// When it went on, [`OFF`] or [`CHANGING`].
    since: AtomicU64,
    /// It waits for something.
    sleeps: AtomicBool,
}

impl Spent {
    pub(crate) const fn new() -> Self {
        Self { ran: AtomicU64::new(0), since: AtomicU64::new(OFF), sleeps: AtomicBool::new(false) }
    }

    /// It goes on at `now`, or is counted up to then, having run for `ran`. Its own CPU says so, interrupts masked.
    pub(crate) fn runs(&self, ran: u64, now: u64) {
        self.sleeps.store(false, Ordering::Relaxed);
        self.tell(ran, now.clamp(OFF + 1, CHANGING - 1));
    }

    /// It is switched away, having run for `ran`.
    pub(crate) fn stops(&self, ran: u64) {
        self.tell(ran, OFF);
    }

    fn tell(&self, ran: u64, since: u64) {
        self.since.store(CHANGING, Ordering::Relaxed);
        fence(Ordering::Release);
        self.ran.store(ran, Ordering::Relaxed);
        self.since.store(since, Ordering::Release);
    }

    /// It waits from now on, or does not any more.
    pub(crate) fn set_sleeps(&self, sleeps: bool) {
        self.sleeps.store(sleeps, Ordering::Relaxed);
    }

    /// Whether it runs, or would if it were its turn.
    pub(crate) fn is_ready(&self) -> bool {
        !self.sleeps.load(Ordering::Relaxed)
    }

    /// Nanoseconds that it has run up to now. The two words belong together if the second one was the same before and
    /// after: no moment comes twice.
    pub(crate) fn time(&self) -> u64 {
        loop {
            let since = self.since.load(Ordering::Acquire);
            let ran = self.ran.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if since != CHANGING && self.since.load(Ordering::Relaxed) == since {
                let now = if since == OFF { OFF } else { clock::now() };
                return ran + now.saturating_sub(since);
            }
            hint::spin_loop();
        }
    }
}
