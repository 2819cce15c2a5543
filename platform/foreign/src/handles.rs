//! Handles: the numbers by which a host names spaces and objects, checked at every use.
//!
//! Flow:  number -> slot, if its generation is still that -> one more use -> the space, until the use is dropped.
//! Locks: that of the lists of slots; a use takes none.
//! Owns:  one user of what has a handle, until the last use of a closed slot hands it back. Slots stay for good.
//!
//! Ending what a handle named may take long, lock and sleep. A last use that may do none of that puts it on a list, from
//! where the next call takes it that may.
//!
//! H1. A slot's word says everything: generation, open or not, uses. Only who gets a use from an open slot sees the space.
//! H2. A slot that is closed and has no uses belongs to whoever made it so, or took it from the list of those. The next
//!     handle of it has another generation.

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
    /// The next slot on the same list. Under the table's lock.
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
    /// The first of the slots whose value is still to be ended. Written under the lock; read without it to see whether
    /// there is one.
    ended: AtomicU32,
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
            ended: AtomicU32::new(NONE),
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

    /// Whether [`Table::next_ended`] has something, as of some moment.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) != NONE
    }

    /// What a last use could not end itself ([`Use::leave_for_others`]): now the caller's to end.
    pub(crate) fn next_ended(&'static self) -> Option<T> {
        let free = self.free.lock();
        let index = self.ended.load(Ordering::Relaxed);
        let slot = self.slot(index)?;
        self.ended.store(slot.next.load(Ordering::Relaxed), Ordering::Relaxed);
        drop(free);
        self.vacate(slot, index)
    }

    /// What a slot of the caller's holds; the slot is free then.
    #[cold]
    fn vacate(&self, slot: &Slot<T>, index: u32) -> Option<T> {
        // SAFETY: closed and without uses: ours (H2).
        let value = unsafe { (*slot.value.get()).take() };
        let next = (slot.word.load(Ordering::Relaxed) >> 32).wrapping_add(1) << 32;
        slot.word.store(next, Ordering::Release);
        self.give_back(index);
        value
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
        if self.is_last() { self.table.vacate(self.slot, self.index) } else { None }
    }

    /// Ends the use, for callers who may end nothing else: whoever calls [`Table::next_ended`] does that for them.
    pub(crate) fn leave_for_others(self) {
        if self.is_last() {
            let _lists = self.table.free.lock();
            let ended = &self.table.ended;
            self.slot.next.store(ended.load(Ordering::Relaxed), Ordering::Relaxed);
            ended.store(self.index, Ordering::Relaxed);
        }
    }

    /// Counts the use off; whether the slot is the caller's now.
    fn is_last(&self) -> bool {
        let before = self.slot.word.fetch_sub(1, Ordering::AcqRel);
        before & OPEN == 0 && before & USES == 1
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
    fn what_a_last_use_may_not_end_is_ended_once_by_who_may() {
        let table = table::<&str>();
        let handles = ["first", "second"].map(|name| table.reserve().unwrap().fill(name));
        for handle in handles {
            let (used, other) = (table.enter(handle).unwrap(), table.enter(handle).unwrap());
            used.close().unwrap();
            assert_eq!(used.leave(), None);
            other.leave_for_others();
            assert!(table.enter(handle).is_err());
        }
        // An open slot loses nothing by it.
        let open = table.reserve().unwrap().fill("open");
        table.enter(open).unwrap().leave_for_others();
        let mut ended: Vec<&str> = core::iter::from_fn(|| table.next_ended()).collect();
        ended.sort_unstable();
        assert_eq!(ended, ["first", "second"]);
        assert_eq!(*table.enter(open).unwrap(), "open");
        // Their slots come back, under other numbers.
        let again = [0, 1].map(|_| table.reserve().unwrap().fill("again"));
        assert!(again.iter().all(|again| handles.iter().any(|old| *old as u32 == *again as u32)));
        assert!(again.iter().all(|again| !handles.contains(again)));
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
