//! Who may have a sleep lock: the state behind its interlock, and each step that changes it.
//!
//! A step either does what was asked or says why it must wait; nothing here waits.
//!
//! G1. While somebody has it alone there are no sharers; while there are sharers nobody has it alone.
//! G2. New sharers stay out while an upgrade or somebody who wants it alone waits; those who share it already
//!     may share it again, because they are waited for.

use core::fmt;

use rumpvm_platform::Site;

/// How long a request may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// As long as it takes.
    Wait,
    /// Not at all: `LK_NOWAIT`.
    NoWait,
    /// Until [`Seam::clock`](rumpvm_platform::Seam::clock) shows this: `LK_TIMELOCK`.
    Until(u64),
}

/// Whether a thread that has the lock alone may take it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recursion {
    /// No: it is told that it would wait for itself.
    Refuse,
    /// Yes: `LK_CANRECURSE`.
    Allow,
}

/// Who has a lock, and since which place in the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Number of the thread; none for I/O, which ends it wherever it completes.
    pub thread: Option<u64>,
    /// Where it was taken, or handed over.
    pub site: Site,
}

/// Why a lock is not held as was asked. Then nothing is held that was not held before; but see
/// [`Shared::upgrade`](super::Shared::upgrade).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockError {
    /// Somebody has it, and the caller did not want to wait.
    Busy,
    /// The clock has reached the caller's limit.
    TimedOut,
    /// The caller has it himself, in a way that his request would wait for. His fault.
    Deadlock {
        /// How he has it.
        held: Holder,
        /// Where he wants it.
        wanted: Site,
    },
    /// The caller releases what he does not have. His fault.
    NotHeld {
        /// Who has it alone, if anybody.
        holder: Option<Holder>,
        /// Where it was to be released.
        site: Site,
    },
    /// Another sharer waits for his upgrade already, and only one can be the first.
    UpgradePending,
    /// It is held more than once, and cannot be given up in part.
    Recursed(Holder),
    /// It has been drained, or is being drained: its subject is going away.
    Drained,
    /// The thread has too many sleep locks.
    TooMany,
}

/// What the rules say to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Yours,
    /// Ask again when the state has changed.
    Later,
}

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum For {
    Share,
    Ownership,
    Upgrade,
    End,
}

/// The state of one lock.
#[derive(Default)]
pub(super) struct State {
    /// Who has it alone.
    pub(super) owner: Option<Holder>,
    /// How often the owner has it.
    pub(super) depth: u32,
    /// Uses by sharers.
    pub(super) shares: u32,
    /// A sharer waits to have it alone; one at most.
    upgrading: bool,
    /// Others that wait to have it alone.
    wanting: u32,
    /// All who wait to have it in any way.
    waiting: u32,
    /// Those who wait for its end.
    draining: u32,
    drained: bool,
}

impl State {
    /// Whether thread `me` has it alone.
    pub(super) fn is_owner(&self, me: u64) -> bool {
        self.owner.is_some_and(|owner| owner.thread == Some(me))
    }

    /// Whether new requests are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.drained || self.draining > 0
    }

    /// Somebody begins to wait.
    pub(super) fn waits(&mut self, what: For) {
        match what {
            For::End => self.draining += 1,
            For::Share => self.waiting += 1,
            For::Ownership => (self.waiting, self.wanting) = (self.waiting + 1, self.wanting + 1),
            For::Upgrade => (self.waiting, self.upgrading) = (self.waiting + 1, true),
        }
    }

    /// The opposite of [`State::waits`].
    pub(super) fn waits_no_more(&mut self, what: For) {
        match what {
            For::End => self.draining -= 1,
            For::Share => self.waiting -= 1,
            For::Ownership => (self.waiting, self.wanting) = (self.waiting - 1, self.wanting - 1),
            For::Upgrade => (self.waiting, self.upgrading) = (self.waiting - 1, false),
        }
    }

    /// One more share; `again` for a thread that has one.
    pub(super) fn share(&mut self, again: bool) -> Answer {
        let holds_back = !again && (self.upgrading || self.wanting > 0);
        if self.owner.is_some() || holds_back {
            return Answer::Later;
        }
        self.shares += 1;
        Answer::Yours
    }

    /// To have it alone, for a thread that has nothing of it.
    pub(super) fn own(&mut self, by: Holder) -> Answer {
        if self.owner.is_some() || self.shares > 0 {
            return Answer::Later;
        }
        (self.owner, self.depth) = (Some(by), 1);
        Answer::Yours
    }

    /// To make a share ownership, before any other sharer does.
    pub(super) fn promote(&mut self, by: Holder) -> Result<Answer, LockError> {
        if self.upgrading {
            return Err(LockError::UpgradePending);
        }
        if self.shares > 1 {
            return Ok(Answer::Later);
        }
        (self.owner, self.depth, self.shares) = (Some(by), 1, 0);
        Ok(Answer::Yours)
    }

    /// Makes ownership a share, if it is held once.
    pub(super) fn demote(&mut self) -> Result<(), LockError> {
        match self.owner {
            Some(owner) if self.depth > 1 => Err(LockError::Recursed(owner)),
            _ => {
                (self.owner, self.depth, self.shares) = (None, 0, 1);
                Ok(())
            }
        }
    }

    /// Makes I/O the owner, if it is held once.
    pub(super) fn hand_over(&mut self, site: Site) -> Result<(), LockError> {
        match self.owner {
            Some(owner) if self.depth > 1 => Err(LockError::Recursed(owner)),
            _ => {
                self.owner = Some(Holder { thread: None, site });
                Ok(())
            }
        }
    }

    /// One use less by the owner.
    pub(super) fn disown(&mut self) {
        self.depth -= 1;
        if self.depth == 0 {
            self.owner = None;
        }
    }

    /// To end it: nobody has it, and nobody who came before waits for it.
    pub(super) fn end(&mut self) -> Answer {
        if self.owner.is_some() || self.shares > 0 || self.waiting > 0 {
            return Answer::Later;
        }
        self.drained = true;
        Answer::Yours
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.thread {
            Some(thread) => write!(f, "thread {thread} since {}", self.site),
            None => write!(f, "I/O since {}", self.site),
        }
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the lock is held"),
            Self::TimedOut => f.write_str("the wait took too long"),
            Self::Deadlock { held, wanted } => {
                write!(f, "locking against oneself: wanted in {wanted}, held by {held}")
            }
            Self::NotHeld { holder: Some(holder), site } => {
                write!(f, "released in {site} by one who does not have it: held by {holder}")
            }
            Self::NotHeld { holder: None, site } => {
                write!(f, "released in {site}, and nobody has it alone")
            }
            Self::UpgradePending => f.write_str("another sharer is to have it alone first"),
            Self::Recursed(holder) => write!(f, "held more than once by {holder}"),
            Self::Drained => f.write_str("the lock has been drained"),
            Self::TooMany => f.write_str("the thread has too many sleep locks"),
        }
    }
}
