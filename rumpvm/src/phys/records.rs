//! The record table: from a frame number to its record.
//!
//! Memory comes in segments, at any time; the records of a segment lie in its first frames. Segments are
//! few and never go, so the table is an array that only grows and is searched without a lock. On most
//! machines the first comparison hits.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use rumpvm_arch::{Frame, PAGE_SIZE};
use rumpvm_platform::Platform;

use super::page::{Page, PageKind};
use crate::sync::{Atomic, Ordering};

/// Most segments. A PC's memory map has under ten; memory that is hot-added comes in large pieces.
pub(super) const MAX_SEGMENTS: usize = 64;

#[derive(Clone, Copy)]
struct Segment<P> {
    first: u32,
    frames: u32,
    records: *const Page<P>,
}

/// The table.
pub(super) struct Records<P> {
    segments: [UnsafeCell<MaybeUninit<Segment<P>>>; MAX_SEGMENTS],
    /// Segments that are filled in; written under `Phys::adding`.
    count: Atomic<u32, P>,
}

// SAFETY: a segment is written once, before `count` admits it, and only read afterwards; the records that
// it points to are made of atomics.
unsafe impl<P: Platform> Sync for Records<P> {}
// SAFETY: the pointers lead to memory that the machine gave for good.
unsafe impl<P: Platform> Send for Records<P> {}

impl<P: Platform> Records<P> {
    pub(super) fn new() -> Self {
        let segments = [const { UnsafeCell::new(MaybeUninit::uninit()) }; MAX_SEGMENTS];
        Self { segments, count: Atomic::new(0) }
    }

    #[inline]
    fn segments(&self) -> &[Segment<P>] {
        let count = self.count.load(Ordering::Acquire) as usize;
        // SAFETY: the first `count` segments, which are not more than there are, are filled in and do not change any
        // more (`publish`); neither wrapper changes the layout.
        unsafe { core::slice::from_raw_parts(self.segments.as_ptr().cast(), count) }
    }

    /// The record of `frame`, if it was added.
    #[inline]
    pub(super) fn get(&self, frame: Frame) -> Option<&Page<P>> {
        for segment in self.segments() {
            let at = frame.0.wrapping_sub(segment.first);
            if at < segment.frames {
                // SAFETY: `publish` was given `frames` initialized records, which stay for good.
                return Some(unsafe { &*segment.records.add(at as usize) });
            }
        }
        None
    }

    /// Whether any frame of `first..first + frames` is there already.
    pub(super) fn overlaps(&self, first: u32, frames: u32) -> bool {
        self.segments().iter().any(|s| first < s.first + s.frames && s.first < first + frames)
    }

    /// Whether one more segment fits.
    pub(super) fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) as usize == MAX_SEGMENTS
    }

    /// First frame and length of each segment.
    pub(super) fn extents(&self) -> impl Iterator<Item = (u32, u32)> {
        self.segments().iter().map(|segment| (segment.first, segment.frames))
    }

    /// All frames of all segments.
    pub(super) fn frames(&self) -> u64 {
        self.segments().iter().map(|segment| u64::from(segment.frames)).sum()
    }

    /// Frames that hold the records themselves.
    pub(super) fn record_frames(&self) -> u64 {
        self.segments().iter().map(|segment| u64::from(record_frames::<P>(segment.frames))).sum()
    }

    /// Lays out the records of a new segment in its first frames and admits it.
    ///
    /// # Safety
    /// - The caller holds `Phys::adding`, and `is_full` and `overlaps` were false under it.
    /// - `base` maps the first of `frames` frames, which are the component's for good.
    pub(super) unsafe fn publish(&self, first: u32, frames: u32, base: *mut u8) {
        let records = base.cast::<Page<P>>();
        let own = record_frames::<P>(frames);
        for at in 0..frames {
            let kind = if at < own { PageKind::Record } else { PageKind::FreeTail };
            // SAFETY: the memory is ours and large enough (`record_frames`), and page-aligned.
            unsafe { records.add(at as usize).write(Page::new(kind)) };
        }
        let count = self.count.load(Ordering::Relaxed);
        // SAFETY: nobody reads this place before `count` is stored, and nobody else writes it.
        unsafe {
            (*self.segments[count as usize].get()).write(Segment { first, frames, records });
        }
        self.count.store(count + 1, Ordering::Release);
    }
}

/// Frames that the records of `frames` frames take.
pub(super) const fn record_frames<P>(frames: u32) -> u32 {
    (frames as u64 * size_of::<Page<P>>() as u64).div_ceil(PAGE_SIZE) as u32
}
