//! Locks of files, which keep out only who asks for one: those of fcntl(2), over ranges, and those of flock(2).
//!
//! Flow:  asked for -> nobody else's is in the way -> cut out of what the owner has there -> noted; or a sleep until
//!        somebody gives up a lock of the same volume.
//! Locks: a list's, for a search.
//! Sleep: who asks to wait.
//! Owns:  each volume has the list of its files' locks.
//!
//! K1. A lock goes before its owner does: a process's table of descriptors gives up its locks of a file whenever it
//!     loses a descriptor of that file, and an open file gives up its own when it is closed for the last time.
//! K2. Locks of one owner on one file do not overlap, and those of a kind do not touch.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering as CoreOrdering};

use rumpvm::Hold;
use rumpvm::sync::{Atomic, Ordering, Spin, try_reserve};
use rumpvm_platform::Platform;

use crate::access::Rights;
use crate::class;
use crate::errno::Errno;
use crate::node::Node;
use crate::open::Open;
use crate::wait::{Queue, Waker, wait};

/// What a lock is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Reading: others may read as well.
    Shared,
    /// Writing: nobody else has any.
    Exclusive,
}

/// Which locks know of each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Those of fcntl(2).
    Ranges,
    /// Those of flock(2), which are of whole files.
    Files,
}

/// Bytes from the first to the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The first.
    pub first: u64,
    /// The last one, which is a lock's own.
    pub last: u64,
}

/// Whose a lock is: of a table of descriptors, or of an open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner(u64);

/// What somebody asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Of which kind.
    pub family: Family,
    /// Whose it is to be.
    pub owner: Owner,
    /// Where.
    pub range: Range,
    /// As whose process it is shown; 0 for an open file's.
    pub pid: u32,
}

/// A lock that somebody has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// How it was asked for.
    pub ask: Ask,
    /// What for.
    pub kind: Use,
    node: u64,
}

/// The locks of one volume's files.
pub struct Locks<P: Platform> {
    list: Spin<Vec<Held>, P>,
    /// How many there are, so that who closes a file without any takes no lock.
    count: Atomic<u64, P>,
    given_up: Queue<P>,
}

impl Range {
    /// All that a file can have.
    pub const ALL: Self = Self { first: 0, last: i64::MAX as u64 };

    fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn touches(self, other: Self) -> bool {
        self.first <= other.last.saturating_add(1) && other.first <= self.last.saturating_add(1)
    }
}

impl Owner {
    /// One that nobody has been.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, CoreOrdering::Relaxed))
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn of_word(word: u64) -> Self {
        Self(word)
    }
}

impl Held {
    fn is_of(&self, node: u64, ask: &Ask) -> bool {
        self.node == node && self.ask.family == ask.family && self.ask.owner == ask.owner
    }

    fn is_in_the_way(&self, node: u64, ask: &Ask, kind: Use) -> bool {
        self.node == node
            && self.ask.family == ask.family
            && self.ask.owner != ask.owner
            && self.ask.range.meets(ask.range)
            && (self.kind == Use::Exclusive || kind == Use::Exclusive)
    }
}

impl<P: Platform> Locks<P> {
    pub(crate) fn new() -> Self {
        Self {
            list: Spin::new(&class::LOCKS, Vec::new()),
            count: Atomic::new(0),
            given_up: Queue::new(),
        }
    }

    /// A lock that is in the way of `ask`.
    fn in_the_way(&self, node: u64, ask: &Ask, kind: Use) -> Option<Held> {
        let list = self.list.lock();
        list.iter().find(|held| held.is_in_the_way(node, ask, kind)).copied()
    }

    /// Takes it, if nobody's is in the way: `false` otherwise.
    fn try_take(&self, node: u64, ask: &Ask, kind: Use) -> Result<bool, Errno> {
        let mut list = self.list.lock();
        if list.iter().any(|held| held.is_in_the_way(node, ask, kind)) {
            return Ok(false);
        }
        // The new one, and the far end of one that it is cut out of.
        if try_reserve::<_, P>(&mut list, 2).is_err() {
            drop(list);
            return Err(Errno::ENOLCK);
        }
        // One that does the same right beside it becomes a part of it (K2).
        let mut ask = *ask;
        list.retain(|held| {
            let joins =
                held.is_of(node, &ask) && held.kind == kind && held.ask.range.touches(ask.range);
            if joins {
                let (mine, other) = (ask.range, held.ask.range);
                ask.range.first = mine.first.min(other.first);
                ask.range.last = mine.last.max(other.last);
            }
            !joins
        });
        let weakens = cut(&mut list, node, &ask);
        list.push(Held { ask, kind, node });
        self.count.store(list.len() as u64, Ordering::Release);
        drop(list);
        if weakens {
            self.given_up.wake();
        }
        Ok(true)
    }

