//! The generation of a map: how a fault learns that what it looked up is no longer so (V2).

use rumpvm_platform::Platform;

use crate::sync::{Atomic, Ordering, fence};

/// Even: stable. Odd: frozen, no fault may decide.
pub(crate) struct Generation<P> {
    number: Atomic<u32, P>,
    /// Faults that sleep until it is even again.
    sleepers: Atomic<u32, P>,
}

/// While this lives no fault of the space decides anything: pages may be moved or taken away under
/// addresses that stay mapped. With the map's lock held.
#[must_use = "dropping it lets faults go on"]
pub(super) struct Frozen<'g, P: Platform> {
    generation: &'g Generation<P>,
}

impl<P: Platform> Generation<P> {
    pub(super) fn new() -> Self {
        Self { number: Atomic::new(0), sleepers: Atomic::new(0) }
    }

    /// The number to decide under; sleeps while the map is frozen.
    #[inline]
    pub(crate) fn begin(&self) -> u32 {
        loop {
            let number = self.number.load(Ordering::Acquire);
            if number.is_multiple_of(2) {
                return number;
            }
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            self.number.sleep_while(number);
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether what was decided under `number` still holds. To be asked with the page table locked that
    /// the decision is about to change.
    #[inline]
    pub(crate) fn still(&self, number: u32) -> bool {
        self.number.load(Ordering::Acquire) == number
    }

    /// Makes every decision that is not carried out yet fail. With the map's lock held, after the change
    /// that invalidates it and before page tables are looked at.
    pub(super) fn next(&self) {
        self.number.store(self.number.get().wrapping_add(2), Ordering::SeqCst);
        fence::<P>();
    }

    /// Stops faults until the result is dropped. With the map's lock held.
    pub(super) fn freeze(&self) -> Frozen<'_, P> {
        debug_assert!(self.number.get().is_multiple_of(2));
        self.number.store(self.number.get().wrapping_add(1), Ordering::SeqCst);
        fence::<P>();
        Frozen { generation: self }
    }
}

impl<P: Platform> Drop for Frozen<'_, P> {
    fn drop(&mut self) {
        let generation = self.generation;
        generation.number.store(generation.number.get().wrapping_add(1), Ordering::SeqCst);
        fence::<P>();
        if generation.sleepers.load(Ordering::SeqCst) != 0 {
            generation.number.wake_sleepers();
        }
    }
}
