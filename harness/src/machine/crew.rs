//! The threads of one process: the last one out ends it.
//!
//! Flow:  `User::begin` -> counted in -> `User::end` -> counted out -> exit, and a vforked parent goes on.
//! Sleep: a vforked parent, until its child needs its space no more.
//! Owns:  the process, for its threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use rumpvm::{Hold, Process};
use rumpvm_arch::Format;
use rumpvm_hosted::Hosted;
use rumpvm_platform::Seam;

pub(super) struct Crew<F: Format> {
    pub(super) process: Hold<Process<Hosted<F>>, Hosted<F>>,
    threads: AtomicUsize,
    /// What the first thread returned.
    status: AtomicI32,
}

impl<F: Format> Crew<F> {
    /// The crew of a new process, with its first thread counted in already.
    pub(super) fn new(process: Hold<Process<Hosted<F>>, Hosted<F>>) -> Arc<Self> {
        Arc::new(Self { process, threads: AtomicUsize::new(1), status: AtomicI32::new(0) })
    }

    pub(super) fn join(&self) {
        self.threads.fetch_add(1, Ordering::SeqCst);
    }

    /// Number of threads.
    pub(super) fn size(&self) -> usize {
        self.threads.load(Ordering::SeqCst)
    }

    /// One thread less; the first one brings the status. Says with which status the process ends, if
    /// this was the last.
    pub(super) fn leave(&self, status: Option<i32>) -> Option<i32> {
        if let Some(status) = status {
            self.status.store(status, Ordering::SeqCst);
        }
        let is_last = self.threads.fetch_sub(1, Ordering::SeqCst) == 1;
        is_last.then(|| self.status.load(Ordering::SeqCst))
    }
}

/// Where a vforked parent waits until its child has a space of its own, or is gone.
#[derive(Default)]
pub(super) struct Gate {
    is_open: AtomicU32,
}

impl Gate {
    pub(super) fn pass<F: Format>(&self) {
        while self.is_open.load(Ordering::SeqCst) == 0 {
            Hosted::<F>::sleep(&self.is_open, 0);
        }
    }

    pub(super) fn open<F: Format>(&self) {
        self.is_open.store(1, Ordering::SeqCst);
        Hosted::<F>::wakeup(&self.is_open);
    }
}
