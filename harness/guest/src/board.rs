//! What all processes of a workload know, whatever becomes of their memory: numbers in a page that they share.
//!
//! Locks: none. Owns: its part of that page. A process that begins after exec takes the same parts in the same order.

use std::sync::atomic::{AtomicU64, Ordering};

use super::system;

/// Numbers, zero at first.
pub(super) struct Board(&'static [AtomicU64]);

impl Board {
    /// So many numbers.
    pub(super) fn new(count: u64) -> Self {
        Self(system::shared_numbers(count as usize))
    }

    /// Number `at`.
    pub(super) fn get(&self, at: u64) -> u64 {
        self.0[at as usize].load(Ordering::SeqCst)
    }

    /// Changes it.
    pub(super) fn set(&self, at: u64, number: u64) {
        self.0[at as usize].store(number, Ordering::SeqCst);
    }

    /// Adds to it.
    pub(super) fn add(&self, at: u64, number: u64) {
        self.0[at as usize].fetch_add(number, Ordering::SeqCst);
    }
}
