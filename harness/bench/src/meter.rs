//! Meters: what a piece of work costs, told while it runs.
//!
//! Cycles are ticks of the time-stamp counter, which most virtual machines give their guests while they keep the
//! processor's own counters. Its rate is the processor's nominal one, so a processor that runs faster than that at
//! the moment shows fewer ticks than cycles, for the peers as for us. What other programs do in between is left out:
//! no more ticks count than the thread had of the processor's time.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::callgrind;

/// What a meter counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Cycles and time, here and now.
    Cycles,
    /// Instructions; callgrind keeps the count.
    Instructions,
}

/// What was measured.
#[derive(Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Pieces of work.
    pub(crate) operations: u64,
    pub(crate) cycles: f64,
    pub(crate) time: Duration,
}

impl Measured {
    /// Cycles of one piece of work.
    pub(crate) fn cycles_each(&self) -> f64 {
        self.cycles / self.operations as f64
    }

    /// Milliseconds of one piece of work, of the processor's time.
    pub(crate) fn milliseconds_each(&self) -> f64 {
        self.cycles_each() / ticks_per_nanosecond() / 1e6
    }

    /// Nanoseconds of one piece of work, by the clock.
    pub(crate) fn nanoseconds_each(&self) -> f64 {
        self.time.as_nanos() as f64 / self.operations as f64
    }
}

/// Measures pieces of work.
pub(crate) struct Meter {
    how: How,
    started: bool,
    measured: Measured,
}

impl Meter {
    /// One that has measured nothing.
    pub(crate) fn new(how: How) -> Self {
        Self { how, started: false, measured: Measured::default() }
    }

    /// A large number of times for cycles, a small one under callgrind, which is fifty times slower.
    pub(crate) fn scale<T>(&self, cycles: T, instructions: T) -> T {
        match self.how {
            How::Cycles => cycles,
            How::Instructions => instructions,
        }
    }

    /// Measures `work`, which is `operations` pieces.
    #[inline(never)]
    pub(crate) fn measure<R>(&mut self, operations: u64, work: impl FnOnce() -> R) -> R {
        self.measured.operations += operations;
        if self.how == How::Instructions {
            if !self.started {
                callgrind::begin();
                self.started = true;
            }
            callgrind::toggle();
            let result = work();
            callgrind::toggle();
            return result;
        }
        let rate = ticks_per_nanosecond();
        let (clock, own) = (Instant::now(), own_time());
        let before = ticks();
        let result = work();
        let passed = (ticks() - before) as f64;
        let had = (own_time() - own) as f64 * rate;
        self.measured.cycles += passed.min(had);
        self.measured.time += clock.elapsed();
        result
    }

    /// Measures `work` and nothing else.
    pub(crate) fn measured(mut self, operations: u64, work: impl FnOnce()) -> Measured {
        self.measure(operations, work);
        self.done()
    }

    /// What was measured so far.
    pub(crate) fn done(self) -> Measured {
        self.measured
    }
}

fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and no system that we know forbids it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds that this thread has had of a processor.
pub(crate) fn own_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to `time`, which is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn ticks_per_nanosecond() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (clock, before) = (Instant::now(), ticks());
        while clock.elapsed() < Duration::from_millis(20) {}
        (ticks() - before) as f64 / clock.elapsed().as_nanos() as f64
    })
}
