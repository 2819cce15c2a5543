//! What a process has used: time, faults, memory; and the same of its children that were waited for.

use rumpvm::sync::{Atomic, Ordering};
use rumpvm_bare::{Bare, calendar};

/// Counts of one process. All grow.
pub(crate) struct Usage {
    /// When it was born, in nanoseconds since the start.
    pub(crate) born: u64,
    own: Counts,
    children: Counts,
}

struct Counts {
    nanoseconds: Atomic<u64, Bare>,
    faults: Atomic<u64, Bare>,
    largest: Atomic<u64, Bare>,
}

/// As of some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Used {
    /// Of CPUs.
    pub(crate) nanoseconds: u64,
    pub(crate) faults: u64,
    /// Most pages at once.
    pub(crate) largest: u64,
}

impl Used {
    /// The same with what others have used.
    pub(crate) fn with(self, others: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds + others.nanoseconds,
            faults: self.faults + others.faults,
            largest: self.largest.max(others.largest),
        }
    }
}

impl Counts {
    fn new() -> Self {
        Self { nanoseconds: Atomic::new(0), faults: Atomic::new(0), largest: Atomic::new(0) }
    }

    fn add(&self, more: Used) {
        self.nanoseconds.fetch_add(more.nanoseconds, Ordering::Relaxed);
        self.faults.fetch_add(more.faults, Ordering::Relaxed);
        if more.largest > self.largest.load(Ordering::Relaxed) {
            self.largest.store(more.largest, Ordering::Relaxed);
        }
    }

    fn now(&self) -> Used {
        Used {
            nanoseconds: self.nanoseconds.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
            largest: self.largest.load(Ordering::Relaxed),
        }
    }
}

impl Usage {
    pub(crate) fn new() -> Self {
        Self { born: calendar::since_start(), own: Counts::new(), children: Counts::new() }
    }

    /// One of its threads had a fault.
    pub(crate) fn count_fault(&self) {
        self.own.faults.fetch_add(1, Ordering::Relaxed);
    }

    /// One of its threads has run for so long.
    pub(crate) fn add_time(&self, nanoseconds: u64) {
        self.own.add(Used { nanoseconds, ..Used::default() });
    }

    /// It has had so many pages.
    pub(crate) fn note_pages(&self, pages: u64) {
        self.own.add(Used { largest: pages, ..Used::default() });
    }

    /// A child that used so much, with its own children, has been waited for.
    pub(crate) fn add_child(&self, child: Used) {
        self.children.add(child);
    }

    pub(crate) fn own(&self) -> Used {
        self.own.now()
    }

    pub(crate) fn children(&self) -> Used {
        self.children.now()
    }
}
