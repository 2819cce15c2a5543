//! The words of one token: who has it, how often, and whether somebody sleeps for it.
//!
//! Nothing here sleeps but [`RawToken::sleep`], and that with every token of the thread given up.
//!
//! W1. A free token's word is [`FREE`]: the marks of those who sleep go with the last holder, who wakes them
//!     all, and each of them sets its marks again if it has to sleep once more.
//! W2. Under an exclusive holder all shares are the holder's own.

use core::ptr;

use rumpvm_platform::{LockUse, Seam};

use crate::sync::seam::{Atomic, Ordering};

const FREE: u32 = 0;
/// One thread has it alone.
const EXCLUSIVE: u32 = 1;
/// Somebody sleeps for it.
const SLEEPERS: u32 = 2;
/// One of those wants it alone: who holds no token holds back.
const EXCLUSIVE_WANTED: u32 = 4;
/// One share; the count fills the rest of the word.
const SHARE: u32 = 8;
const NOBODY: u64 = 0;

pub(super) struct RawToken<S> {
    word: Atomic<u32, S>,
    /// Number of the thread that has it alone.
    owner: Atomic<u64, S>,
}

/// How a token was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Alone,
    /// As one share; also what a thread gets that has it alone already.
    Share,
}

/// It has to be waited for; the word as it was.
pub(super) struct Taken(u32);

impl<S: Seam> RawToken<S> {
    pub(super) fn new() -> Self {
        Self { word: Atomic::new(FREE), owner: Atomic::new(NOBODY) }
    }

    /// Its name. The address is exposed, so that [`RawToken::of`] finds the way back.
    #[inline]
    pub(super) fn address(&self) -> usize {
        ptr::from_ref(self).expose_provenance()
    }

    /// The token that `entry` names.
    ///
    /// # Safety
    /// `entry` is in the list of a thread: its token is alive, because the call that put it there borrows it.
    pub(super) unsafe fn of<'t>(entry: &LockUse) -> &'t Self {
        // SAFETY: the address was exposed by `address`, and the token is alive by the caller's promise.
        unsafe { &*ptr::with_exposed_provenance(entry.address) }
    }

    /// Takes it as `shared` says, if that is possible now, for thread `me`, which has no other token if it is
    /// `alone`.
    #[inline]
    pub(super) fn try_take(&self, shared: bool, me: u64, alone: bool) -> Result<Counted, Taken> {
        let (one, counted) =
            if shared { (SHARE, Counted::Share) } else { (EXCLUSIVE, Counted::Alone) };
        match self.word.compare_exchange(FREE, one, Ordering::Acquire) {
            Ok(_) => {
                if !shared {
                    self.owner.set(me);
                }
                Ok(counted)
            }
            Err(seen) => self.try_share(seen, shared, me, alone),
        }
    }

    /// Takes it although it is not free: as another share, or as a share of the one that `me` has alone.
    #[cold]
    fn try_share(
        &self,
        mut seen: u32,
        shared: bool,
        me: u64,
        alone: bool,
    ) -> Result<Counted, Taken> {
        loop {
            let is_mine = seen & EXCLUSIVE != 0 && self.owner.load(Ordering::Relaxed) == me;
            let holds_back = alone && seen & EXCLUSIVE_WANTED != 0;
            let may_share = shared && seen & EXCLUSIVE == 0 && !holds_back;
            if !is_mine && !may_share {
                return Err(Taken(seen));
            }
            match self.word.compare_exchange(seen, seen + SHARE, Ordering::Acquire) {
                Ok(_) => return Ok(Counted::Share),
                Err(now) => seen = now,
            }
        }
    }

    /// Gives back one use of it, which counts as a share or not.
    #[inline]
    pub(super) fn give_back(&self, shared: bool) {
        let before = if shared {
            self.give_share_back()
        } else {
            self.owner.set(NOBODY);
            self.word.swap(FREE, Ordering::Release)
        };
        if before & SLEEPERS != 0 {
            self.word.wake_sleepers();
        }
    }

    /// Returns the marks that went with the last holder.
    fn give_share_back(&self) -> u32 {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let is_last = seen & EXCLUSIVE == 0 && seen < 2 * SHARE;
            let left = if is_last { FREE } else { seen - SHARE };
            match self.word.compare_exchange(seen, left, Ordering::Release) {
                Ok(_) => return if is_last { seen } else { FREE },
                Err(now) => seen = now,
            }
        }
    }

    /// Sleeps until the token may have changed hands since it was found `taken`; may return early. With no
    /// token held.
    pub(super) fn sleep(&self, taken: &Taken, shared: bool) {
        let marks = if shared { SLEEPERS } else { SLEEPERS | EXCLUSIVE_WANTED };
        let (seen, marked) = (taken.0, taken.0 | marks);
        let is_marked =
            seen == marked || self.word.compare_exchange(seen, marked, Ordering::Relaxed).is_ok();
        if is_marked {
            self.word.sleep_while(marked);
        }
    }

    /// Whether anybody holds it. Stale at once unless nobody runs.
    pub(super) fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }
}
