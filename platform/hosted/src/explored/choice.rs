//! Choices: who is next, and what goes wrong; and the few of them that make a run what it is.
//!
//! A run with no interference goes on with whoever runs until he has to wait, and nothing fails. Every other
//! choice is a [`Deviation`]: the list of them is the schedule, and is enough to repeat it.

use std::any::Any;
use std::fmt;
use std::str::FromStr;

use super::agent::{Agent, AgentSet};

/// What an agent is about to do, as far as others can see.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Next {
    /// Name of the word, the same in every run; 0 for none.
    pub at: u64,
    /// It may change it.
    pub writes: bool,
}

impl Next {
    /// Whether the order of the two matters.
    #[inline]
    pub fn conflicts(self, other: Self) -> bool {
        self.at == other.at && self.at != 0 && (self.writes || other.writes)
    }
}

/// A moment at which somebody has to be chosen.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Who made the last step.
    pub current: Agent,
    /// Who may make the next one: two at least.
    pub enabled: AgentSet,
    /// What each of them would do, by [`Agent::index`].
    pub next: &'a [Next; Agent::COUNT],
    /// Moments before this one.
    pub number: u32,
    /// Points that the current agent has met, those included at which there was no choice.
    pub nth: u32,
}

impl Moment<'_> {
    /// Who goes on if nobody interferes.
    #[inline]
    pub fn default(&self) -> Agent {
        default(self.current, self.enabled).expect("somebody is enabled")
    }

    /// Whether to choose anybody else is to take the CPU away, and not a matter of course.
    #[inline]
    pub fn is_preemption(&self, chosen: Agent) -> bool {
        chosen != self.current
            && (self.enabled.contains(self.current) || !self.enabled.ordinary().contains(chosen))
    }
}

/// Who goes on if nobody interferes: the one who runs, else the first who can.
#[inline]
pub(super) fn default(current: Agent, enabled: AgentSet) -> Option<Agent> {
    if enabled.contains(current) { Some(current) } else { enabled.ordinary().first() }
}

/// What can go wrong, if the scenario lets it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Chance {
    /// There is no frame.
    NoFrame,
    /// The heap is empty.
    NoHeap,
    /// The CPU holds a store back (x86's store buffer).
    Delay,
    /// A sleeper wakes up for no reason.
    Wake,
    /// An access faults for no reason.
    Fault,
    /// A file fails.
    Io,
    /// A step that a flaw has split rests between its halves until nobody else can go on.
    Rest,
}

impl Chance {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::NoFrame, Self::NoHeap, Self::Delay, Self::Wake, Self::Fault, Self::Io, Self::Rest];

    /// What a story says when it happens.
    pub fn says(self) -> &'static str {
        match self {
            Self::NoFrame => "there is no frame",
            Self::NoHeap => "the heap is empty",
            Self::Delay => "the store is held back",
            Self::Wake => "wakes up for no reason",
            Self::Fault => "faults for no reason",
            Self::Io => "the file fails",
            Self::Rest => "rests in the middle of a step",
        }
    }
}

/// Which chances a run takes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Chances(u8);

impl Chances {
    /// None.
    pub const NONE: Self = Self(0);

    /// These and that one.
    pub const fn with(self, chance: Chance) -> Self {
        Self(self.0 | 1 << chance as u8)
    }

    /// Whether it is one of them.
    #[inline]
    pub const fn contain(self, chance: Chance) -> bool {
        self.0 & 1 << chance as u8 != 0
    }
}

/// Who is next, and what goes wrong.
pub trait Chooser: Any {
    /// Who makes the next step: one of `moment.enabled`.
    fn next(&mut self, moment: &Moment<'_>) -> Agent;

    /// Whether `what` happens to `agent` now, at the `nth` moment that it has met.
    fn takes(&mut self, what: Chance, agent: Agent, nth: u32) -> bool;

    /// `agent` did something that others may see.
    fn saw(&mut self, agent: Agent, step: Next) {
        let _ = (agent, step);
    }
}

/// What was chosen at a moment against the default.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Choice {
    /// This agent was next.
    Next(Agent),
    /// This happened.
    Takes(Chance),
}

/// One choice against the default. Named by what its agent has done so far, so that it keeps its meaning when
/// others are left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Deviation {
    /// Who ran.
    pub agent: Agent,
    /// How many choices he had met.
    pub nth: u32,
    /// What was chosen.
    pub choice: Choice,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent, nth, choice } = self;
        match choice {
            Choice::Next(next) => write!(f, "{}.{nth}-{}", agent.index(), next.index()),
            Choice::Takes(chance) => write!(f, "{}.{nth}!{}", agent.index(), *chance as u8),
        }
    }
}

impl FromStr for Deviation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no step of a schedule: AGENT.NTH-AGENT or AGENT.NTH!CHANCE");
        let parse = || {
            let (agent, rest) = text.split_once('.')?;
            let agent = Agent::at(agent.parse().ok()?)?;
            let at = rest.find(['-', '!'])?;
            let (nth, what) = (rest[..at].parse().ok()?, rest[at + 1..].parse::<usize>().ok()?);
            let choice = match rest.as_bytes()[at] {
                b'-' => Choice::Next(Agent::at(what)?),
                _ => Choice::Takes(*Chance::ALL.get(what)?),
            };
            Some(Self { agent, nth, choice })
        };
        parse().ok_or_else(wrong)
    }
}

impl Chooser for Box<dyn Chooser> {
    fn next(&mut self, moment: &Moment<'_>) -> Agent {
        (**self).next(moment)
    }

    fn takes(&mut self, what: Chance, agent: Agent, nth: u32) -> bool {
        (**self).takes(what, agent, nth)
    }

    fn saw(&mut self, agent: Agent, step: Next) {
        (**self).saw(agent, step);
    }
}
