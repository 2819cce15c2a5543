//! The atomics themselves: core's, or under `--cfg loom` those of the loom checker, which tries every order and every value
//! that the memory model allows. What core's words of 64 bits are on a CPU of 32, `rumpvm-arch` says.
//!
//! Only primitives in records of their own can be checked so: loom's atomics are larger than what they hold, so
//! nothing that lies in a frame, or is counted in bytes, works with them. `tests/loom` says what is checked.

use core::{mem, ptr};

use rumpvm_platform::{Seam, Site};

pub use core::sync::atomic::Ordering;
pub(super) use core::sync::atomic::compiler_fence;

#[cfg(not(loom))]
pub(super) use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32};
#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64};
#[cfg(not(loom))]
pub(super) use rumpvm_arch::AtomicU64;

/// Whether a swap that is sequentially consistent is a full fence too: no later load goes before it. It is on x86,
/// where it costs less than a store and a fence. The language's model does not promise it, so loom gets both.
pub(super) const SWAP_IS_FENCE: bool = cfg!(not(loom));

/// Functions that can be called where a `static` gets its value; but under loom, whose atomics are made at run time.
macro_rules! const_unless_loom {
    ($(#[$what:meta])* pub const fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$what])*
        pub const fn $($rest)*
        #[cfg(loom)]
        $(#[$what])*
        pub fn $($rest)*
    };
}
pub(super) use const_unless_loom;

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
