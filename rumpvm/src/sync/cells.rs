//! The atomics themselves: core's, or under `--cfg loom` those of the loom checker, which tries every order and
//! every value that the memory model allows.
//!
//! Only primitives in records of their own can be checked so: loom's atomics are larger than what they hold, so
//! nothing that lies in a frame, or is counted in bytes, works with them. `tests/loom` says what is checked.

use core::{mem, ptr};

use rumpvm_platform::{Seam, Site};

pub use core::sync::atomic::Ordering;
pub(super) use core::sync::atomic::compiler_fence;

#[cfg(all(not(loom), target_arch = "x86"))]
pub(super) use self::exchanged::AtomicU64;
#[cfg(all(not(loom), not(target_arch = "x86")))]
pub(super) use core::sync::atomic::AtomicU64;
#[cfg(not(loom))]
pub(super) use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32};
#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64};

/// Whether a swap that is sequentially consistent is a full fence too: no later load goes before it. It is on x86,
/// where it costs less than a store and a fence. The language's model does not promise it, so loom gets both.
pub(super) const SWAP_IS_FENCE: bool = cfg!(not(loom));

/// A sequentially consistent fence.
#[inline(always)]
pub(super) fn fence() {
    #[cfg(not(loom))]
    core::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// As [`fence`], for ThreadSanitizer. It does not know fences; it knows that all who change one word come in an
/// order.
#[inline(always)]
pub(super) fn fence_by_word() {
    static ORDER: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);
    ORDER.fetch_add(1, Ordering::SeqCst);
}

/// Takes the pointer out of a cell that nobody else has; leaves null.
#[inline(always)]
pub(super) fn take<T>(cell: &mut AtomicPtr<T>) -> *mut T {
    #[cfg(not(loom))]
    return mem::replace(cell.get_mut(), ptr::null_mut());
    #[cfg(loom)]
    return cell.with_mut(|pointer| mem::replace(pointer, ptr::null_mut()));
}

/// Has the home put the thread to sleep: [`Seam::sleep`].
#[inline(always)]
#[cfg_attr(loom, expect(unused_variables, reason = "the home is not asked"))]
pub(super) fn sleep<S: Seam>(word: &AtomicU32, expected: u32, until: Option<u64>, site: Site) {
    #[cfg(not(loom))]
    S::sleep(word, expected, until, site);
    #[cfg(loom)]
    bed::sleep(word, expected, until.is_some());
}

/// Has the home wake who sleeps: [`Seam::wakeup`].
#[inline(always)]
#[cfg_attr(loom, expect(unused_variables, reason = "the home is not asked"))]
pub(super) fn wakeup<S: Seam>(word: &AtomicU32, site: Site) {
    #[cfg(not(loom))]
    S::wakeup(word, site);
    #[cfg(loom)]
    bed::wakeup();
}

/// Sleep under loom, in place of the home's, which knows core's atomics only. Who is not woken sleeps for good,
/// which loom reports as a deadlock.
#[cfg(loom)]
mod bed {
    use super::*;
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        /// One for all words: who is woken looks at his own.
        static ref BED: Mutex<()> = Mutex::new(());
        static ref BELL: Condvar = Condvar::new();
    }

    /// Sleeps until the word has changed and somebody wakes. No model has a clock: a limit is over at once.
    pub(super) fn sleep(word: &AtomicU32, expected: u32, limited: bool) {
        let mut guard = BED.lock().unwrap();
        while !limited && word.load(Ordering::Relaxed) == expected {
            guard = BELL.wait(guard).unwrap();
        }
    }

    pub(super) fn wakeup() {
        let _guard = BED.lock().unwrap();
        BELL.notify_all();
    }
}

/// 64-bit words of a 32-bit CPU. Compilers load and store them whole through the FPU (`fild`, `fistp`), whose registers
/// are a program's while its kernel runs. `cmpxchg8b` needs none; all of these come down to it.
#[cfg(any(test, all(not(loom), target_arch = "x86")))]
mod exchanged {
    use core::sync::atomic::Ordering;

    /// As core's, whatever the order: a locked exchange is sequentially consistent.
    #[repr(transparent)]
    #[allow(
        unreachable_pub,
        reason = "`Word` is public and has it for its cell, as core's elsewhere"
    )]
    pub struct AtomicU64(core::sync::atomic::AtomicU64);

    impl AtomicU64 {
        #[inline(always)]
        pub(crate) const fn new(value: u64) -> Self {
            Self(core::sync::atomic::AtomicU64::new(value))
        }

        #[inline(always)]
        pub(crate) fn load(&self, _order: Ordering) -> u64 {
            // Changes nothing, whatever is there.
            match self.0.compare_exchange(0, 0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(value) | Err(value) => value,
            }
        }

        #[inline(always)]
        pub(crate) fn store(&self, value: u64, order: Ordering) {
            self.swap(value, order);
        }

        #[inline(always)]
        pub(crate) fn swap(&self, value: u64, _order: Ordering) -> u64 {
            self.replace(|_| value)
        }

        #[inline(always)]
        pub(crate) fn compare_exchange(
            &self,
            old: u64,
            new: u64,
            _success: Ordering,
            _failure: Ordering,
        ) -> Result<u64, u64> {
            self.0.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
        }

        #[inline(always)]
        pub(crate) fn fetch_add(&self, value: u64, _order: Ordering) -> u64 {
            self.replace(|old| old.wrapping_add(value))
        }

        #[inline(always)]
        pub(crate) fn fetch_sub(&self, value: u64, _order: Ordering) -> u64 {
            self.replace(|old| old.wrapping_sub(value))
        }

        #[inline(always)]
        pub(crate) fn fetch_or(&self, value: u64, _order: Ordering) -> u64 {
            self.replace(|old| old | value)
        }

        #[inline(always)]
        pub(crate) fn fetch_and(&self, value: u64, _order: Ordering) -> u64 {
            self.replace(|old| old & value)
        }

        /// Replaces what is there by what `next` makes of it; returns what was there.
        #[inline(always)]
        fn replace(&self, next: impl Fn(u64) -> u64) -> u64 {
            // A guess. Words that are all zeros are common, and a wrong one costs no more than a load would.
            let mut old = 0;
            loop {
                match self.0.compare_exchange(old, next(old), Ordering::SeqCst, Ordering::SeqCst) {
                    Ok(_) => return old,
                    Err(seen) => old = seen,
                }
            }
        }
    }

    #[cfg(all(test, not(loom)))]
    mod tests {
        extern crate std;

        use super::*;
        use std::thread;

        #[test]
        fn a_word_is_what_was_stored_and_no_addition_is_lost() {
            const HIGH: u64 = 1 << 40;
            let order = Ordering::Relaxed;
            let word = AtomicU64::new(HIGH | 1);
            assert_eq!((word.load(order), word.swap(0, order)), (HIGH | 1, HIGH | 1));
            word.store(HIGH | 6, order);
            assert_eq!((word.fetch_and(!4, order), word.fetch_or(8, order)), (HIGH | 6, HIGH | 2));
            assert_eq!(word.fetch_sub(HIGH + 11, order), HIGH | 10);
            assert_eq!(word.load(order), u64::MAX);
            assert_eq!(word.compare_exchange(0, 7, order, order), Err(u64::MAX));
            assert_eq!(word.compare_exchange(u64::MAX, 0, order, order), Ok(u64::MAX));
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..10_000 {
                            word.fetch_add(HIGH | 1, order);
                        }
                    });
                }
            });
            assert_eq!(word.load(order), 20_000 * (HIGH | 1));
        }
    }
}
