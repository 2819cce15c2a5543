//! The explorer, for people: what can be explored, in which ways, and how a failure is told.
//!
//! A [`Scenario`] is a few lines: a machine, actors, and what is to hold at the end. [`explore`] runs it under
//! schedule after schedule, each made by a strategy from a seed; when one fails, [`shrink`] leaves out of it what is
//! not needed, and [`tell`] prints what is left.
//!
//! Flow:  scenario -> learning runs -> exhaustive search -> portfolio of strategies -> failure -> shrink -> story.
//! Locks: none; each worker thread has an explorer of its own.
//! Owns:  nothing between runs but what was seen.
//!
//! To add a scenario, add a file to `scenarios` and its line to the table there.

mod disk;
mod engine;
mod ground;
mod hunt;
mod items;
mod scenario;
pub mod scenarios;
mod shrink;
mod sites;
pub mod strategy;
mod tell;

pub use disk::Disk;
pub use engine::{BOUND, Depth, Explored, Found, Memory, Options, explore, replay, settings};
pub use ground::{FAR, Kernel, NEAR, Pc, User};
pub use hunt::{Bag, Limits, hunt};
pub use scenario::Scenario;
pub use shrink::{Shrunk, shrink};
pub use sites::{Place, survey, try_flaw};
pub use tell::{tell, why};

/// What a run allocates comes from the heap of that run, so that addresses repeat.
#[global_allocator]
static HEAP: rumpvm_hosted::explored::RunHeap = rumpvm_hosted::explored::RunHeap;
