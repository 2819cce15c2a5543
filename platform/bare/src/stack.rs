//! Stacks of kernel threads.
//!
//! Each lies at the upper end of a slot of addresses whose lower end is mapped nowhere: running over is a double
//! fault at once, and no other thread's data. Stacks of ended threads are used again, never unmapped, so no
//! CPU has to be told.
//!
//! Flow:  free list -> else frames, mapped into a new slot.
//! Locks: the free list's.
//! Owns:  the free ones.

use rumpvm_arch::PAGE_SIZE;

use crate::layout::{ROOT_ENTRY, STACKS};
use crate::lock::Lock;
use crate::{memory, paging};

/// Addresses of one stack.
const SLOT: u64 = 64 << 10;
/// Bytes that are mapped. The deepest path so far, a fault under a system call, takes a quarter.
const BYTES: u64 = 32 << 10;

struct Stacks {
    /// End of a free one, whose last word is the end of the next; or zero.
    free: u64,
    /// End of the last slot in use.
    end: u64,
}

static FREE: Lock<Stacks> = Lock::new(Stacks { free: 0, end: STACKS });

/// A stack; goes back to the free ones when it is dropped.
pub(crate) struct Stack {
    end: u64,
}

impl Stack {
    /// A stack with anything in it, or `None` if there is no memory.
    pub(crate) fn new() -> Option<Self> {
        let mut stacks = FREE.lock();
        if stacks.free != 0 {
            let end = stacks.free;
            // SAFETY: a free stack is mapped, and its last word was written when it became free.
            stacks.free = unsafe { *link(end) };
            return Some(Self { end });
        }
        assert!(stacks.end + SLOT <= STACKS + ROOT_ENTRY, "no address is left for a stack");
        stacks.end += SLOT;
        let end = stacks.end;
        drop(stacks);
        for page in 1..=BYTES / PAGE_SIZE {
            // If there is no frame, the slot and what is mapped of it are lost; so little is left then that
            // nobody will miss the addresses.
            paging::map_stack_page(end - page * PAGE_SIZE, memory::frames(0)?)?;
        }
        Some(Self { end })
    }

    /// One past its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

/// The last word of the stack that ends at `end`.
fn link(end: u64) -> *mut u64 {
    (end - 8) as *mut u64
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut stacks = FREE.lock();
        // SAFETY: nobody runs on it any more, and it is mapped.
        unsafe { *link(self.end) = stacks.free };
        stacks.free = self.end;
    }
}
