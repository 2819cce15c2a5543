//! Wait channels by generation: read the generation, look around, sleep while it is unchanged.
//!
//! What has been changed before [`Event::raise`] is seen by whoever reads the generation afterwards, and
//! whoever read it before does not sleep: no wake-up is lost between the look and the sleep. A generation
//! would have to be raised 2^32 times during one look to be taken for unchanged.
//!
//! Locks: none. The waiter may hold tokens, which are given up while it sleeps, and no spin lock.
//! Sleep: [`Event::wait`] and [`Event::wait_until`].

use rumpvm_platform::Seam;

use super::seam::{Atomic, Ordering};

/// Something that threads wait for.
pub struct Event<S> {
    generation: Atomic<u32, S>,
}

/// The generation that somebody read before looking around.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "read it before the look, and sleep on it after"]
pub struct Seen(u32);

impl<S: Seam> Default for Event<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Seam> Event<S> {
    /// One that has never been raised.
    pub fn new() -> Self {
        Self { generation: Atomic::new(0) }
    }

    /// The generation now. To be read before the look that decides whether to sleep.
    #[inline]
    #[track_caller]
    pub fn seen(&self) -> Seen {
        Seen(self.generation.load(Ordering::Acquire))
    }

    /// Sleeps until the event has been raised since `seen` was read; may return early.
    #[track_caller]
    pub fn wait(&self, seen: Seen) {
        self.wait_until(seen, None);
    }

    /// As [`Event::wait`], until the clock has reached `until` at most.
    #[track_caller]
    pub fn wait_until(&self, seen: Seen, until: Option<u64>) {
        if self.seen() == seen {
            self.generation.sleep_until(seen.0, until);
        }
    }

    /// Wakes whoever waits. To be called after the change that they wait for.
    #[track_caller]
    pub fn raise(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.generation.wake_sleepers();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::sync::tests::Threads;

    #[test]
    fn no_wake_up_is_lost_between_the_look_and_the_sleep() {
        // Each side waits for the other's count; a wake-up that is lost stops both.
        const ROUNDS: u64 = 5_000;
        let (event, counts) = (Event::<Threads>::new(), [const { AtomicU64::new(0) }; 2]);
        std::thread::scope(|scope| {
            for side in 0..2 {
                let (event, counts) = (&event, &counts);
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        counts[side].store(round, Ordering::Release);
                        event.raise();
                        loop {
                            let seen = event.seen();
                            if counts[1 - side].load(Ordering::Acquire) >= round {
                                break;
                            }
                            event.wait(seen);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn an_event_raised_since_the_look_ends_the_sleep_at_once() {
        let event = Event::<Threads>::new();
        let seen = event.seen();
        event.raise();
        event.wait(seen);
        assert_ne!(event.seen(), seen);
    }
}
