//! Flush debts: what has to be flushed gathers, and is paid once (D9).
//!
//! Every change that takes rights away adds to a [`Debt`]. It is paid to the CPUs that translate through
//! the pmap at that moment, and only then may what was unmapped be freed.
//!
//! Locks: none. A debt is paid without any, or with those of the tables and nodes alone that keep others from
//! mapping something else meanwhile.
//! Sleep: never, but paying waits for the CPUs concerned.

use core::marker::PhantomData;

use rumpvm_arch::{Frame, PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::{CpuSet, Platform};

use super::ranges::Ranges;
use super::{Mmu, Pmap};
use crate::phys::{PageKind, Phys};
use crate::stats::Event;
use crate::sync::{Ordering, fence};

const NO_TABLE: u32 = u32::MAX;

/// A few frames.
#[derive(Clone, Copy)]
struct Few {
    frames: [u32; FEW],
    len: usize,
}

/// What a debt can remember before it must be paid: a cache line and a half of a fault's stack.
const FEW: usize = 24;

impl Few {
    const NONE: Self = Self { frames: [0; FEW], len: 0 };

    fn push(&mut self, frame: Frame) {
        self.frames[self.len] = frame.0;
        self.len += 1;
    }

    fn take(&mut self) -> impl Iterator<Item = Frame> + use<> {
        let taken = core::mem::replace(self, Self::NONE);
        taken.frames.into_iter().take(taken.len).map(Frame)
    }
}

/// What must be flushed before anything that was unmapped may be used again.
#[must_use = "pay the debt before what was unmapped is freed"]
pub struct Debt<P: Platform> {
    ranges: Ranges,
    /// Not only the CPUs of one pmap.
    everywhere: bool,
    /// It is counted in [`Mmu::revoking`] until it is paid.
    revokes: bool,
    /// Unlinked tables, and frames to be freed, chained through their records.
    tables: u32,
    /// Pages of objects, or the host's, that were dirty when an entry of theirs went. Until this is paid a CPU that knows the
    /// entry can store to them without anybody noting it.
    dirty: Few,
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform> Default for Debt<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Debt<P> {
    /// Nothing owed.
    pub fn new() -> Self {
        let ranges = Ranges::new();
        Self {
            ranges,
            everywhere: false,
            revokes: false,
            tables: NO_TABLE,
            dirty: Few::NONE,
            platform: PhantomData,
        }
    }

    /// Owes the page at `at`.
    #[inline]
    pub(super) fn page(&mut self, at: VirtAddr) {
        let start = at.page_down();
        self.ranges
            .add::<P::Format>(VirtRange { start, end: VirtAddr(start.0.wrapping_add(PAGE_SIZE)) });
    }

    /// Owes `range`, with the tables above it.
    pub(super) fn range(&mut self, range: VirtRange) {
        self.ranges.add::<P::Format>(range);
    }

    /// Owes everything.
    pub(super) fn whole(&mut self) {
        self.ranges.add::<P::Format>(Ranges::everything::<P::Format>());
    }

    /// An entry will be cleared, and owed, that is not one of the payer's own space: whoever finds it absent is to
    /// know.
    pub(super) fn revokes(&mut self, mmu: &Mmu<P>) {
        if !self.revokes {
            self.revokes = true;
            mmu.revoking.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Owes the page at `at`, on every CPU.
    pub(super) fn everywhere(&mut self, at: VirtAddr) {
        self.everywhere = true;
        self.page(at);
    }

    /// Gives an unlinked table to the debt, which retires it when it is paid. The list runs through the
    /// records, which are the debt's from now on.
    pub(super) fn table(&mut self, phys: &Phys<P>, frame: Frame) {
        phys.page(frame).next.set(self.tables);
        self.tables = frame.0;
    }

    /// Has `frame` freed when it is paid: a frame of the kernel's that nothing maps any more, but TLBs.
    pub(super) fn frame(&mut self, phys: &Phys<P>, frame: Frame) {
        self.table(phys, frame);
    }

    /// Remembers that `frame`, a page of an object, can be stored to through an entry that is gone.
    pub(super) fn dirty(&mut self, frame: Frame) {
        self.dirty.push(frame);
    }

    /// Whether it must be paid before anything is added to it.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.dirty.len == FEW
    }

    /// Whether nothing is owed.
    pub fn is_paid(&self) -> bool {
        self.ranges.len == 0 && self.tables == NO_TABLE && self.dirty.len == 0
    }

    /// The caller knows of a larger debt that pays this one too.
    pub(super) fn covered_by_another(mut self) {
        self.ranges.len = 0;
    }

    /// Flushes what is owed for `pmap`, and returns when every CPU concerned has done so. A CPU that waits
    /// for a table or node that the caller holds serves the flush meanwhile.
    #[inline]
    pub fn pay(self, mmu: &Mmu<P>, pmap: &Pmap<P>) {
        // Most faults owe nothing.
        if !self.is_paid() {
            self.pay_what_is_owed(mmu, pmap);
        }
    }

    fn pay_what_is_owed(mut self, mmu: &Mmu<P>, pmap: &Pmap<P>) {
        if self.ranges.len > 0 {
            // S1: what was changed is seen by every CPU that joins the set after this.
            fence::<P>();
            let everywhere = self.everywhere;
            let targets = if everywhere { mmu.shootdown.translating() } else { pmap.active() };
            self.flush(mmu, targets);
        }
        self.after_flush(mmu);
    }

    /// As [`Debt::pay`], for pages that any space may have mapped.
    pub fn pay_everywhere(mut self, mmu: &Mmu<P>) {
        if self.ranges.len > 0 {
            fence::<P>();
            self.flush(mmu, mmu.shootdown.translating());
        }
        self.after_flush(mmu);
    }

    /// On `targets`; but every CPU translates the kernel's addresses.
    fn flush(&self, mmu: &Mmu<P>, targets: CpuSet) {
        let targets =
            if self.ranges.has_kernel::<P::Format>() { mmu.shootdown.all() } else { targets };
        mmu.flush(&self.ranges, targets);
    }

    fn after_flush(&mut self, mmu: &Mmu<P>) {
        let phys = &mmu.phys;
        self.ranges.len = 0;
        if core::mem::take(&mut self.revokes) {
            mmu.revoking.fetch_sub(1, Ordering::SeqCst);
        }
        for frame in self.dirty.take() {
            let page = phys.page(frame);
            if matches!(page.kind(), PageKind::Object | PageKind::Host) {
                page.set_dirty();
            }
        }
        while self.tables != NO_TABLE {
            let frame = Frame(self.tables);
            let page = phys.page(frame);
            self.tables = page.next.get();
            if page.kind() == PageKind::Kernel {
                phys.free(phys.take(frame));
                continue;
            }
            page.refs.set(0);
            phys.retire(frame);
            phys.counters.count(Event::TableFreed);
        }
    }
}

impl<P: Platform> Drop for Debt<P> {
    fn drop(&mut self) {
        debug_assert!(self.is_paid(), "a flush debt was dropped without being paid");
    }
}
