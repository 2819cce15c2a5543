//! The reverse map: from a frame to the page-table entries that map it (D5).
//!
//! A mapping is named by the place of its entry: table frame and slot. The table's record says which
//! address that is. A frame that is mapped once keeps the place in its own record; further ones go to a
//! list on the heap.
//!
//! The word: 0, or a place with [`ONE`], or a pointer to a [`Many`] with [`MANY`]; [`LOCKED`] while
//! somebody works on the list. The first mapping and the last one are a compare-and-exchange each.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::panic::Location;

use rumpvm_arch::{Frame, PAGE_SHIFT, VirtAddr};
use rumpvm_platform::{LockStep, LockUse, Platform};

use crate::NoMemory;
use crate::phys::{Page, Phys};
use crate::sync::{Ordering, class, try_box, try_push};

const ONE: u64 = 1;
const MANY: u64 = 2;
const LOCKED: u64 = 4;
const TAG_BITS: u32 = 3;
/// Slots of the largest leaf table, i386's, are 1,024.
const SLOT_BITS: u32 = 10;

/// Where an entry is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

// Its address leaves the tag's bits clear, also where a pointer has four bytes.
#[repr(align(8))]
struct Many {
    places: Vec<Place>,
}

const _: () = assert!(align_of::<Many>() >= 1 << TAG_BITS);

impl Place {
    #[inline]
    pub(super) fn new(table: Frame, slot: usize) -> Self {
        Self(u64::from(table.0) << SLOT_BITS | slot as u64)
    }

    pub(super) fn table(self) -> Frame {
        Frame((self.0 >> SLOT_BITS) as u32)
    }

    pub(super) fn slot(self) -> usize {
        self.0 as usize & ((1 << SLOT_BITS) - 1)
    }

    /// The address that the entry serves, by the record of its table.
    pub(super) fn address<P: Platform>(self, table: &Page<P>) -> VirtAddr {
        VirtAddr(table.index.get()).page_down() + ((self.slot() as u64) << PAGE_SHIFT)
    }

    #[inline]
    fn word(self) -> u64 {
        self.0 << TAG_BITS | ONE
    }

    #[inline]
    fn of(word: u64) -> Option<Self> {
        (word & (ONE | MANY) == ONE).then_some(Self(word >> TAG_BITS))
    }
}

/// The locked word of a frame that is mapped more than once, or about to be.
struct Locked<'p, P: Platform> {
    page: &'p Page<P>,
    /// What to store on unlocking.
    word: u64,
    taken: LockUse,
    interrupts: usize,
}

impl<'p, P: Platform> Locked<'p, P> {
    #[track_caller]
    fn lock(page: &'p Page<P>) -> Self {
        let address = page.rmap.address();
        let site = Location::caller();
        let taken = LockUse { class: &class::REVERSE, address, shared: false, site };
        P::lock_step(LockStep::Want, &taken);
        loop {
            let word = page.rmap.spin_while(Ordering::Relaxed, |word| word & LOCKED != 0);
            let interrupts = P::intr_save();
            if page.rmap.compare_exchange(word, word | LOCKED, Ordering::Acquire).is_ok() {
                P::lock_step(LockStep::Taken, &taken);
                return Self { page, word, taken, interrupts };
            }
            P::intr_restore(interrupts);
        }
    }

    fn many(&mut self) -> Option<&mut Many> {
        if self.word & MANY == 0 {
            return None;
        }
        // SAFETY: the word is locked by us, so the list, which `spill` put there, is ours to use.
        Some(unsafe { &mut *((self.word & !(MANY | LOCKED)) as usize as *mut Many) })
    }

    /// Replaces the one place by a list that has room for another.
    fn spill(&mut self) -> Result<(), NoMemory> {
        let mut places = Vec::new();
        if let Some(place) = Place::of(self.word) {
            // Room for four: most pages that are mapped twice end up with a few mappings.
            crate::sync::try_reserve::<_, P>(&mut places, 4)?;
            places.push(place);
        }
        let many = try_box::<_, P>(Many { places })?;
        self.word = Box::into_raw(many) as usize as u64 | MANY;
        Ok(())
    }

