//! The seam, and the locks, waits and lock-free readers that are built on it.
//!
//! Every atomic, lock, sleep, wake-up and heap allocation of the component goes through this folder, so
//! that a home can own them: [`seam`] is the only file that names `core::sync::atomic`, and every
//! primitive above it is generic over a [`Seam`](rumpvm_platform::Seam). In a home whose hooks are empty
//! all of it compiles to plain core atomics.
//!
//! | file | what |
//! |---|---|
//! | [`seam`] | atomics, fences, waits on a named location, fallible allocation |
//! | [`class`] | the lock table: who may be taken under whom |
//! | [`spin`] | ticket spin lock; interrupts masked while held; never across a sleep |
//! | [`mutex`] | sleep lock; may be held across a sleep |
//! | [`hold`] | counted pointers that can fail to be made |
//! | [`percpu`] | one padded value for each CPU |
//! | [`epoch`] | when is what readers may still see safe to free |
//! | [`tree`] | ordered tree of ranges, searched without a lock |
//!
//! What each lock guards is in DESIGN.md, section 3.

pub mod class;
pub mod epoch;
pub mod hold;
pub mod mutex;
pub mod percpu;
pub mod seam;
pub mod spin;
pub mod tree;

pub use epoch::{Epoch, Pin};
pub use hold::{Hold, Vacant};
pub use mutex::Mutex;
pub use percpu::PerCpu;
pub use seam::{Atomic, AtomicPtr, Ordering, fence, try_box, try_push, try_reserve};
pub use spin::{RawSpin, Spin};
pub use tree::{Edit, Ranged, Tree};
