//! Ranges to be flushed: a few, or everything.

use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr, VirtRange, kernel_half, span};

/// Ranges that a debt or a mailbox tells apart before it asks for a full flush. Beyond about this many
/// single invalidations a full flush is cheaper on hardware (Linux draws the line at 33 pages).
pub(super) const RANGES: usize = 8;

/// Pages above which a range is flushed as a whole.
pub(super) const MAX_PAGES: u64 = 33;

/// Ranges to be flushed.
#[derive(Clone, Copy)]
pub(super) struct Ranges {
    pub(super) ranges: [VirtRange; RANGES],
    pub(super) len: usize,
    pub(super) pages: u64,
}

/// Whether there are addresses of the kernel in `range`, of which a user's ends where the kernel's half begins, at most.
const fn is_kernel<F: Format>(range: VirtRange) -> bool {
    range.end.0 > F::USER_END.0.next_multiple_of(span::<F>(F::LEVELS))
}

impl Ranges {
    pub(super) const fn new() -> Self {
        let none = VirtRange { start: VirtAddr(0), end: VirtAddr(0) };
        Self { ranges: [none; RANGES], len: 0, pages: 0 }
    }

    pub(super) fn everything<F: Format>() -> VirtRange {
        VirtRange::new(VirtAddr(0), F::USER_END)
    }

    #[inline]
    pub(super) fn add<F: Format>(&mut self, range: VirtRange) {
        if self.pages > MAX_PAGES {
            // It is everything already, of user memory at least.
            if range.end > self.ranges[0].end {
                self.whole::<F>(range);
            }
            return;
        }
        if let Some(last) = self.ranges[..self.len].last_mut()
            && last.start <= range.start
            && range.start <= last.end
        {
            self.pages += range.end.0.saturating_sub(last.end.0) / PAGE_SIZE;
            last.end = last.end.max(range.end);
        } else if self.len < RANGES {
            self.ranges[self.len] = range;
            self.len += 1;
            self.pages += range.pages();
        } else {
            self.pages = u64::MAX >> 1;
        }
        if self.pages > MAX_PAGES {
            self.whole::<F>(range);
        }
    }

    /// Makes it everything: of the kernel too if `range` or what is there already has addresses of its.
    #[cold]
    fn whole<F: Format>(&mut self, range: VirtRange) {
        let everything = Self::everything::<F>();
        let kernel = is_kernel::<F>(range) || self.has_kernel::<F>();
        let end = if kernel { kernel_half::<F>().end } else { everything.end };
        self.ranges[0] = VirtRange { end, ..everything };
        (self.len, self.pages) = (1, u64::MAX >> 1);
    }

    /// Whether addresses of the kernel are among them, which every CPU translates.
    pub(super) fn has_kernel<F: Format>(&self) -> bool {
        self.iter().any(is_kernel::<F>)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = VirtRange> + '_ {
        self.ranges[..self.len].iter().copied()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use rumpvm_arch::X86_64;
    use std::vec::Vec;

    use super::*;

    fn pages(first: u64, count: u64) -> VirtRange {
        VirtRange::new(VirtAddr(first * PAGE_SIZE), VirtAddr((first + count) * PAGE_SIZE))
    }

    /// What is flushed once `parts`, first pages and numbers of pages, were added, as such parts.
    fn flushed(parts: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut ranges = Ranges::new();
        for (first, count) in parts {
            ranges.add::<X86_64>(pages(*first, *count));
        }
        ranges.iter().map(|range| (range.start.page(), range.pages())).collect()
    }

    fn everything() -> Vec<(u64, u64)> {
        [(0, X86_64::USER_END.page())].into()
    }

    #[test]
    fn ranges_that_follow_each_other_are_one_and_others_stay_apart() {
        assert_eq!(flushed(&[]), []);
        assert_eq!(flushed(&[(5, 1), (6, 2), (8, 1)]), [(5, 4)]);
        assert_eq!(flushed(&[(5, 3), (6, 1), (7, 4)]), [(5, 6)], "what overlaps");
        assert_eq!(flushed(&[(5, 3), (5, 4)]), [(5, 4)], "what begins at the same page");
        assert_eq!(flushed(&[(5, 1), (7, 1), (8, 1)]), [(5, 1), (7, 2)]);
        assert_eq!(flushed(&[(5, 2), (4, 1), (9, 1)]), [(5, 2), (4, 1), (9, 1)], "downwards");
    }

    #[test]
    fn beyond_so_many_pages_everything_is_flushed() {
        assert_eq!(flushed(&[(0x100, 33)]), [(0x100, 33)]);
        assert_eq!(flushed(&[(0x100, 34)]), everything());
        assert_eq!(flushed(&[(0x100, 30), (0x11e, 3)]), [(0x100, 33)]);
        assert_eq!(flushed(&[(0x100, 30), (0x11e, 4)]), everything());
        assert_eq!(flushed(&[(0x100, 20), (0x110, 17)]), [(0x100, 33)], "counted once");
        assert_eq!(flushed(&[(0x100, 20), (0x200, 14)]), everything());
        assert_eq!(flushed(&[(0x100, 900), (0x800, 1), (0x900, 900)]), everything());
    }

    #[test]
    fn a_page_of_the_kernel_makes_everything_its_addresses_too() {
        let half = kernel_half::<X86_64>();
        let (first, end) = (half.start.page(), half.end.page());
        assert_eq!(flushed(&[(first, 33)]), [(first, 33)]);
        assert_eq!(flushed(&[(first, 34)]), [(0, end)]);
        assert_eq!(flushed(&[(0x100, 900), (first, 1)]), [(0, end)], "which it was not before");
        assert_eq!(flushed(&[(first, 1), (0x100, 900)]), [(0, end)]);
        assert_eq!(flushed(&[(first, 1), (0x100, 1)]), [(first, 1), (0x100, 1)]);
    }

    #[test]
    fn beyond_so_many_ranges_everything_is_flushed() {
        let apart: Vec<_> = (0..9).map(|at| (0x100 + 2 * at, 1)).collect();
        assert_eq!(flushed(&apart[..8]), apart[..8]);
        assert_eq!(flushed(&apart), everything());
        let longer = [&apart[..8], &[(0x10f, 3)]].concat();
        assert_eq!(flushed(&longer).last(), Some(&(0x10e, 4)), "the last one still grows");
    }
}
