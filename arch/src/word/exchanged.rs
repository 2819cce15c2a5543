//! 64-bit words of a 32-bit CPU, by exchanges alone.
//!
//! None is inlined: a call is shorter than the instruction with the four registers that it needs. In the library for other
//! kernels that is 24 KiB of 400.

use core::sync::atomic::Ordering;

/// As core's, whatever the order: a locked exchange is sequentially consistent.
#[repr(transparent)]
pub struct AtomicU64(core::sync::atomic::AtomicU64);

impl AtomicU64 {
    /// A word that holds `value`.
    #[inline(always)]
    pub const fn new(value: u64) -> Self {
        Self(core::sync::atomic::AtomicU64::new(value))
    }

    /// What it holds.
    #[inline(never)]
    pub fn load(&self, _order: Ordering) -> u64 {
        // Changes nothing, whatever is there.
        match self.0.compare_exchange(0, 0, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(value) | Err(value) => value,
        }
    }

    /// Stores `value`.
    #[inline(always)]
    pub fn store(&self, value: u64, order: Ordering) {
        self.swap(value, order);
    }

    /// Stores `value` and returns what was there.
    #[inline(never)]
    pub fn swap(&self, value: u64, _order: Ordering) -> u64 {
        self.replace(|_| value)
    }

    /// Stores `new` if it holds `old`; returns what it held, as an error if that was something else.
    #[inline(never)]
    pub fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        _success: Ordering,
        _failure: Ordering,
    ) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
    }

    /// Adds, wrapping, and returns what was there.
    #[inline(never)]
    pub fn fetch_add(&self, value: u64, _order: Ordering) -> u64 {
        self.replace(|old| old.wrapping_add(value))
    }

    /// Subtracts, wrapping, and returns what was there.
    #[inline(never)]
    pub fn fetch_sub(&self, value: u64, _order: Ordering) -> u64 {
        self.replace(|old| old.wrapping_sub(value))
    }

    /// Sets bits and returns what was there.
    #[inline(never)]
    pub fn fetch_or(&self, value: u64, _order: Ordering) -> u64 {
        self.replace(|old| old | value)
    }

    /// Keeps only the bits of `value` and returns what was there.
    #[inline(never)]
    pub fn fetch_and(&self, value: u64, _order: Ordering) -> u64 {
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

#[cfg(test)]
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
