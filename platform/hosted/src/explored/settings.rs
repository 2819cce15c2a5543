//! How a machine is explored.

use rumpvm_platform::Site;

use super::choice::{Chance, Chances};

/// One machine, and what may happen to it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// CPUs, [`MOST`](super::agent::MOST) at most.
    pub cpus: usize,
    /// Frames of memory.
    pub frames: u64,
    /// Stores may be held back, as x86 does; otherwise memory is sequentially consistent.
    pub tso: bool,
    /// Timer ticks come in.
    pub ticks: bool,
    /// CPUs fill their TLBs ahead of accesses.
    pub prefetch: bool,
    /// What may go wrong.
    pub chances: Chances,
    /// The words of locks are points as well: for scenarios about the locks themselves.
    pub fine: bool,
    /// Every word is a point, shared or not.
    pub everything: bool,
    /// Tell the story.
    pub story: bool,
    /// Note where which flaw could be put in.
    pub survey: bool,
    /// A flaw put in at run time.
    pub mutation: Option<Mutation>,
}

impl Settings {
    /// Two CPUs, a quarter of a mebibyte, and nothing that goes wrong.
    pub const USUAL: Self = Self {
        cpus: 2,
        frames: 64,
        tso: false,
        ticks: false,
        prefetch: false,
        chances: Chances::NONE.with(Chance::Delay),
        fine: false,
        everything: false,
        story: false,
        survey: false,
        mutation: None,
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self::USUAL
    }
}

/// What is left out, or split, at one place in the source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Flaw {
    /// A store does not happen.
    DropStore,
    /// A full fence does not happen.
    DropFence,
    /// A wake-up does not happen.
    DropWake,
    /// A read-modify-write is a load, and later a store.
    SplitRmw,
    /// A sleeper does not look at the word once more before it sleeps.
    LateInterlock,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::DropStore, Self::DropFence, Self::DropWake, Self::SplitRmw, Self::LateInterlock];

    /// What a list calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropStore => "drop store",
            Self::DropFence => "drop fence",
            Self::DropWake => "drop wake-up",
            Self::SplitRmw => "split",
            Self::LateInterlock => "late interlock",
        }
    }
}

/// A flaw at a place; ordered by file and line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mutation {
    /// Where in the source.
    pub site: Site,
    /// What is wrong there.
    pub flaw: Flaw,
}

impl Mutation {
    /// Whether it is about `site`. One place can have several addresses: generics.
    #[inline]
    pub(super) fn hits(self, site: Site) -> bool {
        self.site == site
    }
}
