//! What the recording has told about one address space since its exec.
//!
//! K1. `told` holds every range that a call has mapped or unmapped. What lies outside was made by the
//!     kernel at exec, if it is there at all.

use rangemap::RangeSet;
use rumpvm_arch::{VirtAddr, VirtRange};

/// What is known about an address space, beyond what rumpvm keeps of it.
#[derive(Clone, Default)]
pub(super) struct Known {
    told: RangeSet<u64>, // K1
    /// Where the break starts, known from the first brk, has been passed on.
    pub(super) has_break: bool,
    /// Nothing may be placed above 4 GiB (a 32-bit program).
    pub(super) is_32_bit: bool,
}

impl Known {
    /// A call of the recording decided about `range`.
    pub(super) fn tell(&mut self, range: VirtRange) {
        if !range.is_empty() {
            self.told.insert(range.start.0..range.end.0);
        }
    }

    /// The parts of `wanted` that no call decided about and that are not in `mapped` either: what an
    /// image must have there, if a call succeeded on all of `wanted`.
    pub(super) fn untold_gaps(
        &self,
        wanted: VirtRange,
        mapped: impl Iterator<Item = VirtRange>,
    ) -> Vec<VirtRange> {
        let mut covered: RangeSet<u64> = mapped
            .map(|range| range.clip(wanted))
            .filter(|range| !range.is_empty())
            .map(|range| range.start.0..range.end.0)
            .collect();
        let wanted = wanted.start.0..wanted.end.0;
        covered.extend(self.told.overlapping(&wanted).cloned());
        let gaps = covered.gaps(&wanted);
        gaps.map(|gap| VirtRange::new(VirtAddr(gap.start), VirtAddr(gap.end))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> VirtRange {
        VirtRange::new(VirtAddr(start), VirtAddr(end))
    }

    #[test]
    fn gaps_are_what_is_neither_told_nor_mapped() {
        let mut known = Known::default();
        known.tell(range(0x3000, 0x4000));
        let mapped = [range(0x0, 0x2000), range(0x6000, 0x9000)];
        let gaps = known.untold_gaps(range(0x1000, 0x8000), mapped.into_iter());
        assert_eq!(gaps, [range(0x2000, 0x3000), range(0x4000, 0x6000)]);
        assert_eq!(known.untold_gaps(range(0x3000, 0x4000), [].into_iter()), []);
    }
}
