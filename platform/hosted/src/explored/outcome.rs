//! What came of a run.

use rumpvm_platform::Site;

use super::agent::Agent;
use super::choice::{Deviation, Next};

/// What kind of thing went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FailureKind {
    /// An invariant broke, in the component or in the scenario: a panic.
    Broken,
    /// Everyone waits for somebody.
    Deadlock,
    /// Everyone runs and nobody arrives, though all had their turns.
    Livelock,
    /// A lock was taken or released against the rules, or in an order that would be a deadlock in another run.
    LockRule,
    /// Something was done where it must not be: a sleep under a spin lock, an interrupt under one.
    Context,
    /// Data that a lock guards was touched without it.
    Race,
    /// Something was left behind.
    Leak,
}

impl FailureKind {
    /// What a story calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broken => "broken invariant",
            Self::Deadlock => "deadlock",
            Self::Livelock => "livelock",
            Self::LockRule => "lock rule broken",
            Self::Context => "wrong context",
            Self::Race => "data touched without its lock",
            Self::Leak => "leak",
        }
    }
}

/// Why a run failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The story in one sentence.
    pub message: String,
    /// Where in the source, if it is one place.
    pub place: Option<String>,
}

impl Failure {
    /// Whether the other one is the same flaw, as far as one can tell: addresses and numbers may differ.
    pub fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.place == other.place
    }
}

/// One step of a run, for the story.
#[derive(Clone, Debug)]
pub struct Line {
    /// Who made it.
    pub agent: Agent,
    /// What the scenario, or the machine, calls him.
    pub who: String,
    /// On which CPU.
    pub cpu: usize,
    /// What it was.
    pub what: String,
    /// The word that it is a step on, if it is one. What is none may matter to everyone.
    pub on: Next,
    /// Where in the source.
    pub site: Option<Site>,
    /// In which function, if that could be found out.
    pub function: Option<String>,
    /// Locks that the CPU held.
    pub held: Vec<String>,
    /// It is a step inside a lock, on the lock's own words.
    pub inner: bool,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What went wrong.
    pub failure: Option<Failure>,
    /// What was chosen against the default: the schedule.
    pub schedule: Vec<Deviation>,
    /// Steps on shared words, locks and the like.
    pub steps: u64,
    /// Moments at which there was a choice.
    pub moments: u32,
    /// Of all choices, of all steps but those on words that nobody shares, and of all stores that were held back and
    /// reached memory, in their order. Everything else follows from these: two runs of a scenario with one number are
    /// the same run.
    pub hash: u64,
    /// Of the order of conflicting steps alone: two runs with one number differ in nothing that matters.
    pub class: u64,
    /// Step by step, if that was asked for.
    pub story: Vec<Line>,
}
