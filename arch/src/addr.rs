//! Addresses and frame numbers: the units that must not be confused.

use core::fmt;
use core::ops::{Add, Sub};

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page and in a frame, on every x86 format.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// A virtual address, in bytes. It may be unaligned, and it need not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VirtAddr(pub u64);

/// A physical address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PhysAddr(pub u64);

/// The number of a physical 4 KiB frame: the address shifted right by [`PAGE_SHIFT`].
///
/// 32 bits reach 16 TiB, and let a record name two neighbours in 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Frame(pub u32);

/// The half-open byte range `start..end` of virtual addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VirtRange {
    /// First byte.
    pub start: VirtAddr,
    /// One past the last byte.
    pub end: VirtAddr,
}

impl VirtAddr {
    /// Number of the page that holds this byte.
    #[inline]
    pub const fn page(self) -> u64 {
        self.0 >> PAGE_SHIFT
    }

    /// The first byte of page number `page`.
    #[inline]
    pub const fn of_page(page: u64) -> Self {
        Self(page << PAGE_SHIFT)
    }

    /// Offset inside the page, in bytes.
    #[inline]
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }

    /// Start of the page that holds this byte.
    #[inline]
    pub const fn page_down(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// Start of the first page at or after this byte; `None` beyond the end of the address space.
    #[inline]
    pub const fn page_up(self) -> Option<Self> {
        match self.0.checked_add(PAGE_SIZE - 1) {
            Some(up) => Some(Self(up & !(PAGE_SIZE - 1))),
            None => None,
        }
    }

    /// Whether this is the first byte of a page.
    #[inline]
    pub const fn is_page_aligned(self) -> bool {
        self.page_offset() == 0
    }
}

impl PhysAddr {
    /// The frame that holds this byte. The address must be below 16 TiB (checked in debug builds).
    #[inline]
    pub const fn frame(self) -> Frame {
        debug_assert!(self.0 >> PAGE_SHIFT <= u32::MAX as u64);
        Frame((self.0 >> PAGE_SHIFT) as u32)
    }
}

impl Frame {
    /// The first byte of this frame.
    #[inline]
    pub const fn start(self) -> PhysAddr {
        PhysAddr((self.0 as u64) << PAGE_SHIFT)
    }
}

impl VirtRange {
    /// The range `start..end`; `end` must not be below `start` (checked in debug builds).
    #[inline]
    pub const fn new(start: VirtAddr, end: VirtAddr) -> Self {
        debug_assert!(start.0 <= end.0);
        Self { start, end }
    }

    /// The range of `length` bytes from `start`; `None` if it would wrap around.
    #[inline]
    pub const fn of_length(start: VirtAddr, length: u64) -> Option<Self> {
        match start.0.checked_add(length) {
            Some(end) => Some(Self { start, end: VirtAddr(end) }),
            None => None,
        }
    }

    /// Length in bytes.
    #[inline]
    pub const fn length(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Length in whole pages; both ends are taken to be page-aligned.
    #[inline]
    pub const fn pages(self) -> u64 {
        self.length() >> PAGE_SHIFT
    }

    /// Whether there is no byte in it.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.end.0 <= self.start.0
    }

    /// Whether `at` lies inside.
    #[inline]
    pub const fn contains(self, at: VirtAddr) -> bool {
        self.start.0 <= at.0 && at.0 < self.end.0
    }

    /// Whether the two ranges share a byte.
    #[inline]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 < other.end.0 && other.start.0 < self.end.0
    }

    /// The part that both ranges share; empty if there is none.
    #[inline]
    pub fn clip(self, to: Self) -> Self {
        let start = self.start.max(to.start);
        Self { start, end: self.end.min(to.end).max(start) }
    }
}

impl Add<u64> for VirtAddr {
    type Output = Self;
    #[inline]
    fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl Sub<u64> for VirtAddr {
    type Output = Self;
    #[inline]
    fn sub(self, bytes: u64) -> Self {
        Self(self.0 - bytes)
    }
}

impl Sub for VirtAddr {
    type Output = u64;
    #[inline]
    fn sub(self, earlier: Self) -> u64 {
        self.0 - earlier.0
    }
}

impl Add<u64> for PhysAddr {
    type Output = Self;
    #[inline]
    fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl fmt::Debug for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{:#x}", self.0)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {:#x}", self.0)
    }
}

impl fmt::Debug for VirtRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.0, self.end.0)
    }
}

impl fmt::Display for VirtRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.0, self.end.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_up_stops_at_the_end_of_the_address_space() {
        assert_eq!(VirtAddr(1).page_up(), Some(VirtAddr(PAGE_SIZE)));
        assert_eq!(VirtAddr(PAGE_SIZE).page_up(), Some(VirtAddr(PAGE_SIZE)));
        assert_eq!(VirtAddr(u64::MAX).page_up(), None);
    }

    #[test]
    fn clipping_disjoint_ranges_gives_an_empty_one() {
        let low = VirtRange::new(VirtAddr(0), VirtAddr(0x1000));
        let high = VirtRange::new(VirtAddr(0x5000), VirtAddr(0x6000));
        assert!(low.clip(high).is_empty());
        assert!(!low.overlaps(high));
        assert_eq!(VirtRange::of_length(VirtAddr(u64::MAX), 2), None);
    }
}
