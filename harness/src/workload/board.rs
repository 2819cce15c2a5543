//! What all processes of a workload know, whatever becomes of their memory: numbers, stored and loaded in one piece.
//!
//! Locks: none. Owns: memory of the host.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers, zero at first.
pub(super) struct Board(Box<[AtomicU64]>);

impl Board {
    /// So many zeros.
    pub(super) fn new(count: u64) -> Self {
        Self((0..count).map(|_| AtomicU64::new(0)).collect())
    }

    /// Number `at`.
    pub(super) fn get(&self, at: u64) -> u64 {
        self.0[at as usize].load(Ordering::SeqCst)
    }

    /// Changes it.
    pub(super) fn set(&self, at: u64, number: u64) {
        self.0[at as usize].store(number, Ordering::SeqCst);
    }
}
