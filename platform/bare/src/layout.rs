//! Where things are in the kernel's half of every address space.
//!
//! ```text
//! 0xffff_8000_0000_0000   direct map: all of RAM, at its physical address      64 TiB
//! 0xffff_d000_0000_0000   registers of devices, uncached                       512 GiB
//! 0xffff_e000_0000_0000   kernel stacks, each with unmapped pages below it     512 GiB
//! 0xffff_ffff_8000_0000   the image, at its physical address                   2 GiB
//! ```
//!
//! L1. The root's entries for these regions are made at boot and never change, so a root can be given a
//!     copy of them once and needs no further care.

use rumpvm_arch::PhysAddr;

/// Entries of a page table.
pub(crate) const ENTRIES: usize = 512;
/// Bytes that a table of the second level covers: what one large page does.
pub(crate) const LARGE: u64 = 2 << 20;
/// Bytes that one entry of the third level covers.
pub(crate) const HUGE: u64 = 1 << 30;
/// Bytes that one entry of the root covers.
pub(crate) const ROOT_ENTRY: u64 = 512 << 30;

/// Start of the direct map.
pub(crate) const DIRECT: u64 = 0xffff_8000_0000_0000;
/// The direct map's size: what a frame number can name is less.
pub(crate) const DIRECT_BYTES: u64 = 64 << 40;
/// Registers of devices.
pub(crate) const DEVICES: u64 = 0xffff_d000_0000_0000;
/// Kernel stacks.
pub(crate) const STACKS: u64 = 0xffff_e000_0000_0000;
/// What is added to the image's physical addresses; also in `boot/entry.s` and `kernel.ld`.
pub(crate) const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// What the boot tables map: nothing above it is touched before the kernel's own tables are loaded.
pub(crate) const BOOT_MAPPED: u64 = 4 << 30;

/// Where the kernel sees physical address `at`.
#[inline]
pub(crate) const fn direct(at: PhysAddr) -> u64 {
    DIRECT + at.0
}

/// The physical address behind an address in the direct map.
#[inline]
pub(crate) const fn physical(at: u64) -> PhysAddr {
    PhysAddr(at - DIRECT)
}

/// Physical ranges of the image's parts; each begins and ends with a page.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Image {
    /// Code: readable, executable.
    pub(crate) text: (u64, u64),
    /// Constants: readable.
    pub(crate) constants: (u64, u64),
    /// Data, and what begins as zeros: readable, writable.
    pub(crate) data: (u64, u64),
}

impl Image {
    /// First byte, and one past the last.
    pub(crate) fn extent(&self) -> (u64, u64) {
        (self.text.0, self.data.1)
    }
}
