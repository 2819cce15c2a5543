//! Locks as a home sees them: their classes, what is done to them, and who holds which.
//!
//! The component tells its home of every step ([`Seam::lock_step`](crate::Seam::lock_step)). A home that wants the
//! order checked keeps a [`Witness`] for each thread and hands the steps on.

use core::fmt;

use crate::Site;

/// How a lock waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// Without giving up the CPU, interrupts masked. Never held across a sleep.
    Spin,
    /// By sleeping. May be held across a sleep.
    Sleep,
    /// By sleeping, and given up while its holder sleeps for something else.
    Token,
}

/// A class of locks: all those that guard the same kind of thing.
#[derive(Debug)]
pub struct LockClass {
    /// What the lock table calls it.
    pub name: &'static str,
    /// Position in the lock table: who holds one may only take a lock of a higher rank.
    pub rank: u8,
    /// How it waits.
    pub kind: LockKind,
    /// A thread may hold several of this class, in an order of their own.
    pub nests: bool,
}

/// One lock, taken or to be taken in one place.
#[derive(Clone, Copy, Debug)]
pub struct LockUse {
    /// Its class.
    pub class: &'static LockClass,
    /// Its address, which names it.
    pub address: usize,
    /// Other holders are admitted beside this one.
    pub shared: bool,
    /// Where in the source it is taken.
    pub site: Site,
}

/// What is done to a lock. Between `Want` and the answer, and between `Free` and `Freed`, the lock's own words
/// change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockStep {
    /// It is about to be taken; the thread will wait if it has to.
    Want,
    /// It is about to be taken if nobody holds it.
    Try,
    /// It has been taken.
    Taken,
    /// It has not: somebody holds it, or the wait was called off.
    Failed,
    /// It is about to be released.
    Free,
    /// It has been released.
    Freed,
}

/// Most locks that one thread holds: the deepest path of the lock table is half of it.
const DEPTH: usize = 24;

/// The locks that one thread holds, in the order in which it took them.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    held: [Option<LockUse>; DEPTH],
    depth: usize,
}

/// Why a step is against the rules.
#[derive(Clone, Copy, Debug)]
pub enum Violation {
    /// `wanted` has to come before `held` in the lock table.
    Order {
        /// What the thread holds.
        held: LockUse,
        /// What it wants to wait for.
        wanted: LockUse,
    },
    /// The thread holds `held` already, which is the same lock.
    Again {
        /// Where it took it.
        held: LockUse,
        /// Where it wants it once more.
        wanted: LockUse,
    },
    /// The thread releases a lock that it does not hold.
    NotHeld(LockUse),
    /// The thread would sleep, or give up its CPU, with a spin lock held.
    Sleeps(LockUse),
    /// The thread holds more locks than anybody should.
    TooMany(LockUse),
}

impl Witness {
    /// Nothing held.
    pub const fn new() -> Self {
        Self { held: [None; DEPTH], depth: 0 }
    }

    /// The locks held, oldest first.
    pub fn held(&self) -> impl Iterator<Item = &LockUse> {
        self.held[..self.depth].iter().flatten()
    }

    /// Notes a step, or says which rule it breaks. A lock that is only tried may be of any rank.
    pub fn step(&mut self, step: LockStep, lock: &LockUse) -> Result<(), Violation> {
        match step {
            LockStep::Want => self.wants(lock),
            LockStep::Taken => {
                let place = self.held.get_mut(self.depth).ok_or(Violation::TooMany(*lock))?;
                *place = Some(*lock);
                self.depth += 1;
                Ok(())
            }
            LockStep::Free => self.frees(lock),
            LockStep::Try | LockStep::Failed | LockStep::Freed => Ok(()),
        }
    }

    /// Checks that the thread may sleep, or give up its CPU: it holds no spin lock.
    pub fn may_sleep(&self) -> Result<(), Violation> {
        match self.held().find(|lock| lock.class.kind == LockKind::Spin) {
            Some(lock) => Err(Violation::Sleeps(*lock)),
            None => Ok(()),
        }
    }

    fn wants(&self, wanted: &LockUse) -> Result<(), Violation> {
        for held in self.held() {
            let is_same = held.address == wanted.address;
            // Whoever waits gives his tokens up, so nobody ever waits for him because of one.
            let is_token = |lock: &LockUse| lock.class.kind == LockKind::Token;
            if is_token(held) || is_token(wanted) {
                continue;
            }
            if is_same && !wanted.class.nests {
                return Err(Violation::Again { held: *held, wanted: *wanted });
            }
            if held.class.rank > wanted.class.rank
                || (held.class.rank == wanted.class.rank && !wanted.class.nests)
            {
                return Err(Violation::Order { held: *held, wanted: *wanted });
            }
        }
        if wanted.class.kind != LockKind::Spin { self.may_sleep() } else { Ok(()) }
    }

    fn frees(&mut self, lock: &LockUse) -> Result<(), Violation> {
        let is_it = |held: &Option<LockUse>| held.is_some_and(|held| held.address == lock.address);
        let at =
            self.held[..self.depth].iter().rposition(is_it).ok_or(Violation::NotHeld(*lock))?;
        self.held.copy_within(at + 1..self.depth, at);
        self.depth -= 1;
        self.held[self.depth] = None;
        Ok(())
    }
}

impl fmt::Display for LockUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = if self.shared { ", shared" } else { "" };
        write!(f, "{} (rank {}{shared}, {})", self.class.name, self.class.rank, self.site)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order { held, wanted } => write!(
                f,
                "lock order: {wanted} is wanted while {held} is held; the table has them the other way"
            ),
            Self::Again { held, wanted } => {
                write!(f, "locking against oneself: {wanted} is wanted, and held since {held}")
            }
            Self::NotHeld(lock) => write!(f, "{lock} is released, and not held"),
            Self::Sleeps(lock) => write!(f, "a thread sleeps while it holds the spin lock {lock}"),
            Self::TooMany(lock) => write!(f, "{DEPTH} locks are held when {lock} is taken"),
        }
    }
}
