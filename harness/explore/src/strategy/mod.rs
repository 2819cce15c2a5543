//! Strategies: who is next, and what goes wrong, by a rule and a seed.
//!
//! No one of them finds everything: a bug that needs two precise switches is nothing to a random walk of a thousand
//! points and little to PCT; one that needs many small ones is the other way round. So all of them take turns.
//!
//! | strategy | idea |
//! |---|---|
//! | [`Random`] | a walk; how often it switches is drawn for each run |
//! | [`Pct`] | priorities, and `depth - 1` moments at which the first falls behind all (Burckhardt et al., ASPLOS 2010) |
//! | [`Pos`] | a priority for each step, drawn anew for those that conflict with the one taken (Yuan et al., CAV 2018) |
//! | [`Starve`] | another one, but something is put off for as long as anything else can go: flushes, stores, a thread, words |
//! | [`Exhaustive`] | every schedule with so many preemptions (Musuvathi and Qadeer, PLDI 2007), but for those that differ in nothing |
//! | [`Replay`] | the one schedule that is given |

mod exhaustive;
mod mischief;
mod pct;
mod pos;
mod random;
mod replay;
mod starve;

pub use exhaustive::Exhaustive;
pub use mischief::Mischief;
pub use pct::Pct;
pub use pos::Pos;
pub use random::Random;
pub use replay::Replay;
pub use starve::Starve;

use rumpvm_hosted::explored::Chooser;

/// A strategy that makes each run from a seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// See [`Random`].
    Random,
    /// See [`Pct`]; with this depth.
    Pct(u32),
    /// See [`Pos`].
    Pos,
    /// See [`Starve`].
    Starve,
}

/// Those that take turns.
pub const PORTFOLIO: [Strategy; 10] = [
    Strategy::Pos,
    Strategy::Pct(3),
    Strategy::Random,
    Strategy::Starve,
    Strategy::Pct(4),
    Strategy::Pos,
    Strategy::Random,
    Strategy::Pct(2),
    Strategy::Pct(5),
    Strategy::Starve,
];

impl Strategy {
    /// What the command line calls it.
    pub fn name(self) -> String {
        match self {
            Self::Random => "random".into(),
            Self::Pct(depth) => format!("pct{depth}"),
            Self::Pos => "pos".into(),
            Self::Starve => "starve".into(),
        }
    }

    /// The strategy of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Random, Self::Pos, Self::Starve].into_iter().chain((2..=9).map(Self::Pct));
        all.into_iter().find(|one| one.name() == name)
    }

    /// A chooser for a run of about `length` moments.
    pub fn chooser(self, seed: u64, length: u32) -> Box<dyn Chooser> {
        match self {
            Self::Random => Box::new(Random::new(seed)),
            Self::Pct(depth) => Box::new(Pct::new(seed, depth, length)),
            Self::Pos => Box::new(Pos::new(seed)),
            Self::Starve => Box::new(Starve::new(seed, length)),
        }
    }
}
