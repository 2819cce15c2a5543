//! Spare blocks: memory of records that an epoch freed, which a CPU keeps for the next records of the same size.
//!
//! A writer of a tree needs a few blocks for each change, and gives as many up; but an epoch frees hundreds at a
//! time, more than a heap keeps at hand, so each of them would go through its slow path both ways.
//!
//! Flow:  `Epoch` frees a record -> [`Spares::keep`] -> [`Spares::take`] -> the next record.
//! Locks: none; a CPU's own, with interrupts masked.
//! Owns:  the blocks in it, which came from the heap and go back to it with the epoch.

use alloc::alloc::dealloc;
use core::alloc::Layout;
use core::ptr::{self, NonNull};

use rumpvm_platform::Seam;

use super::seam::{Atomic, AtomicPtr};

/// Sizes that are kept: a leaf and a branch of the one kind of tree there is.
const BINS: usize = 2;
/// Most blocks of one size. Of what an epoch frees at a time (`ADVANCE_EVERY`) two thirds are branches, so this is all
/// of them; a quarter of a mebibyte for a CPU.
const MOST: u32 = 192;
/// What a block that is kept is filled with in debug builds: no valid pointer, no small number.
const JUNK: u8 = 0xd5;

/// A block that is kept.
struct Block {
    next: *mut Block,
    bytes: usize,
}

/// Blocks of one size.
struct Bin<S> {
    first: AtomicPtr<Block, S>,
    count: Atomic<u32, S>,
}

/// The blocks of one CPU.
pub(super) struct Spares<S> {
    bins: [Bin<S>; BINS],
}

/// Whether blocks of this layout are kept. A home that owns the memory sees every use of what was freed, as long as
/// it is not used again.
#[inline]
fn is_kept<S: Seam>(layout: Layout) -> bool {
    !S::OWNS_MEMORY && layout.align() == align_of::<Block>() && layout.size() >= size_of::<Block>()
}

impl<S: Seam> Spares<S> {
    pub(super) fn new() -> Self {
        let bin = |_| Bin { first: AtomicPtr::new(ptr::null_mut()), count: Atomic::new(0) };
        Self { bins: core::array::from_fn(bin) }
    }

    /// A block of this layout, if there is one; its contents are unknown.
    pub(super) fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        if !is_kept::<S>(layout) {
            return None;
        }
        for bin in &self.bins {
            let block = NonNull::new(bin.first.get())?;
            // SAFETY: blocks in a bin are alive and ours.
            let Block { next, bytes } = unsafe { block.read() };
            if bytes == layout.size() {
                bin.first.set(next);
                bin.count.set(bin.count.get() - 1);
                return Some(block.cast());
            }
        }
        None
    }

    /// Keeps a block for [`Spares::take`], or returns false: then it is still the caller's.
    ///
    /// # Safety
    /// The block came from the heap with this layout, and nobody else has it.
    pub(super) unsafe fn keep(&self, block: NonNull<u8>, layout: Layout) -> bool {
        if !is_kept::<S>(layout) {
            return false;
        }
        for bin in &self.bins {
            let next = bin.first.get();
            // SAFETY: blocks in a bin are alive and ours.
            if !next.is_null() && unsafe { (*next).bytes } != layout.size() {
                continue;
            }
            let count = bin.count.get();
            if count >= MOST {
                return false;
            }
            let bytes = layout.size();
            // SAFETY: the block is the caller's to give, large enough and aligned (`is_kept`).
            unsafe {
                if cfg!(debug_assertions) {
                    block.write_bytes(JUNK, bytes);
                }
                block.cast::<Block>().write(Block { next, bytes });
            }
            bin.first.set(block.as_ptr().cast());
            bin.count.set(count + 1);
            return true;
        }
        false
    }
}

impl<S> Spares<S> {
    /// Gives every block back to the heap.
    pub(super) fn give_back(&mut self) {
        for bin in &mut self.bins {
            let mut block = bin.first.take();
            while !block.is_null() {
                // SAFETY: the block is alive and ours; it came from the heap with this size, and the alignment that all
                // blocks have (`keep`).
                unsafe {
                    let Block { next, bytes } = block.read();
                    let layout = Layout::from_size_align_unchecked(bytes, align_of::<Block>());
                    dealloc(block.cast(), layout);
                    block = next;
                }
            }
        }
    }
}
