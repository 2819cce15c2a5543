//! Handles: the numbers by which a host names spaces and objects, checked at every use.
//!
//! Flow:  number -> slot, if its generation is still that -> one more use -> the space, until the use is dropped.
//! Locks: the free list's; a use takes none.
//! Owns:  one user of what has a handle, until the last use of a closed slot hands it back. Slots stay for good.
//!
//! H1. A slot's word says everything: generation, open or not, uses. Only who gets a use from an open slot sees the space.
//! H2. A slot that is closed and has no uses belongs to whoever made it so. The next handle of it has another generation.

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ops::Deref;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use rumpvm::sync::Atomic;
#[cfg(feature = "spaces")]
use rumpvm::{Hold, Space};

use crate::errno::{Errno, RUMPVM_EBADF, RUMPVM_ENOMEM, RUMPVM_ENOSPC};
use crate::home::Foreign;
use crate::lock::Lock;

#[cfg(feature = "spaces")]
type Held = Hold<Space<Foreign>, Foreign>;

/// Slots that are made at a time.
const CHUNK: u32 = 64;
/// As often: 65,536 of a kind.
const CHUNKS: u32 = 1024;

/// Of a slot's word: the slot is open.
const OPEN: u64 = 1 << 31;
/// Of a slot's word: how many use it.
const USES: u64 = OPEN - 1;
/// No slot, in the free list.
const NONE: u32 = u32::MAX;

/// A place for one space.
struct Slot<T> {
    /// Generation in the upper half, [`OPEN`], [`USES`].
    word: Atomic<u64, Foreign>,
    /// The next free slot. Under the table's lock.
    next: AtomicU32,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is written by the slot's one owner (H2), and read by who has a use (H1).
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

struct Free {
    first: u32,
    made: u32,
}

/// Slots, and which are free.
pub(crate) struct Table<T: 'static> {
    chunks: [AtomicPtr<[Slot<T>; CHUNK as usize]>; CHUNKS as usize],
    free: Lock<Free>,
}

/// Spaces by handle.
#[cfg(feature = "spaces")]
pub(crate) static SPACES: Table<Held> = Table::new();

/// A use of what a handle names.
pub(crate) struct Use<T: 'static> {
    table: &'static Table<T>,
    slot: &'static Slot<T>,
    index: u32,
}

/// A slot for something that is yet to be made.
pub(crate) struct Reserved<T: 'static> {
    table: &'static Table<T>,
    index: u32,
    /// It was filled.
    filled: bool,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: [const { AtomicPtr::new(core::ptr::null_mut()) }; CHUNKS as usize],
            free: Lock::new(Free { first: NONE, made: 0 }),
        }
    }

    fn slot(&self, index: u32) -> Option<&'static Slot<T>> {
        let chunk = self.chunks.get((index / CHUNK) as usize)?.load(Ordering::Acquire);
        // SAFETY: a chunk is leaked before it is published.
        let chunk: &'static [Slot<T>; CHUNK as usize] = unsafe { chunk.as_ref()? };
        Some(&chunk[(index % CHUNK) as usize])
    }

    /// A free slot, so that giving out a handle cannot fail.
    pub(crate) fn reserve(&'static self) -> Result<Reserved<T>, Errno> {
        loop {
            {
                let mut free = self.free.lock();
                if let Some(slot) = self.slot(free.first) {
                    let index = free.first;
                    free.first = slot.next.load(Ordering::Relaxed);
                    return Ok(Reserved { table: self, index, filled: false });
                }
            }
            self.make_chunk()?;
        }
    }

    /// Makes more slots; not under the lock, as the heap may have to grow.
    fn make_chunk(&self) -> Result<(), Errno> {
        let slot = || Slot { word: Atomic::new(0), next: AtomicU32::new(NONE), value: None.into() };
        let mut slots = alloc::vec::Vec::new();
        slots.try_reserve_exact(CHUNK as usize).map_err(|_| Errno(RUMPVM_ENOMEM))?;
        slots.extend(core::iter::repeat_with(slot).take(CHUNK as usize));
        let chunk: Box<[Slot<T>; CHUNK as usize]> =
            slots.into_boxed_slice().try_into().map_err(|_| Errno(RUMPVM_ENOMEM))?;
        let mut free = self.free.lock();
        let made = free.made;
        let Some(place) = self.chunks.get((made / CHUNK) as usize) else {
            drop(free);
            return Err(Errno(RUMPVM_ENOSPC));
        };
        for (at, slot) in chunk.iter().enumerate() {
            let next = if at as u32 + 1 == CHUNK { free.first } else { made + at as u32 + 1 };
            slot.next.store(next, Ordering::Relaxed);
        }
        place.store(Box::into_raw(chunk), Ordering::Release);
        free.first = made;
        free.made = made + CHUNK;
        Ok(())
    }

    /// What `handle` names; -EBADF if there is nothing by that name any more.
    pub(crate) fn enter(&'static self, handle: u64) -> Result<Use<T>, Errno> {
        let bad = Errno(RUMPVM_EBADF);
        let index = (handle as u32).checked_sub(1).ok_or(bad)?;
        let slot = self.slot(index).ok_or(bad)?;
        let mut word = slot.word.load(Ordering::Relaxed);
        while word & OPEN != 0 && word >> 32 == handle >> 32 {
            match slot.word.compare_exchange(word, word + 1, Ordering::Acquire) {
                Ok(_) => return Ok(Use { table: self, slot, index }),
                Err(seen) => word = seen,
            }
        }
        Err(bad)
    }

    fn give_back(&self, index: u32) {
        let mut free = self.free.lock();
        if let Some(slot) = self.slot(index) {
            slot.next.store(free.first, Ordering::Relaxed);
            free.first = index;
        }
    }
}

