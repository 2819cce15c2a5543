//! Placement: where a mapping goes when the caller does not say.
//!
//! Top-down from below the stack, as Linux does (`arch_get_unmapped_area_topdown`): the highest hole that
//! fits. Only when there is none below the ceiling are the addresses above it tried.

use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{AreaFlags, Map, State};
use crate::error::CallError;
use crate::sync::Pin;

/// Kept free below the end of user memory for the stack: Linux's least gap, `MIN_GAP`.
const STACK_ROOM: u64 = 128 << 20;
/// Pages kept unmapped below a growing stack (`stack_guard_gap`).
pub(super) const GUARD: u64 = 256 * PAGE_SIZE;

impl<P: Platform> Map<P> {
    /// A free range of `length` bytes below `limit`: at `hint` if that is free, else the highest that fits.
    pub(super) fn place(
        &self,
        state: &State,
        pin: &Pin<'_, P>,
        (hint, limit): (VirtAddr, VirtAddr),
        length: u64,
    ) -> Result<VirtRange, CallError> {
        let lowest = state.limits.lowest;
        let end = P::Format::USER_END.min(limit).0;
        if length > end - lowest {
            return Err(CallError::NoMemory);
        }
        if hint.page() != 0
            && let Some(range) = VirtRange::of_length(round_hint(hint, lowest), length)
            && range.end.0 <= end
            && self.is_free(pin, range)
        {
            return Ok(range);
        }
        let ceiling = end - STACK_ROOM;
        [ceiling, end]
            .into_iter()
            .find_map(|top| {
                self.areas.highest_gap(pin, (lowest, top), length, |floor, gap_end| {
                    let start = self.below_guard(pin, gap_end).min(gap_end).checked_sub(length)?;
                    let start = VirtAddr(start);
                    (start.0 >= floor).then(|| VirtRange::new(start, start + length))
                })
            })
            .ok_or(CallError::NoMemory)
    }

    /// Whether nothing is mapped in `range`.
    pub(super) fn is_empty(&self, pin: &Pin<'_, P>, range: VirtRange) -> bool {
        let next = self.areas.at_or_after(pin, range.start.0);
        next.is_none_or(|next| next.range.start >= range.end)
    }

    /// Whether nothing is mapped in `range`, nor a stack so close above that it could not grow.
    pub(super) fn is_free(&self, pin: &Pin<'_, P>, range: VirtRange) -> bool {
        match self.areas.at_or_after(pin, range.start.0) {
            Some(next) => {
                next.range.start >= range.end
                    && range.end.0 <= self.below_guard(pin, next.range.start.0)
            }
            None => true,
        }
    }

    /// `end`, or below the guard if a growing area begins there.
    fn below_guard(&self, pin: &Pin<'_, P>, end: u64) -> u64 {
        match self.areas.get(pin, end) {
            Some(above)
                if above.range.start.0 == end && above.flags.contains(AreaFlags::GROWSDOWN) =>
            {
                end.saturating_sub(GUARD)
            }
            _ => end,
        }
    }
}

/// Where a hint points: rounded down, and not below `lowest`; Linux's `round_hint_to_min`.
fn round_hint(hint: VirtAddr, lowest: u64) -> VirtAddr {
    VirtAddr(hint.page_down().0.max(lowest))
}
