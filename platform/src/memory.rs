//! One step of the component on a word that other CPUs may see.
//!
//! A home that owns the schedule is asked to carry each one out ([`Seam::carry_out`](crate::Seam)); in all
//! others they are plain core atomics, and nothing of this is left.

use core::panic::Location;
use core::sync::atomic::Ordering;

/// Where in the source something is done.
pub type Site = &'static Location<'static>;

/// A word: its address, and its width in bytes (2, 4 or 8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    /// Where it is.
    pub address: usize,
    /// How wide it is.
    pub bytes: u8,
}

/// What is done to a word. Narrower values are extended with zeros; arithmetic wraps at the word's width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Atomic load.
    Load,
    /// Atomic store.
    Store(u64),
    /// Atomic swap.
    Swap(u64),
    /// Stores `new` if the word holds `old`.
    CompareExchange {
        /// What must be there.
        old: u64,
        /// What is stored then.
        new: u64,
    },
    /// Atomic add.
    Add(u64),
    /// Atomic subtract.
    Sub(u64),
    /// Atomic or.
    Or(u64),
    /// Atomic and.
    And(u64),
    /// Load of a word that only this CPU, or the holder of a lock that the caller holds, ever writes.
    Get,
    /// Store to such a word.
    Set(u64),
}

impl Op {
    /// Whether it may change the word.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Load | Self::Get)
    }

    /// Whether it reads and writes in one step.
    pub fn is_rmw(self) -> bool {
        self.writes() && !matches!(self, Self::Store(_) | Self::Set(_))
    }
}

/// One operation on one word.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// On what.
    pub cell: Cell,
    /// What is done.
    pub op: Op,
    /// With which order.
    pub order: Ordering,
    /// Where in the source.
    pub site: Site,
}