impl<T> Reserved<T> {
    /// Puts `value` there and returns its handle.
    pub(crate) fn fill(mut self, value: T) -> u64 {
        let slot = self.table.slot(self.index).expect("a reserved slot exists");
        // SAFETY: the slot is closed, has no uses, and is on no list: it is ours (H2).
        unsafe { *slot.value.get() = Some(value) };
        let generation = slot.word.load(Ordering::Relaxed) >> 32;
        slot.word.store(generation << 32 | OPEN, Ordering::Release);
        self.filled = true;
        generation << 32 | u64::from(self.index + 1)
    }
}

impl<T: 'static> Drop for Reserved<T> {
    fn drop(&mut self) {
        if !self.filled {
            self.table.give_back(self.index);
        }
    }
}

impl<T> Use<T> {
    /// Closes the slot: nobody enters any more. Fails if somebody else has.
    pub(crate) fn close(&self) -> Result<(), Errno> {
        let before = self.slot.word.fetch_and(!OPEN, Ordering::AcqRel);
        if before & OPEN == 0 { Err(Errno(RUMPVM_EBADF)) } else { Ok(()) }
    }

    /// Ends the use; what the handle named, if it is closed and this was the last one.
    pub(crate) fn leave(self) -> Option<T> {
        let before = self.slot.word.fetch_sub(1, Ordering::AcqRel);
        if before & OPEN != 0 || before & USES != 1 {
            return None;
        }
        // SAFETY: closed and without uses: ours (H2).
        let value = unsafe { (*self.slot.value.get()).take() };
        let next = (before >> 32).wrapping_add(1) << 32;
        self.slot.word.store(next, Ordering::Release);
        self.table.give_back(self.index);
        value
    }
}

impl<T> Deref for Use<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: there is a use, so the value stays (H1).
        let value = unsafe { &*self.slot.value.get() };
        value.as_ref().expect("an open slot has a value")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::thread;
    use std::vec::Vec;

    use super::*;
    use crate::hypercalls::pretend;

    /// A table for one test, with a host behind its lock.
    fn table<T: Send + Sync>() -> &'static Table<T> {
        pretend();
        Box::leak(Box::new(Table::new()))
    }

    #[test]
    fn a_handle_names_one_thing_and_nothing_after_its_end() {
        let table = table::<&str>();
        let first = table.reserve().unwrap().fill("first");
        let other = table.reserve().unwrap().fill("other");
        let used = table.enter(first).unwrap();
        assert_eq!(*used, "first");
        used.close().unwrap();
        assert_eq!(used.close(), Err(Errno(RUMPVM_EBADF)));
        assert!(table.enter(first).is_err());
        assert_eq!(*used, "first");
        assert_eq!(used.leave(), Some("first"));
        // The slot comes back, the number does not.
        let again = table.reserve().unwrap().fill("again");
        assert_eq!(again as u32, first as u32);
        assert!(again != first && table.enter(first).is_err());
        let other = table.enter(other).unwrap();
        assert_eq!(*other, "other");
        assert_eq!(other.leave(), None);
        for wrong in [0, again + 1, again | 1 << 63, u64::MAX, u64::from(CHUNK * CHUNKS + 1)] {
            assert!(table.enter(wrong).is_err(), "{wrong:#x}");
        }
    }

    #[test]
    fn a_slot_that_was_not_filled_is_free_again_and_there_is_an_end() {
        let table = table::<u32>();
        drop(table.reserve().unwrap());
        let all = CHUNK * CHUNKS;
        let mut handles: Vec<u64> = (0..all).map(|at| table.reserve().unwrap().fill(at)).collect();
        assert_eq!(table.reserve().err(), Some(Errno(RUMPVM_ENOSPC)));
        for (at, handle) in handles.iter().enumerate() {
            let used = table.enter(*handle).unwrap();
            assert_eq!(*used, at as u32);
            used.leave();
        }
        handles.sort_unstable();
        handles.dedup();
        assert_eq!(handles.len(), all as usize);
    }

    #[test]
    fn whoever_leaves_last_gets_what_was_closed_and_nobody_else_does() {
        let table = table::<Arc<AtomicBool>>();
        for _ in 0..100 {
            let is_alive = Arc::new(AtomicBool::new(true));
            let handle = table.reserve().unwrap().fill(is_alive.clone());
            let ends = AtomicUsize::new(0);
            let look = |closes: bool| {
                for step in 0..50 {
                    let Ok(used) = table.enter(handle) else { return };
                    assert!(used.load(Ordering::SeqCst), "used after its end");
                    if closes && step == 25 {
                        used.close().unwrap();
                    }
                    if let Some(ended) = used.leave() {
                        ended.store(false, Ordering::SeqCst);
                        ends.fetch_add(1, Ordering::SeqCst);
                    }
                }
            };
            thread::scope(|scope| {
                scope.spawn(|| look(false));
                scope.spawn(|| look(false));
                look(true);
            });
            assert_eq!(ends.load(Ordering::SeqCst), 1);
            assert_eq!(Arc::strong_count(&is_alive), 1);
        }
    }
}
