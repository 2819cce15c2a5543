//! The explorer: the second scheduler of the hosted home. All CPUs and threads are coroutines on one host thread,
//! and every step that others could see is a choice.
//!
//! Reading order: `agent` and `choice` (who may be next), `state` (who is), `run` (how it is carried out), `seam`
//! (what the component sees), `memory` and `order` (what is watched), `outcome` (what comes of it).
//!
//! The component is the real one, unmodified: what is a hook here is nothing in every other home.
//!
//! Flow:  hook -> point -> chooser -> step; a schedule is the list of choices against the default.
//! Locks: none: one host thread has it all. Sleep: never.
//! Owns:  see [`Explorer`].

mod agent;
mod choice;
mod coverage;
mod deadlock;
mod heap;
mod memory;
mod order;
mod outcome;
mod run;
mod seam;
mod settings;
mod state;
mod story;

pub use agent::{Agent, AgentSet, Kind, MOST};
pub use choice::{Chance, Chances, Choice, Chooser, Deviation, Moment, Next};
pub use coverage::{Met, Pairs};
pub use heap::{RunHeap, records_here};
pub use outcome::{Failure, FailureKind, Line, Outcome};
pub use run::{BROKEN, Explorer, Stage};
pub use seam::Explored;
pub use settings::{Flaw, Mutation, Settings};
