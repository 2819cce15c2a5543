//! Made-up shortages: the n-th allocation from now fails, so that a test can try every n.

use std::sync::atomic::{AtomicU64, Ordering};

use rumpvm_platform::Scarce;

/// Allocations until the one that fails; zero when none will.
#[derive(Default)]
pub(crate) struct Scarcity {
    frame: AtomicU64,
    heap: AtomicU64,
}

impl Scarcity {
    pub(crate) fn fail_nth(&self, what: Scarce, nth: u64) {
        self.countdown(what).store(nth, Ordering::SeqCst);
    }

    pub(crate) fn is_pending(&self, what: Scarce) -> bool {
        self.countdown(what).load(Ordering::SeqCst) != 0
    }

    /// Counts one allocation, and says whether it is the one to fail.
    #[inline]
    pub(crate) fn fails(&self, what: Scarce) -> bool {
        let left = self.countdown(what);
        if left.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let step = |left: u64| left.checked_sub(1);
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) == Ok(1)
    }

    fn countdown(&self, what: Scarce) -> &AtomicU64 {
        match what {
            Scarce::Frame => &self.frame,
            Scarce::Heap => &self.heap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_nth_allocation_of_its_kind_fails() {
        let scarcity = Scarcity::default();
        assert!(!scarcity.fails(Scarce::Frame));

        scarcity.fail_nth(Scarce::Frame, 3);

        let outcomes: Vec<bool> = (0..5).map(|_| scarcity.fails(Scarce::Frame)).collect();
        assert_eq!(outcomes, [false, false, true, false, false]);
        assert!(!scarcity.fails(Scarce::Heap));
        assert!(!scarcity.is_pending(Scarce::Frame));
    }
}
