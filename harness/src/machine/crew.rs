//! The threads of one process: the last one out ends it.
//!
//! Flow:  `User::begin` -> `User::end` -> counted out -> exit.
//! Owns:  the process, for its threads, and the status that the first of them brings.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rumpvm::{Hold, Process, Space};
use rumpvm_arch::Format;
use rumpvm_hosted::Hosted;

pub(super) struct Crew<F: Format> {
    pub(super) process: Hold<Process<Hosted<F>>, Hosted<F>>,
    /// What the first thread returned.
    status: AtomicI32,
}

impl<F: Format> Crew<F> {
    /// The crew of a new process, with its first thread counted in already.
    pub(super) fn new(process: Hold<Process<Hosted<F>>, Hosted<F>>) -> Arc<Self> {
        Arc::new(Self { process, status: AtomicI32::new(0) })
    }

    /// The space that its threads run in.
    pub(super) fn space(&self) -> Hold<Space<Hosted<F>>, Hosted<F>> {
        self.process.space().expect("a process with a thread has a space")
    }

    /// One thread less; the first one brings the status. Says with which status the process ends, if
    /// this was the last.
    pub(super) fn leave(&self, status: Option<i32>) -> Option<i32> {
        if let Some(status) = status {
            self.status.store(status, Ordering::SeqCst);
        }
        self.process.thread_ends().then(|| self.status.load(Ordering::SeqCst))
    }
}
