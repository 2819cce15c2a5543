//! Agents: whoever may make the next step.

use std::fmt;

/// Most actors, and most CPUs, of an explored machine.
pub const MOST: usize = 8;

/// What kind of agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A thread of the scenario.
    Actor,
    /// A flush request that has reached its CPU.
    Flush,
    /// The oldest store that a CPU holds back.
    Drain,
    /// A deadline of a sleeping thread.
    Timeout,
    /// A timer interrupt of a CPU.
    Tick,
    /// A CPU that fills its TLB ahead of an access.
    Prefetch,
    /// The handler of a timer interrupt that has come in.
    Handler,
}

const KINDS: [Kind; 7] = [
    Kind::Actor,
    Kind::Flush,
    Kind::Drain,
    Kind::Timeout,
    Kind::Tick,
    Kind::Prefetch,
    Kind::Handler,
];

/// One agent: a kind, and the number of its actor or CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Agent(u8);

impl Agent {
    /// Number of agents that can be told apart.
    pub const COUNT: usize = KINDS.len() * MOST;

    /// The agent of `kind` with that number.
    #[inline]
    pub fn new(kind: Kind, number: usize) -> Self {
        debug_assert!(number < MOST);
        Self(kind as u8 * MOST as u8 + number as u8)
    }

    /// The agent at that place of all of them.
    pub fn at(index: usize) -> Option<Self> {
        (index < Self::COUNT).then_some(Self(index as u8))
    }

    /// Its kind.
    #[inline]
    pub fn kind(self) -> Kind {
        KINDS[usize::from(self.0) / MOST]
    }

    /// The number of its actor or CPU.
    #[inline]
    pub fn number(self) -> usize {
        usize::from(self.0) % MOST
    }

    /// Its place among all agents.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Kind {
    /// What a story calls an agent that has no name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Actor => "actor",
            Self::Flush => "flush request",
            Self::Drain => "store buffer",
            Self::Timeout => "deadline",
            Self::Tick | Self::Handler => "timer tick",
            Self::Prefetch => "page walk",
        }
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.kind(), self.number())
    }
}

/// All agents of a kind, as bits of an [`AgentSet`].
const fn of_kind(kind: Kind) -> u64 {
    ((1 << MOST) - 1) << (kind as usize * MOST)
}

/// A set of agents.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AgentSet(u64);

impl AgentSet {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// Adds one.
    #[inline]
    pub fn insert(&mut self, agent: Agent) {
        self.0 |= 1 << agent.0;
    }

    /// Takes one out.
    #[inline]
    pub fn remove(&mut self, agent: Agent) {
        self.0 &= !(1 << agent.0);
    }

    /// Whether it is in there.
    #[inline]
    pub fn contains(self, agent: Agent) -> bool {
        self.0 & 1 << agent.0 != 0
    }

    /// How many there are.
    #[inline]
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first one, in the order of [`Agent`].
    #[inline]
    pub fn first(self) -> Option<Agent> {
        (self.0 != 0).then(|| Agent(self.0.trailing_zeros() as u8))
    }

    /// Those that a run goes on with when nobody interferes: no ticks, no prefetches.
    #[inline]
    pub fn ordinary(self) -> Self {
        Self(self.0 & !(of_kind(Kind::Tick) | of_kind(Kind::Prefetch)))
    }

    /// Those that are not in `others`.
    #[inline]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// In the order of [`Agent`].
    pub fn iter(self) -> impl Iterator<Item = Agent> {
        let mut left = self;
        std::iter::from_fn(move || {
            let first = left.first()?;
            left.remove(first);
            Some(first)
        })
    }
}
