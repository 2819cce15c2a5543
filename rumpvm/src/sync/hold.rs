//! Holds: counted pointers to component records. A hold keeps the memory of a record; what the record
//! stands for may end earlier (spaces and objects count their users as well: two stages).

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::Deref;
use core::ptr::{self, NonNull};

use rumpvm_platform::Seam;

use super::seam::{Atomic, Ordering, try_box};
use crate::NoMemory;

/// A record with its count.
pub(crate) struct Counted<T: ?Sized, S> {
    holds: Atomic<u64, S>,
    value: T,
}

/// A counted pointer. Making one can fail; cloning cannot.
pub struct Hold<T: ?Sized, S: Seam> {
    record: NonNull<Counted<T, S>>,
    owns: PhantomData<Counted<T, S>>,
}

/// Room for a record that is yet to be made, so that making it cannot fail any more.
pub struct Vacant<T, S: Seam> {
    room: Box<MaybeUninit<Counted<T, S>>>,
}

// SAFETY: a hold gives shared access to `T` from any CPU, and the last one drops it wherever it is.
unsafe impl<T: ?Sized + Send + Sync, S: Seam> Send for Hold<T, S> {}
// SAFETY: as above; the count itself is atomic.
unsafe impl<T: ?Sized + Send + Sync, S: Seam> Sync for Hold<T, S> {}

impl<T, S: Seam> Hold<T, S> {
    /// Puts `value` on the heap with one hold.
    pub fn try_new(value: T) -> Result<Self, NoMemory> {
        Ok(Vacant::try_new()?.fill(value))
    }

    /// The same hold of the record as something that has no size known beforehand, such as a trait's object.
    ///
    /// # Safety
    /// `unsize` returns the pointer that it is given, converted by the compiler: `|record| record`.
    pub(crate) unsafe fn unsize<U: ?Sized>(
        self,
        unsize: fn(*mut Counted<T, S>) -> *mut Counted<U, S>,
    ) -> Hold<U, S> {
        let record = unsize(ManuallyDrop::new(self).record.as_ptr());
        // SAFETY: by the caller's promise it is the pointer of `self`, which is not null, and whose count goes with it.
        Hold { record: unsafe { NonNull::new_unchecked(record) }, owns: PhantomData }
    }
}

impl<T: ?Sized, S: Seam> Hold<T, S> {
    #[inline]
    fn counted(&self) -> &Counted<T, S> {
        // SAFETY: the record lives as long as its count is not zero, and `self` is one of the count.
        unsafe { self.record.as_ref() }
    }

    /// Whether both are holds of the same record.
    #[inline]
    pub fn is(&self, other: &Self) -> bool {
        ptr::addr_eq(self.record.as_ptr(), other.record.as_ptr())
    }

    /// Frees the record; for the last hold alone. Not in line, as holds are dropped in many places.
    #[inline(never)]
    fn end(&mut self) {
        // SAFETY: the count went from one to zero (`drop`), so this was the only hold left, and the record came out of a
        // `Box` in `try_new`.
        drop(unsafe { Box::from_raw(self.record.as_ptr()) });
    }

    /// Number of holds. Stale at once unless nobody runs.
    pub fn count(&self) -> u64 {
        self.counted().holds.load(Ordering::Relaxed)
    }
}

impl<T, S: Seam> Vacant<T, S> {
    /// Room for one record.
    pub fn try_new() -> Result<Self, NoMemory> {
        Ok(Self { room: try_box::<_, S>(MaybeUninit::uninit())? })
    }

    /// Puts `value` there, with one hold.
    pub fn fill(mut self, value: T) -> Hold<T, S> {
        self.room.write(Counted { holds: Atomic::new(1), value });
        let room: *mut MaybeUninit<Counted<T, S>> = Box::into_raw(self.room);
        // SAFETY: the pointer comes from a `Box`, so it is not null; the record was written just above,
        // and `MaybeUninit` has its layout, so `drop` may take it for a `Box` of the record.
        Hold { record: unsafe { NonNull::new_unchecked(room.cast()) }, owns: PhantomData }
    }
}

impl<T: ?Sized, S: Seam> Deref for Hold<T, S> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T: ?Sized, S: Seam> Clone for Hold<T, S> {
    #[inline]
    fn clone(&self) -> Self {
        self.counted().holds.fetch_add(1, Ordering::Relaxed);
        Self { record: self.record, owns: PhantomData }
    }
}

impl<T: ?Sized, S: Seam> Drop for Hold<T, S> {
    #[inline]
    fn drop(&mut self) {
        // Release what this holder did; the last one acquires what all others did.
        if self.counted().holds.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end();
        }
    }
}
