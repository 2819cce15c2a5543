//! Adding memory: at boot, or any time later.

use core::fmt;

use rumpvm_arch::{Format, Frame, PAGE_SIZE, PhysAddr};
use rumpvm_platform::Platform;

use super::cache::MAX_BATCH;
use super::page::PageKind;
use super::records::{MAX_SEGMENTS, record_frames};
use super::{NO_FRAME, Phys};
use crate::sync::Ordering;

/// Why a range of physical memory was not added. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddMemoryError {
    /// There is no whole frame in it beside those for its own records.
    TooSmall,
    /// Page tables of this machine's format cannot name frames at or above `end`.
    OutOfReach {
        /// First frame number that is out of reach.
        end: u64,
    },
    /// Part of it was added before.
    Overlaps,
    /// There are as many separate ranges as the record table can hold.
    TooManySegments,
}

impl fmt::Display for AddMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall => f.write_str("the range holds no frame beside its own records"),
            Self::OutOfReach { end } => {
                write!(f, "page tables cannot name frames at or above {end:#x}")
            }
            Self::Overlaps => f.write_str("part of the range was added before"),
            Self::TooManySegments => write!(f, "there are {MAX_SEGMENTS} ranges already"),
        }
    }
}

impl core::error::Error for AddMemoryError {}

impl<P: Platform> Phys<P> {
    /// Takes over the physical range `start..end`, rounded inwards to whole frames, for good. Its first
    /// frames, one in 64, hold the records of the rest.
    ///
    /// Takes the `adding` and buddy locks; does not sleep.
    pub fn add_memory(&self, start: PhysAddr, end: PhysAddr) -> Result<(), AddMemoryError> {
        let first = start.0.div_ceil(PAGE_SIZE);
        let last = end.0 / PAGE_SIZE;
        let reach = P::Format::FRAME_END.min(u64::from(NO_FRAME));
        if last > reach {
            return Err(AddMemoryError::OutOfReach { end: reach });
        }
        let frames = last.saturating_sub(first) as u32;
        let (first, own) = (first as u32, record_frames::<P>(frames));
        let zero_page = u32::from(self.zero_page.load(Ordering::Acquire) == NO_FRAME);
        if frames <= own + zero_page {
            return Err(AddMemoryError::TooSmall);
        }
        let adding = self.adding.lock();
        if self.records.is_full() {
            return Err(AddMemoryError::TooManySegments);
        }
        if self.records.overlaps(first, frames) {
            return Err(AddMemoryError::Overlaps);
        }
        let base = self.platform.phys_to_virt(Frame(first).start()).as_ptr();
        // SAFETY:
        // - `adding` is held, and both questions were asked under it.
        // - The host gave the range for good, and its direct map covers it (`Platform::phys_to_virt`).
        unsafe { self.records.publish(first, frames, base) };
        self.buddy.lock_unqueued().free_range(&self.records, first + own, frames - own);
        self.set_batch();
        drop(adding);
        if zero_page == 1 {
            self.make_zero_page();
        }
        Ok(())
    }

    /// Keeps the caches of all CPUs together below a sixteenth of memory, so that a small machine is not
    /// starved by its caches.
    fn set_batch(&self) {
        let share = self.records.frames() / (32 * self.platform.cpu_count() as u64);
        self.batch.store((share as u32).clamp(1, MAX_BATCH), Ordering::Release);
    }

    fn make_zero_page(&self) {
        let Ok(fresh) = self.alloc_run(0) else { return };
        self.zero(&fresh);
        let frame = self.give(fresh, PageKind::Wired);
        self.zero_page.store(frame.0, Ordering::Release);
    }

    /// Calls `f` with every frame that has a record.
    pub fn for_each_frame(&self, mut f: impl FnMut(Frame)) {
        for (first, frames) in self.records.extents() {
            for at in 0..frames {
                f(Frame(first + at));
            }
        }
    }
}
