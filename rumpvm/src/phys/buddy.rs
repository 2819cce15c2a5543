//! The buddy: blocks of 2^order frames, free lists threaded through the page records.
//!
//! Knuth, TAOCP 1, 2.5. A free block is known by its first record: kind `Free`, its order in `live`. The
//! other records of the block are `FreeTail`, so a merge decides by looking at one record.

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::NO_FRAME;
use super::page::PageKind;
use super::records::Records;

/// Orders 0 to 18: a frame to 1 GiB, the largest page of x86.
const ORDERS: usize = 19;

/// The free lists. Behind the buddy lock.
pub(super) struct Buddy {
    heads: [u32; ORDERS],
    free: u64,
}

impl Buddy {
    pub(super) fn new() -> Self {
        Self { heads: [NO_FRAME; ORDERS], free: 0 }
    }

    /// Frames in all free blocks.
    pub(super) fn free_frames(&self) -> u64 {
        self.free
    }

    /// Takes a block of 2^`order` frames; its records stay `FreeTail` until the caller sets them.
    pub(super) fn alloc<P: Platform>(&mut self, records: &Records<P>, order: u32) -> Option<Frame> {
        let enough = (order as usize..ORDERS).find(|k| self.heads[*k] != NO_FRAME)?;
        let first = self.heads[enough];
        self.unlink(records, first, enough);
        for half in (order as usize..enough).rev() {
            self.link(records, first + (1 << half), half);
        }
        self.free -= 1 << order;
        Some(Frame(first))
    }

    /// Gives back a block, merging it with its free neighbours. The records of all its frames but the first are
    /// `FreeTail`, as [`Buddy::alloc`] left them.
    pub(super) fn free<P: Platform>(&mut self, records: &Records<P>, frame: Frame, order: u32) {
        let (mut first, mut order) = (frame.0, order as usize);
        self.free += 1 << order;
        if let Some(page) = records.get(frame) {
            page.reset(PageKind::FreeTail);
        }
        while order + 1 < ORDERS {
            let buddy = first ^ (1 << order);
            let mergeable = records.get(Frame(buddy)).is_some_and(|page| {
                page.kind() == PageKind::Free && page.live.get() == order as u32
            });
            if !mergeable {
                break;
            }
            self.unlink(records, buddy, order);
            first = first.min(buddy);
            order += 1;
        }
        self.link(records, first, order);
    }

    /// Gives `count` frames from `first` in the largest blocks that fit.
    pub(super) fn free_range<P: Platform>(&mut self, records: &Records<P>, first: u32, count: u32) {
        let (mut at, end) = (first, first + count);
        while at < end {
            let aligned = at.trailing_zeros().min(ORDERS as u32 - 1);
            let order = aligned.min((end - at).ilog2());
            self.free(records, Frame(at), order);
            at += 1 << order;
        }
    }

    /// Calls `f` with first frame and order of every free block.
    pub(super) fn for_each<P: Platform>(&self, records: &Records<P>, mut f: impl FnMut(u32, u32)) {
        for (order, head) in self.heads.iter().enumerate() {
            let mut at = *head;
            while let Some(page) = records.get(Frame(at)) {
                f(at, order as u32);
                at = page.next.get();
            }
        }
    }

    fn link<P: Platform>(&mut self, records: &Records<P>, first: u32, order: usize) {
        let head = core::mem::replace(&mut self.heads[order], first);
        if let Some(page) = records.get(Frame(first)) {
            page.live.set(order as u32);
            page.next.set(head);
            page.prev.set(NO_FRAME);
            page.set_kind(PageKind::Free);
        }
        if let Some(after) = records.get(Frame(head)) {
            after.prev.set(first);
        }
    }

    fn unlink<P: Platform>(&mut self, records: &Records<P>, first: u32, order: usize) {
        let Some(page) = records.get(Frame(first)) else { return };
        let (next, prev) = (page.next.get(), page.prev.get());
        match records.get(Frame(prev)) {
            Some(before) => before.next.set(next),
            None => self.heads[order] = next,
        }
        if let Some(after) = records.get(Frame(next)) {
            after.prev.set(prev);
        }
        page.reset(PageKind::FreeTail);
    }
}
