//! Placement: where a mapping goes when the caller does not say.
//!
//! Top-down from below the stack, as Linux does (`arch_get_unmapped_area_topdown`): the highest hole that
//! fits. Only when there is none below the base are the addresses above it tried. The other way round, lowest
//! first, in the legacy layout and for mappings that are to have addresses of 31 bits.

use core::ops::ControlFlow;

use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{AreaFlags, Direction, Map, State};
use crate::error::CallError;
use crate::sync::Pin;

/// Where `MAP_32BIT` begins to look, and what it stays below: its addresses are to fit 31 bits.
const LOW: (VirtAddr, VirtAddr) = (VirtAddr(1 << 30), VirtAddr(1 << 31));

/// Where a mapping may go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Anywhere.
    Any,
    /// Where addresses have 31 bits (`MAP_32BIT`).
    Low,
}

/// Pages kept unmapped below a growing stack (`stack_guard_gap`).
pub(super) const GUARD: u64 = 256 * PAGE_SIZE;

impl<P: Platform> Map<P> {
    /// A free range of `length` bytes: at `hint` if that is free, else where the layout says.
    pub(super) fn place(
        &self,
        state: &State,
        pin: &Pin<'_, P>,
        (hint, room): (VirtAddr, Room),
        length: u64,
    ) -> Result<VirtRange, CallError> {
        let lowest = state.limits.lowest;
        let end = match room {
            Room::Any => P::Format::USER_END.0,
            Room::Low => P::Format::USER_END.min(LOW.1).0,
        };
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
        let layout = state.layout;
        match (room, layout.direction) {
            (Room::Low, _) => return self.lowest(pin, (LOW.0.0, end), length),
            (Room::Any, Direction::Up) => {
                return self.lowest(pin, (layout.base.0.max(lowest), end), length);
            }
            (Room::Any, Direction::Down) => {}
        }
        [layout.base.0, end]
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

    /// The lowest free range of `length` bytes in `lo..hi`. Looks at one area after the other: for what is rare.
    fn lowest(
        &self,
        pin: &Pin<'_, P>,
        (lo, hi): (u64, u64),
        length: u64,
    ) -> Result<VirtRange, CallError> {
        let mut floor = lo;
        let found: ControlFlow<()> = self.areas.visit(pin, lo, u64::MAX, |area| {
            let gap_end = self.below_guard(pin, area.range.start.0).min(hi);
            if gap_end >= floor && gap_end - floor >= length {
                return ControlFlow::Break(());
            }
            floor = floor.max(area.range.end.0);
            ControlFlow::Continue(())
        });
        if found.is_continue() && hi.saturating_sub(floor) < length {
            return Err(CallError::NoMemory);
        }
        Ok(VirtRange::new(VirtAddr(floor), VirtAddr(floor + length)))
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
