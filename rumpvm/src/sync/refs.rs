//! Uses of a record: the first of two stages of its end.
//!
//! A *hold* ([`Hold`](super::Hold)) keeps the memory of a record; a *use* keeps what the record stands for. Who
//! only wants to look at a record later, perhaps after its end, holds it; who needs what it stands for uses it,
//! and gets in only while somebody does. Stage one runs once, by whoever gives up the last use; stage two is
//! the record's drop, at the last hold. As vmspace has them in DragonFly (`vm_refcnt`, `vm_holdcnt`).
//!
//! U1. A count that has reached zero stays there: what has begun to end is not used again.
//! U2. [`Uses::leave`] says [`Left::Last`] once.

use rumpvm_platform::Seam;

use super::seam::{Atomic, Ordering};

/// Number of uses.
pub struct Uses<S> {
    count: Atomic<u64, S>,
}

/// What is left after a use has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "whoever gives up the last use carries out stage one"]
pub enum Left {
    /// Other uses.
    Others,
    /// Nothing: stage one is the caller's.
    Last,
}

impl<S: Seam> Default for Uses<S> {
    fn default() -> Self {
        Self::one()
    }
}

impl<S: Seam> Uses<S> {
    /// One use.
    pub fn one() -> Self {
        Self { count: Atomic::new(1) }
    }

    /// Number of uses; 0 once stage one has begun. Stale at once unless nobody runs, but 0 stays.
    #[inline]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// One more, for somebody who has one.
    pub fn add(&self) {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        debug_assert_ne!(before, 0, "a use is added to what has ended");
    }

    /// One more, unless it has ended; whether there is one (U1).
    #[must_use = "without a use nothing may be used"]
    pub fn try_add(&self) -> bool {
        let mut count = self.count();
        while count != 0 {
            match self.count.compare_exchange(count, count + 1, Ordering::AcqRel) {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    /// One less (U2).
    pub fn leave(&self) -> Left {
        let before = self.count.fetch_sub(1, Ordering::AcqRel);
        debug_assert_ne!(before, 0, "a use is given up that nobody has");
        if before == 1 { Left::Last } else { Left::Others }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::sync::atomic::{AtomicU32, Ordering};
    use std::sync::Arc;

    use super::*;
    use crate::sync::Hold;
    use crate::sync::tests::Threads;

    /// A record that counts its two ends.
    struct Record {
        uses: Uses<Threads>,
        ends: Arc<[AtomicU32; 2]>,
    }

    impl Record {
        fn end(&self) {
            let before = self.ends[0].fetch_add(1, Ordering::SeqCst);
            assert_eq!((before, self.ends[1].load(Ordering::SeqCst)), (0, 0));
        }
    }

    impl Drop for Record {
        fn drop(&mut self) {
            assert_eq!(self.ends[0].load(Ordering::SeqCst), 1, "stage two comes after stage one");
            self.ends[1].fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn every_use_counts_until_it_is_given_up() {
        let uses = Uses::<Threads>::one();
        uses.add();
        assert!(uses.try_add() && uses.count() == 3);
        assert_eq!([(); 3].map(|()| uses.leave()), [Left::Others, Left::Others, Left::Last]);
        assert_eq!(uses.count(), 0);
    }

    #[test]
    fn stage_one_runs_once_at_the_last_use_and_stage_two_at_the_last_hold() {
        for _ in 0..500 {
            let ends = Arc::new([const { AtomicU32::new(0) }; 2]);
            let record = Record { uses: Uses::one(), ends: Arc::clone(&ends) };
            let hold = Hold::<_, Threads>::try_new(record).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    let hold = hold.clone();
                    scope.spawn(move || {
                        if hold.uses.try_add() {
                            assert_eq!(hold.ends[0].load(Ordering::SeqCst), 0);
                            if hold.uses.leave() == Left::Last {
                                hold.end();
                            }
                        }
                        assert_eq!(hold.ends[1].load(Ordering::SeqCst), 0);
                    });
                }
                if hold.uses.leave() == Left::Last {
                    hold.end();
                }
            });
            assert!(!hold.uses.try_add(), "what has ended is not used again");
            drop(hold);
            assert_eq!(ends[1].load(Ordering::SeqCst), 1);
        }
    }
}