    /// Gives up whatever the owner has there.
    fn give_up(&self, node: u64, ask: &Ask) -> Result<(), Errno> {
        let mut list = self.list.lock();
        let splits = list.iter().any(|held| {
            let (inner, outer) = (ask.range, held.ask.range);
            held.is_of(node, ask) && outer.first < inner.first && inner.last < outer.last
        });
        if splits && try_reserve::<_, P>(&mut list, 1).is_err() {
            drop(list);
            return Err(Errno::ENOLCK);
        }
        let had = cut(&mut list, node, ask);
        self.count.store(list.len() as u64, Ordering::Release);
        drop(list);
        if had {
            self.given_up.wake();
        }
        Ok(())
    }

    /// The owner loses all its locks on a file (K1).
    pub(crate) fn forget(&self, node: u64, owner: Owner) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut list = self.list.lock();
        let before = list.len();
        list.retain(|held| held.node != node || held.ask.owner != owner);
        let lost = before - list.len();
        self.count.store(list.len() as u64, Ordering::Release);
        drop(list);
        if lost > 0 {
            self.given_up.wake();
        }
    }
}

/// Cuts the range of `ask` out of what its owner has; there must be room for one more. Whether there was anything.
fn cut(list: &mut Vec<Held>, node: u64, ask: &Ask) -> bool {
    let (mut had, mut far_end) = (false, None);
    let hole = ask.range;
    list.retain_mut(|held| {
        let range = held.ask.range;
        if !held.is_of(node, ask) || !range.meets(hole) {
            return true;
        }
        had = true;
        let (before, behind) = (range.first < hole.first, hole.last < range.last);
        if before && behind {
            let mut end = *held;
            end.ask.range.first = hole.last + 1;
            far_end = Some(end);
        }
        match (before, behind) {
            (true, _) => held.ask.range.last = hole.first - 1,
            (false, true) => held.ask.range.first = hole.last + 1,
            (false, false) => return false,
        }
        true
    });
    list.extend(far_end);
    had
}

impl<P: Platform> Open<P> {
    /// A lock that is in the way of one here: `F_GETLK`.
    pub fn lock_in_the_way(&self, ask: &Ask, kind: Use) -> Option<Held> {
        let node = self.node();
        node.volume().locks().in_the_way(node.number(), ask, kind)
    }

    /// Takes a lock; [`Errno::EAGAIN`] if another is in the way, unless the caller brings a waker to wait with.
    pub fn lock(
        &self,
        ask: &Ask,
        kind: Use,
        waits: Option<&Hold<Waker<P>, P>>,
    ) -> Result<(), Errno> {
        let needed = match kind {
            Use::Shared => Rights::READ,
            Use::Exclusive => Rights::WRITE,
        };
        if ask.family == Family::Ranges && !self.rights().contains(needed) {
            return Err(Errno::EBADF);
        }
        let (locks, number) = (self.node().volume().locks(), self.node().number());
        let Some(waker) = waits else {
            return if locks.try_take(number, ask, kind)? { Ok(()) } else { Err(Errno::EAGAIN) };
        };
        wait(waker, &[&locks.given_up], None, || match locks.try_take(number, ask, kind) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        })?
    }

    /// Gives up the owner's locks in a range.
    pub fn unlock(&self, ask: &Ask) -> Result<(), Errno> {
        let node = self.node();
        node.volume().locks().give_up(node.number(), ask)
    }
}

impl<P: Platform> Node<P> {
    /// `owner` has lost a descriptor of it, or is one that is closed (K1).
    pub(crate) fn forget_locks(&self, owner: Owner) {
        self.volume().locks().forget(self.number(), owner);
    }
}
