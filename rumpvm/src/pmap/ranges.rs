//! Ranges to be flushed: a few, or everything.

use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

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

impl Ranges {
    pub(super) const fn new() -> Self {
        let none = VirtRange { start: VirtAddr(0), end: VirtAddr(0) };
        Self { ranges: [none; RANGES], len: 0, pages: 0 }
    }

    pub(super) fn everything<P: Platform>() -> VirtRange {
        VirtRange::new(VirtAddr(0), P::Format::USER_END)
    }

    #[inline]
    pub(super) fn add<P: Platform>(&mut self, range: VirtRange) {
        if self.pages > MAX_PAGES {
            // It is everything already.
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
            self.ranges[0] = Self::everything::<P>();
            (self.len, self.pages) = (1, u64::MAX >> 1);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = VirtRange> + '_ {
        self.ranges[..self.len].iter().copied()
    }
}
