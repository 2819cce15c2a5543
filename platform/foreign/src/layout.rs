//! Where things are in a space: its heap, where mappings begin that may go anywhere, and addresses that are kept free.
//!
//! Locks: the map's.

use rumpvm::{Direction, Layout as Placement, MapFlags};
use rumpvm_arch::VirtAddr;

use crate::errno::{Errno, RUMPVM_EINVAL, number, outcome};
use crate::pointers;
use crate::space::{Space, with};

/// Where things begin in a space. A new space has the layout of Linux without chance; a child has its parent's.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Where mappings begin that may go anywhere.
    pub base: u64,
    /// One past the highest byte of the stack. For whoever loads a program; nothing comes of it.
    pub stack_top: u64,
    /// Bytes between the end of a program and its heap. As stack_top.
    pub heap_gap: u64,
    /// 0: each mapping goes below the last. 1: above it.
    pub goes_up: u32,
    /// Zero.
    pub reserved: u32,
}

/// Moves the end of the heap of `space` to `end` if that is possible, and returns where it is then, which is all that
/// brk(2) says: with 0, where it is now. The heap begins where rumpvm_set_brk_base said, and is private memory. Takes the
/// map's sleep lock, waits for other CPUs' flushes when it shrinks; from a thread, with interrupts on. Or -EBADF,
/// -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_brk(space: Space, end: u64) -> i64 {
    number(with(space, |vm, space| Ok(space.brk(vm, VirtAddr(end)).0)))
}

/// Has the heap of `space` begin at `start`, empty, for whoever loads a program; what was mapped as heap stays mapped.
/// Takes the map's sleep lock; from a thread. Returns 0, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_set_brk_base(space: Space, start: u64) -> i32 {
    outcome(with(space, |_, space| {
        space.set_brk_base(VirtAddr(start));
        Ok(())
    }))
}

/// Where the heap of `space` begins. Takes the map's sleep lock; from a thread. Or -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_brk_base(space: Space) -> i64 {
    number(with(space, |_, space| Ok(space.brk_base().0)))
}

/// Keeps `length` bytes free, at `hint`, near it, or anywhere: nothing can be used there, no rights can be given, and no
/// mapping goes there but by RUMPVM_MAP_FIXED (FreeBSD's MAP_GUARD). `flags` is RUMPVM_MAP_FIXED,
/// RUMPVM_MAP_FIXED_NOREPLACE, or 0. Returns where, or a negative error as rumpvm_mmap does. Takes the map's sleep
/// lock; from a thread, with interrupts on.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_reserve(space: Space, hint: u64, length: u64, flags: u32) -> i64 {
    let flags = MapFlags::from_bits_retain(flags);
    number(with(space, |vm, space| Ok(space.reserve(vm, VirtAddr(hint), length, flags)?.0)))
}

/// Stores the layout of `space` at `into`. Takes the map's sleep lock; from a thread. Returns 0, -EINVAL (null),
/// -EBADF, -ENODEV.
///
/// # Safety
/// `into` is null, or there is a layout to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_layout(space: Space, into: *mut Layout) -> i32 {
    let look = || {
        with(space, |_, space| {
            let Placement { direction, base, stack_top, heap_gap } = space.layout();
            let goes_up = u32::from(direction == Direction::Up);
            Ok(Layout { base: base.0, stack_top: stack_top.0, heap_gap, goes_up, reserved: 0 })
        })
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(into, look) })
}

/// Places mappings of `space` by the layout at `from` from now on, and those of children made from now on. Takes the
/// map's sleep lock; from a thread. Returns 0; -EINVAL (null, `base` is not a multiple of 4096, `goes_up` is neither 0
/// nor 1, `reserved` not 0), -EBADF, -ENODEV, and nothing has changed.
///
/// # Safety
/// `from` is null, or points to a layout.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_set_layout(space: Space, from: *const Layout) -> i32 {
    // SAFETY: by the caller's promise.
    let layout = unsafe { pointers::get(from) };
    outcome(with(space, |_, space| {
        let Layout { base, stack_top, heap_gap, goes_up, reserved } = layout?;
        let direction = match goes_up {
            0 => Direction::Down,
            1 => Direction::Up,
            _ => return Err(Errno(RUMPVM_EINVAL)),
        };
        let (base, stack_top) = (VirtAddr(base), VirtAddr(stack_top));
        if reserved != 0 || !base.is_page_aligned() {
            return Err(Errno(RUMPVM_EINVAL));
        }
        space.set_layout(Placement { direction, base, stack_top, heap_gap });
        Ok(())
    }))
}
