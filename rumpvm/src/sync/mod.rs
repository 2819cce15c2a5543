//! The seam, and the locks, waits and lock-free readers that are built on it.
//!
//! Every atomic, lock, sleep, wake-up and heap allocation of the component goes through this folder, so
//! that a home can own them: `cells` is the only file that names `core::sync::atomic`, and every
//! primitive above it is generic over a [`Seam`](rumpvm_platform::Seam). In a home whose hooks are empty
//! all of it compiles to plain core atomics.
//!
//! | file | what |
//! |---|---|
//! | `cells` | the atomics: core's, or a checker's |
//! | [`seam`] | atomics, fences, waits on a named location, fallible allocation |
//! | [`class`] | the lock table: who may be taken under whom |
//! | [`spin`] | ticket spin lock; interrupts masked while held; never across a sleep |
//! | [`rw`] | phase-fair reader-writer spin lock |
//! | [`mutex`] | mutual exclusion that may be held across a sleep |
//! | [`lockmgr`] | sleep locks: shared or alone, upgrades, time limits, hand-over to I/O |
//! | [`token`] | soft locks: given up while their holder sleeps |
//! | [`event`] | wait channels by generation |
//! | [`once`] | a value that comes once and stays |
//! | [`hold`] | counted pointers that can fail to be made |
//! | [`refs`] | uses: the first of two stages of a record's end |
//! | [`percpu`] | one padded value for each CPU |
//! | [`epoch`] | when is what readers may still see safe to free |
//! | [`tree`] | ordered tree of ranges, searched without a lock |
//!
//! What each lock guards is in DESIGN.md, section 3.

mod cells;
pub mod class;
pub mod epoch;
pub mod event;
pub mod hold;
pub mod lockmgr;
pub mod mutex;
pub mod once;
pub mod percpu;
pub mod refs;
pub mod rw;
pub mod seam;
pub mod spin;
#[cfg(test)]
mod tests;
pub mod token;
pub mod tree;

pub use epoch::{Epoch, Pin};
pub use event::Event;
pub use hold::{Hold, Vacant};
pub use lockmgr::SleepLock;
pub use mutex::Mutex;
pub use once::Once;
pub use percpu::PerCpu;
pub use refs::{Left, Uses};
pub use rw::Rw;
pub use seam::{Atomic, AtomicPtr, Ordering, fence, try_box, try_push, try_reserve};
pub use spin::{RawSpin, Spin};
pub use token::Token;
pub use tree::{Edit, Ranged, Tree};