    /// Goes back to one place, or none, when the list is that short.
    fn shrink(&mut self) {
        let Some(many) = self.many() else { return };
        if many.places.len() > 1 {
            return;
        }
        let word = many.places.first().map_or(0, |place| place.word());
        // SAFETY: the word is locked, and no reference to the list is left; it came out of a `Box`.
        drop(unsafe { Box::from_raw((self.word & !(MANY | LOCKED)) as usize as *mut Many) });
        self.word = word;
    }
}

impl<P: Platform> Drop for Locked<'_, P> {
    fn drop(&mut self) {
        P::lock_step(LockStep::Free, &self.taken);
        self.page.rmap.store(self.word, Ordering::Release);
        P::lock_step(LockStep::Freed, &self.taken);
        P::intr_restore(self.interrupts);
    }
}

/// Notes that `place` maps `frame`. On error nothing has changed.
#[inline]
pub(super) fn add<P: Platform>(phys: &Phys<P>, frame: Frame, place: Place) -> Result<(), NoMemory> {
    let page = phys.page(frame);
    if page.rmap.compare_exchange(0, place.word(), Ordering::AcqRel).is_ok() {
        return Ok(());
    }
    let mut locked = Locked::lock(page);
    if locked.word == 0 {
        locked.word = place.word();
        return Ok(());
    }
    if locked.many().is_none() {
        locked.spill()?;
    }
    let added = match locked.many() {
        Some(many) => try_push::<_, P>(&mut many.places, place),
        None => Err(NoMemory),
    };
    locked.shrink();
    added
}

/// Notes that `place` maps a frame that nobody else knows yet.
#[inline]
pub(super) fn begin<P: Platform>(page: &Page<P>, place: Place) {
    page.rmap.set(place.word());
}

/// Forgets that `place` maps `frame`, whose record is `page`.
#[inline]
pub(super) fn remove<P: Platform>(phys: &Phys<P>, page: &Page<P>, frame: Frame, place: Place) {
    if page.rmap.compare_exchange(place.word(), 0, Ordering::AcqRel).is_ok() {
        return;
    }
    let mut locked = Locked::lock(page);
    if locked.word == place.word() {
        locked.word = 0;
        return;
    }
    // The newest mapping is the likeliest to go.
    let known = locked.many().and_then(|many| {
        let at = many.places.iter().rposition(|known| *known == place)?;
        many.places.swap_remove(at);
        Some(())
    });
    if known.is_none() {
        let (table, slot) = (place.table(), place.slot());
        phys.broken(format_args!("{frame:?} is not known to be mapped by {table:?} slot {slot}"));
    }
    locked.shrink();
}

/// Some place that maps `frame`.
pub(super) fn first<P: Platform>(phys: &Phys<P>, frame: Frame) -> Option<Place> {
    let mut locked = Locked::lock(phys.page(frame));
    match locked.many() {
        Some(many) => many.places.last().copied(),
        None => Place::of(locked.word),
    }
}

/// Calls `f` with every place that maps `frame`, with the reverse map locked, until it returns false;
/// whether it never did.
pub(super) fn try_each<P: Platform>(
    phys: &Phys<P>,
    frame: Frame,
    mut f: impl FnMut(Place) -> bool,
) -> bool {
    let mut locked = Locked::lock(phys.page(frame));
    match locked.many() {
        Some(many) => many.places.iter().all(|place| f(*place)),
        None => Place::of(locked.word).is_none_or(f),
    }
}

/// Number of places that map `frame`.
pub(super) fn count<P: Platform>(phys: &Phys<P>, frame: Frame) -> u64 {
    let mut count = 0;
    try_each(phys, frame, |_| {
        count += 1;
        true
    });
    count
}

/// Whether `place` is known to map `frame`.
pub(super) fn contains<P: Platform>(phys: &Phys<P>, frame: Frame, place: Place) -> bool {
    !try_each(phys, frame, |known| known != place)
}
