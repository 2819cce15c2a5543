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
//! To add a scenario, add a file to `scenarios`, and its `mod` and its table to `scenarios/mod.rs`:
//!
//! ```
//! use rumpvm_explore::{Depth, Kernel, Memory, NEAR, Options, Scenario, explore};
//! use rumpvm_hosted::explored::Stage;
//!
//! fn two_touch(stage: &Stage) {
//!     let kernel = Kernel::boot(stage);
//!     let user = kernel.user();
//!     user.map(NEAR, 1).expect("room");
//!     for (cpu, user) in [user.twin(), user].into_iter().enumerate() {
//!         stage.actor(cpu, "touch", move || user.store(NEAR, 1).expect("memory"));
//!     }
//!     kernel.at_end(|kernel| assert_eq!(kernel.statistics().faults_zero_fill, 1));
//! }
//!
//! let scenario = Scenario::new("two-touch", "none", "two threads touch one page", two_touch);
//! let options = Options {
//!     depth: Depth::Schedules(100),
//!     seed: 1,
//!     strategy: None,
//!     memory: Memory::BOTH.to_vec(),
//!     cpus: None,
//!     short: 0,
//! };
//! let seen = explore(&scenario, &options, |_| true).expect("memory for a machine");
//! assert!(seen.found.is_none());
//! ```

mod disk;
mod engine;
mod hunt;
mod items;
mod kernel;
mod scenario;
pub mod scenarios;
mod shrink;
mod sites;
pub mod strategy;
mod tell;
mod user;

pub use disk::Disk;
pub use engine::{BOUND, Depth, Explored, Found, Memory, Options, explore, replay, settings};
pub use hunt::{Bag, Limits, hunt};
pub use kernel::{Kernel, Pc};
pub use scenario::Scenario;
pub use shrink::{Shrunk, shrink};
pub use sites::{Place, survey, try_flaw};
pub use tell::{tell, why};
pub use user::{FAR, NEAR, User};

/// What a run allocates comes from the heap of that run, so that addresses repeat.
#[global_allocator]
static HEAP: rumpvm_hosted::explored::RunHeap = rumpvm_hosted::explored::RunHeap;
