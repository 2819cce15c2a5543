//! The seam: the one place where the component touches atomics (`cells`) and the heap.
//!
//! Each operation is the plain core thing, unless the home owns the schedule: then the home is asked to
//! carry it out ([`Seam::carry_out`]), and is told where in the source it comes from. A wait is
//! [`Atomic::wait_while`]: it names the word it looks at, so such a home can block the CPU until that word
//! changes instead of spinning.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::marker::PhantomData;
use core::panic::Location;
use core::ptr;

use rumpvm_platform::{Cell, Op, Scarce, Seam, Step};

pub use super::cells::Ordering;

use super::cells::{self, const_unless_loom};
use super::token::given_up;
use crate::NoMemory;

/// An integer that has an atomic of its own width.
pub trait Word: Copy + Eq {
    /// The core atomic of that width.
    type Cell: Sync + Send;
    /// A cell that holds 0, for what has to be there before the first instruction of a kernel.
    #[cfg(not(loom))]
    const ZERO: Self::Cell;
    /// A cell that holds `value`.
    fn cell(value: Self) -> Self::Cell;
    /// The value, extended with zeros.
    fn widen(self) -> u64;
    /// The low bits of a wide value.
    fn narrow(wide: u64) -> Self;
    /// Atomic load.
    fn load(cell: &Self::Cell, order: Ordering) -> Self;
    /// Atomic store.
    fn store(cell: &Self::Cell, value: Self, order: Ordering);
    /// Atomic swap.
    fn swap(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
    /// Atomic compare and exchange, strong; a failure loads with acquire at least.
    fn compare_exchange(
        cell: &Self::Cell,
        old: Self,
        new: Self,
        order: Ordering,
    ) -> Result<Self, Self>;
    /// Atomic add, wrapping; returns the old value.
    fn fetch_add(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
    /// Atomic subtract, wrapping; returns the old value.
    fn fetch_sub(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
    /// Atomic or; returns the old value.
    fn fetch_or(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
    /// Atomic and; returns the old value.
    fn fetch_and(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
}

macro_rules! word {
    ($int:ty, $cell:ty) => {
        impl Word for $int {
            type Cell = $cell;
            #[cfg(not(loom))]
            #[expect(clippy::declare_interior_mutable_const, reason = "each use is a new cell")]
            const ZERO: Self::Cell = <$cell>::new(0);
            #[inline(always)]
            fn cell(value: Self) -> Self::Cell {
                <$cell>::new(value)
            }
            #[inline(always)]
            fn widen(self) -> u64 {
                u64::from(self)
            }
            #[inline(always)]
            fn narrow(wide: u64) -> Self {
                wide as Self
            }
            #[inline(always)]
            fn load(cell: &Self::Cell, order: Ordering) -> Self {
                cell.load(order)
            }
            #[inline(always)]
            fn store(cell: &Self::Cell, value: Self, order: Ordering) {
                cell.store(value, order);
            }
            #[inline(always)]
            fn swap(cell: &Self::Cell, value: Self, order: Ordering) -> Self {
                cell.swap(value, order)
            }
            #[inline(always)]
            fn compare_exchange(
                cell: &Self::Cell,
                old: Self,
                new: Self,
                order: Ordering,
            ) -> Result<Self, Self> {
                cell.compare_exchange(old, new, order, Ordering::Acquire)
            }
            #[inline(always)]
            fn fetch_add(cell: &Self::Cell, value: Self, order: Ordering) -> Self {
                cell.fetch_add(value, order)
            }
            #[inline(always)]
            fn fetch_sub(cell: &Self::Cell, value: Self, order: Ordering) -> Self {
                cell.fetch_sub(value, order)
            }
            #[inline(always)]
            fn fetch_or(cell: &Self::Cell, value: Self, order: Ordering) -> Self {
                cell.fetch_or(value, order)
            }
            #[inline(always)]
            fn fetch_and(cell: &Self::Cell, value: Self, order: Ordering) -> Self {
                cell.fetch_and(value, order)
            }
        }
    };
}

word!(u16, cells::AtomicU16);
word!(u32, cells::AtomicU32);
word!(u64, cells::AtomicU64);

/// An atomic integer of the component.
#[repr(transparent)]
pub struct Atomic<W: Word, S> {
    cell: W::Cell,
    seam: PhantomData<fn() -> S>,
}

impl<W: Word, S: Seam> Atomic<W, S> {
    /// An atomic that holds `value`.
    #[inline]
    pub fn new(value: W) -> Self {
        Self { cell: W::cell(value), seam: PhantomData }
    }

    const_unless_loom! {
        /// An atomic that holds 0, also in a `static`.
        #[inline]
        pub const fn zero() -> Self {
            #[cfg(not(loom))]
            let cell = W::ZERO;
            #[cfg(loom)]
            let cell = W::cell(W::narrow(0));
            Self { cell, seam: PhantomData }
        }
    }

    /// Its address, which names it to the home.
    #[inline]
    pub fn address(&self) -> usize {
        ptr::from_ref(&self.cell) as usize
    }

    /// Has the home carry out `op`; returns the old value.
    #[inline]
    #[track_caller]
    fn hand_over(&self, op: Op, order: Ordering) -> W {
        let cell = Cell { address: self.address(), bytes: size_of::<W>() as u8 };
        let step = Step { cell, op, order, site: Location::caller() };
        // SAFETY: `self` is borrowed, so its cell is alive, and its width is that of `W`.
        W::narrow(unsafe { S::carry_out(step) })
    }

    /// Loads it.
    #[inline]
    #[track_caller]
    pub fn load(&self, order: Ordering) -> W {
        if S::OWNS_MEMORY {
            return self.hand_over(Op::Load, order);
        }
        W::load(&self.cell, order)
    }

    /// Stores `value`.
    #[inline]
    #[track_caller]
    pub fn store(&self, value: W, order: Ordering) {
        if S::OWNS_MEMORY {
            self.hand_over(Op::Store(value.widen()), order);
            return;
        }
        W::store(&self.cell, value, order);
    }

    /// Loads a word that only this CPU, or the holder of a lock that the caller holds, ever writes.
    #[inline]
    #[track_caller]
    pub fn get(&self) -> W {
        if S::OWNS_MEMORY {
            return self.hand_over(Op::Get, Ordering::Relaxed);
        }
        W::load(&self.cell, Ordering::Relaxed)
    }

    /// Stores to a word that only this CPU, or the holder of a lock that the caller holds, ever writes.
    #[inline]
    #[track_caller]
    pub fn set(&self, value: W) {
        if S::OWNS_MEMORY {
            self.hand_over(Op::Set(value.widen()), Ordering::Relaxed);
            return;
        }
        W::store(&self.cell, value, Ordering::Relaxed);
    }

    /// Stores `value` and returns what was there.
    #[inline]
    #[track_caller]
    pub fn swap(&self, value: W, order: Ordering) -> W {
        if S::OWNS_MEMORY {
            return self.hand_over(Op::Swap(value.widen()), order);
        }
        W::swap(&self.cell, value, order)
    }

    /// Stores `value` before any load that follows, as if a [`fence`] stood between.
    #[inline]
    #[track_caller]
    pub fn store_ahead(&self, value: W) {
        if S::OWNS_MEMORY || cells::SWAP_IS_FENCE {
            self.swap(value, Ordering::SeqCst);
        } else {
            self.store(value, Ordering::Relaxed);
            fence::<S>();
        }
    }

    /// Stores `new` if it holds `old`; otherwise returns what it holds. A failure is an acquire load.
    #[inline]
    #[track_caller]
    pub fn compare_exchange(&self, old: W, new: W, order: Ordering) -> Result<W, W> {
        if S::OWNS_MEMORY {
            let op = Op::CompareExchange { old: old.widen(), new: new.widen() };
            let seen = self.hand_over(op, order);
            return if seen == old { Ok(seen) } else { Err(seen) };
        }
        W::compare_exchange(&self.cell, old, new, order)
    }

    /// Adds, wrapping, and returns the old value.
    #[inline]
    #[track_caller]
    pub fn fetch_add(&self, value: W, order: Ordering) -> W {
        if S::OWNS_MEMORY {
            return self.hand_over(Op::Add(value.widen()), order);
        }
        W::fetch_add(&self.cell, value, order)
    }

    /// Subtracts, wrapping, and returns the old value.
    #[inline]
    #[track_caller]
    pub fn fetch_sub(&self, value: W, order: Ordering) -> W {
        if S::OWNS_MEMORY {
            return self.hand_over(Op::Sub(value.widen()), order);
        }
        W::fetch_sub(&self.cell, value, order)
    }

    /// Sets bits and returns the old value.
    #[inline]
    #[track_caller]
    pub fn fetch_or(&self, value: W, order: Ordering) -> W {
        if S::OWNS_MEMORY {
            return self.hand_over(Op::Or(value.widen()), order);
        }
        W::fetch_or(&self.cell, value, order)
    }

    /// Keeps only the bits of `value` and returns the old value.
    #[inline]
    #[track_caller]
    pub fn fetch_and(&self, value: W, order: Ordering) -> W {
        if S::OWNS_MEMORY {
            return self.hand_over(Op::And(value.widen()), order);
        }
        W::fetch_and(&self.cell, value, order)
    }

    /// Waits, without giving up the CPU, until `busy` no longer holds of the value; returns that value.
    #[inline]
    #[track_caller]
    pub fn wait_while(&self, order: Ordering, busy: impl Fn(W) -> bool) -> W {
        loop {
            let value = self.load(order);
            if !busy(value) {
                return value;
            }
            S::relax(self.address());
        }
    }

    /// As [`Atomic::wait_while`], for a word that the holder of a spin lock will change: serves nothing
    /// meanwhile.
    #[inline]
    #[track_caller]
    pub fn spin_while(&self, order: Ordering, busy: impl Fn(W) -> bool) -> W {
        loop {
            let value = self.load(order);
            if !busy(value) {
                return value;
            }
            S::pause(self.address());
        }
    }
}

impl<S: Seam> Atomic<u32, S> {
    /// Gives up the CPU, and every token of the thread, while the word is `expected`; may return early. Look
    /// again afterwards.
    #[inline]
    #[track_caller]
    pub fn sleep_while(&self, expected: u32) {
        self.sleep_until(expected, None);
    }

    /// As [`Atomic::sleep_while`], until [`Seam::clock`] has reached `until` at most.
    #[inline]
    #[track_caller]
    pub fn sleep_until(&self, expected: u32, until: Option<u64>) {
        let site = Location::caller();
        given_up::<S>(|| cells::sleep::<S>(&self.cell, expected, until, site));
    }

    /// Wakes every thread that sleeps on this word.
    #[inline]
    #[track_caller]
    pub fn wake_sleepers(&self) {
        cells::wakeup::<S>(&self.cell, Location::caller());
    }
}

/// An atomic pointer of the component.
#[repr(transparent)]
pub struct AtomicPtr<T, S> {
    cell: cells::AtomicPtr<T>,
    seam: PhantomData<fn() -> S>,
}

impl<T, S: Seam> AtomicPtr<T, S> {
    /// A pointer cell that holds `value`.
    #[inline]
    pub fn new(value: *mut T) -> Self {
        Self { cell: cells::AtomicPtr::new(value), seam: PhantomData }
    }

    /// Has the home carry out `op`; returns the old value.
    #[inline]
    #[track_caller]
    fn hand_over(&self, op: Op, order: Ordering) -> *mut T {
        let address = ptr::from_ref(&self.cell) as usize;
        let cell = Cell { address, bytes: size_of::<*mut T>() as u8 };
        let step = Step { cell, op, order, site: Location::caller() };
        // SAFETY: `self` is borrowed, so its cell is alive, and its width is that of a pointer.
        let old = unsafe { S::carry_out(step) };
        ptr::with_exposed_provenance_mut(old as usize)
    }

    /// Loads it.
    #[inline]
    #[track_caller]
    pub fn load(&self, order: Ordering) -> *mut T {
        if S::OWNS_MEMORY {
            return self.hand_over(Op::Load, order);
        }
        self.cell.load(order)
    }

    /// Stores `value`.
    #[inline]
    #[track_caller]
    pub fn store(&self, value: *mut T, order: Ordering) {
        if S::OWNS_MEMORY {
            self.hand_over(Op::Store(value.expose_provenance() as u64), order);
            return;
        }
        self.cell.store(value, order);
    }

    /// Loads a pointer that only this CPU ever writes.
    #[inline]
    #[track_caller]
    pub fn get(&self) -> *mut T {
        if S::OWNS_MEMORY {
            return self.hand_over(Op::Get, Ordering::Relaxed);
        }
        self.cell.load(Ordering::Relaxed)
    }

    /// Stores a pointer that only this CPU ever writes.
    #[inline]
    #[track_caller]
    pub fn set(&self, value: *mut T) {
        if S::OWNS_MEMORY {
            self.hand_over(Op::Set(value.expose_provenance() as u64), Ordering::Relaxed);
            return;
        }
        self.cell.store(value, Ordering::Relaxed);
    }
}

impl<T, S> AtomicPtr<T, S> {
    /// Takes the pointer out, for its exclusive owner; leaves null.
    pub fn take(&mut self) -> *mut T {
        cells::take(&mut self.cell)
    }
}

/// A sequentially consistent fence: stores before it are seen by everyone before loads after it.
#[inline]
#[track_caller]
pub fn fence<S: Seam>() {
    S::fence(Location::caller());
    if cfg!(rumpvm_tsan) {
        cells::fence_by_word();
    } else {
        cells::fence();
    }
}

/// Keeps the compiler from moving what is before it behind it, and the other way round. Makes no CPU wait.
#[inline(always)]
pub fn compiler_fence() {
    cells::compiler_fence(Ordering::SeqCst);
}

/// A full fence on every CPU, where the home can pass one: [`Seam::fences_everywhere`].
#[inline]
#[track_caller]
pub fn fence_everywhere<S: Seam>() {
    S::fence_everywhere(Location::caller());
}

/// Whether the home lets a heap allocation go ahead.
#[inline]
#[track_caller]
fn admit<S: Seam>() -> Result<(), NoMemory> {
    if S::fails(Scarce::Heap, Location::caller()) { Err(NoMemory) } else { Ok(()) }
}

/// A box of `value`, or an error when the heap is empty; then `value` is dropped.
#[inline]
#[track_caller]
pub fn try_box<T, S: Seam>(value: T) -> Result<Box<T>, NoMemory> {
    admit::<S>()?;
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        // No memory is needed.
        return Ok(Box::new(value));
    }
    // SAFETY: `layout` has a size.
    let place = unsafe { alloc::alloc::alloc(layout) }.cast::<T>();
    if place.is_null() {
        return Err(NoMemory);
    }
    // SAFETY:
    // - `place` is fresh memory of `T`'s layout, so it may be written and nobody else has it.
    // - It came from the global allocator with that layout, as `Box` demands.
    unsafe {
        place.write(value);
        Ok(Box::from_raw(place))
    }
}

/// Makes room for `more` further elements, so that pushing them cannot fail.
#[inline]
#[track_caller]
pub fn try_reserve<T, S: Seam>(list: &mut Vec<T>, more: usize) -> Result<(), NoMemory> {
    if list.capacity() - list.len() >= more {
        return Ok(());
    }
    admit::<S>()?;
    list.try_reserve(more).map_err(|_| NoMemory)
}

/// Pushes `value`, or fails and drops it.
#[inline]
#[track_caller]
pub fn try_push<T, S: Seam>(list: &mut Vec<T>, value: T) -> Result<(), NoMemory> {
    try_reserve::<T, S>(list, 1)?;
    list.push(value);
    Ok(())
}
