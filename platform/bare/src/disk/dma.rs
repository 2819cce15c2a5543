//! Memory that a device and the kernel share.
//!
//! Flow:  buffer in the direct map -> its own physical address; any other (on a stack) -> a copy on the heap, which
//!        lies in the direct map.
//! Owns:  the copies, from `share` to `unshare`.

use alloc::alloc::{Layout, alloc, dealloc};
use core::ptr::{self, NonNull};

use rumpvm_arch::PhysAddr;
use virtio_drivers::{BufferDirection, Hal, PhysAddr as Address};

use crate::layout::{DIRECT, DIRECT_BYTES, direct, physical};
use crate::{memory, paging};

/// What the driver asks of the machine.
pub(super) struct Shared;

fn is_direct(at: *mut u8) -> bool {
    (DIRECT..DIRECT + DIRECT_BYTES).contains(&(at as u64))
}

/// The copy of a buffer of so many bytes; no device here wants a larger alignment for what lies on a stack.
fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 16).expect("a buffer has a size")
}

// SAFETY: frames come from who owns them and are given to nobody else; registers are mapped for good; a copy lives
// from `share` to `unshare`.
unsafe impl Hal for Shared {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (Address, NonNull<u8>) {
        let order = pages.next_power_of_two().trailing_zeros();
        let Some(frames) = memory::frames(order) else { return (0, NonNull::dangling()) };
        let place = direct(frames) as *mut u8;
        // SAFETY: the frames are ours alone, and in the direct map.
        unsafe { ptr::write_bytes(place, 0, pages << 12) };
        (frames.0, NonNull::new(place).expect("the direct map does not begin at zero"))
    }

    /// Queues last as long as their disks, which is for good.
    unsafe fn dma_dealloc(_at: Address, _place: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(at: Address, bytes: usize) -> NonNull<u8> {
        let place = paging::map_registers(PhysAddr(at), bytes as u64);
        place.expect("memory for tables, for the registers of a disk")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> Address {
        let (from, bytes) = (buffer.as_ptr().cast::<u8>(), buffer.len());
        if is_direct(from) {
            return physical(from as u64).0;
        }
        // SAFETY: the layout has a size; the buffer is the driver's (by its promise), and the copy is ours.
        let copy = unsafe {
            let copy = alloc(layout(bytes));
            assert!(!copy.is_null(), "memory for {bytes} bytes that a disk can reach");
            if direction != BufferDirection::DeviceToDriver {
                ptr::copy_nonoverlapping(from, copy, bytes);
            }
            copy
        };
        physical(copy as u64).0
    }

    unsafe fn unshare(at: Address, buffer: NonNull<[u8]>, direction: BufferDirection) {
        let (to, bytes) = (buffer.as_ptr().cast::<u8>(), buffer.len());
        if is_direct(to) {
            return;
        }
        let copy = direct(PhysAddr(at)) as *mut u8;
        // SAFETY: `share` made the copy for this buffer, and the device is done with it.
        unsafe {
            if direction != BufferDirection::DriverToDevice {
                ptr::copy_nonoverlapping(copy, to, bytes);
            }
            dealloc(copy, layout(bytes));
        }
    }
}
