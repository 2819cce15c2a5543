//! A value that comes once, at some time, and then stays.
//!
//! O1. Who sees `FULL` sees the value, which nobody writes any more.

use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, needs_drop};

use rumpvm_platform::Seam;

use super::seam::{Atomic, Ordering};

const EMPTY: u32 = 0;
const FILLING: u32 = 1;
const FULL: u32 = 2;

/// Room for a value that comes once.
pub struct Once<T, S> {
    state: Atomic<u32, S>,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is written by the one who made the state `FILLING`, and shared from then on (O1).
unsafe impl<T: Send + Sync, S> Sync for Once<T, S> {}

impl<T, S: Seam> Default for Once<T, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, S: Seam> Once<T, S> {
    /// Room without a value.
    pub fn new() -> Self {
        const { assert!(!needs_drop::<T>(), "nobody drops it") };
        Self { state: Atomic::new(EMPTY), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The value, if it has come.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: it was written before the state was stored (O1).
        (self.state.load(Ordering::Acquire) == FULL)
            .then(|| unsafe { (*self.value.get()).assume_init_ref() })
    }

    /// Puts `value` there, unless there is one, or about to be; then it comes back.
    pub fn set(&self, value: T) -> Result<&T, T> {
        if self.state.compare_exchange(EMPTY, FILLING, Ordering::Acquire).is_err() {
            return Err(value);
        }
        // SAFETY: only one caller gets here, and nobody reads before the state is stored (O1).
        let value = unsafe { (*self.value.get()).write(value) };
        self.state.store(FULL, Ordering::Release);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::sync::tests::Threads;

    #[test]
    fn of_several_values_one_stays_and_everybody_sees_all_of_it() {
        for _ in 0..200 {
            let once = Once::<[u64; 8], Threads>::new();
            let winners = core::sync::atomic::AtomicU32::new(0);
            assert_eq!(once.get(), None);
            std::thread::scope(|scope| {
                for number in 1..4 {
                    let (once, winners) = (&once, &winners);
                    scope.spawn(move || {
                        match once.set([number; 8]) {
                            Ok(stays) => {
                                assert_eq!(*stays, [number; 8]);
                                winners.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(refused) => assert_eq!(refused, [number; 8]),
                        }
                        if let Some(value) = once.get() {
                            assert_eq!(*value, [value[0]; 8]);
                        }
                    });
                }
            });
            assert_eq!(winners.into_inner(), 1);
            assert!(once.get().is_some());
        }
    }
}
