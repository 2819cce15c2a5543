//! TLB flushes: debts that gather, and requests that other CPUs serve (D9).
//!
//! Every change that takes rights away adds to a [`Debt`]. It is paid once, to the CPUs that translate
//! through the pmap at that moment, and only then may what was unmapped be freed.
//!
//! Locks: each CPU's mailbox lock, held for a few stores.
//! Sleep: never, but paying waits for the CPUs concerned; the payer serves its own mailbox meanwhile.
//!
//! F1. Entries change before the set of active CPUs is read; a CPU joins the set before it translates.
//! F2. `done` of a mailbox is the number of the last request that its CPU has carried out.

use core::marker::PhantomData;

use rumpvm_arch::{Format, Frame, PAGE_SIZE, Pte, VirtAddr, VirtRange};
use rumpvm_platform::{CpuId, CpuSet, MAX_CPUS, Platform};

use super::{Mmu, Pmap, is_tracked};
use crate::NoMemory;
use crate::phys::{PageKind, Phys};
use crate::stats::Event;
use crate::sync::{Atomic, Ordering, PerCpu, Spin, fence};

/// Ranges that a debt or a mailbox tells apart before it asks for a full flush. Beyond about this many
/// single invalidations a full flush is cheaper on hardware (Linux draws the line at 33 pages).
const RANGES: usize = 8;
/// Pages above which a range is flushed as a whole.
const MAX_PAGES: u64 = 33;
const NO_TABLE: u32 = u32::MAX;

/// Ranges to be flushed.
#[derive(Clone, Copy)]
struct Ranges {
    ranges: [VirtRange; RANGES],
    len: usize,
    pages: u64,
}

impl Ranges {
    const fn new() -> Self {
        let none = VirtRange { start: VirtAddr(0), end: VirtAddr(0) };
        Self { ranges: [none; RANGES], len: 0, pages: 0 }
    }

    fn everything<P: Platform>() -> VirtRange {
        VirtRange::new(VirtAddr(0), P::Format::USER_END)
    }

    #[inline]
    fn add<P: Platform>(&mut self, range: VirtRange) {
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

    fn iter(&self) -> impl Iterator<Item = VirtRange> + '_ {
        self.ranges[..self.len].iter().copied()
    }
}

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
    /// Unlinked tables, chained through their records.
    tables: u32,
    /// Shared leaf tables that the pmap has left. They count it as a sharer until this is paid: the others
    /// must not take them for their own while a CPU may still walk them for us.
    left: Few,
    /// Object pages that were dirty when an entry of theirs went. Until this is paid a CPU that knows the
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
            tables: NO_TABLE,
            left: Few::NONE,
            dirty: Few::NONE,
            platform: PhantomData,
        }
    }

    /// Owes the page at `at`.
    #[inline]
    pub(super) fn page(&mut self, at: VirtAddr) {
        let start = at.page_down();
        self.ranges.add::<P>(VirtRange { start, end: VirtAddr(start.0.wrapping_add(PAGE_SIZE)) });
    }

    /// Owes `range`, with the tables above it.
    pub(super) fn range(&mut self, range: VirtRange) {
        self.ranges.add::<P>(range);
    }

    /// Owes everything.
    pub(super) fn whole(&mut self) {
        self.ranges.add::<P>(Ranges::everything::<P>());
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

    /// Owes the end of the pmap's use of a shared leaf table that it has unlinked.
    pub(super) fn release(&mut self, table: Frame) {
        self.left.push(table);
    }

    /// Remembers that `old`, an entry that is gone, could be stored through.
    #[inline]
    pub(super) fn dirty(&mut self, phys: &Phys<P>, old: Pte) {
        if old.is_dirty()
            && is_tracked(phys, old.frame())
            && phys.page(old.frame()).kind() == PageKind::Object
        {
            self.dirty.push(old.frame());
        }
    }

    /// Whether it must be paid before anything is added to it.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.left.len == FEW || self.dirty.len == FEW
    }

    /// Whether nothing is owed.
    pub fn is_paid(&self) -> bool {
        self.ranges.len == 0 && self.tables == NO_TABLE && self.left.len == 0 && self.dirty.len == 0
    }

    /// The caller knows of a larger debt that pays this one too.
    pub(super) fn covered_by_another(mut self) {
        self.ranges.len = 0;
    }

    /// Flushes what is owed for `pmap`, and returns when every CPU concerned has done so. To be called
    /// without a spin lock or a pin.
    pub fn pay(mut self, mmu: &Mmu<P>, pmap: &Pmap<P>) {
        if self.ranges.len > 0 {
            // F1: what was changed is seen by every CPU that joins the set after this.
            fence::<P>();
            let everywhere = self.everywhere;
            let targets = if everywhere { mmu.shootdown.translating() } else { pmap.active() };
            mmu.flush(&self.ranges, targets);
        }
        self.after_flush(mmu);
    }

    /// As [`Debt::pay`], for pages that any space may have mapped.
    pub fn pay_everywhere(mut self, mmu: &Mmu<P>) {
        if self.ranges.len > 0 {
            fence::<P>();
            mmu.flush(&self.ranges, mmu.shootdown.translating());
        }
        self.after_flush(mmu);
    }

    fn after_flush(&mut self, mmu: &Mmu<P>) {
        let phys = &mmu.phys;
        self.ranges.len = 0;
        for frame in self.dirty.take() {
            let page = phys.page(frame);
            if page.kind() == PageKind::Object {
                page.set_dirty();
            }
        }
        for table in self.left.take() {
            super::leaf::release(mmu, table);
        }
        while self.tables != NO_TABLE {
            let frame = Frame(self.tables);
            self.tables = phys.page(frame).next.get();
            phys.page(frame).refs.set(0);
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

/// Requests to one CPU.
struct Mailbox<S> {
    requests: Spin<Requests, S>,
    done: Atomic<u64, S>,
}

struct Requests {
    ranges: Ranges,
    drain: bool,
    leave: bool,
    /// Number of the newest request.
    posted: u64,
}

/// The mailboxes of all CPUs.
pub struct Shootdown<P> {
    mailboxes: PerCpu<Mailbox<P>, P>,
    /// CPUs that translate through some pmap.
    translating: [Atomic<u64, P>; CpuSet::WORDS],
    /// CPUs that have ever served requests.
    serving: [Atomic<u64, P>; CpuSet::WORDS],
}

fn members<P: Platform>(words: &[Atomic<u64, P>; CpuSet::WORDS]) -> CpuSet {
    CpuSet::from_words(core::array::from_fn(|at| words[at].load(Ordering::SeqCst)))
}

impl<P: Platform> Shootdown<P> {
    pub(super) fn try_new(cpus: usize) -> Result<Self, NoMemory> {
        let mailboxes = PerCpu::try_new(cpus, |_| Mailbox {
            requests: Spin::new(Requests {
                ranges: Ranges::new(),
                drain: false,
                leave: false,
                posted: 0,
            }),
            done: Atomic::new(0),
        })?;
        let empty = || core::array::from_fn(|_| Atomic::new(0));
        Ok(Self { mailboxes, translating: empty(), serving: empty() })
    }

    /// CPUs that translate through some pmap now.
    pub(super) fn translating(&self) -> CpuSet {
        members(&self.translating)
    }

    /// Notes that `cpu`, the caller's, begins or ends translating.
    pub(super) fn attach(&self, cpu: CpuId, translates: bool) {
        let (word, bit) = (cpu.0 as usize / 64, 1 << (cpu.0 % 64));
        if translates {
            self.translating[word].fetch_or(bit, Ordering::SeqCst);
        } else {
            self.translating[word].fetch_and(!bit, Ordering::SeqCst);
        }
        self.serves(cpu);
    }

    /// Notes that `cpu`, the caller's, serves requests from now on.
    pub fn serves(&self, cpu: CpuId) {
        let (word, bit) = (cpu.0 as usize / 64, 1 << (cpu.0 % 64));
        if self.serving[word].load(Ordering::Relaxed) & bit == 0 {
            self.serving[word].fetch_or(bit, Ordering::SeqCst);
        }
    }
}

impl<P: Platform> Mmu<P> {
    /// Carries out what other CPUs asked of this one. Takes this CPU's mailbox lock; does not wait. `leave`
    /// is called if somebody asks this CPU to give up the space that it translates through.
    pub fn tlb_interrupt(&self, leave: impl FnOnce()) {
        let mailbox = self.shootdown.mailboxes.mine();
        let mut requests = mailbox.requests.lock();
        let ranges = core::mem::replace(&mut requests.ranges, Ranges::new());
        let drain = core::mem::take(&mut requests.drain);
        let leaves = core::mem::take(&mut requests.leave);
        let posted = requests.posted;
        drop(requests);
        for range in ranges.iter() {
            self.phys.platform.tlb_invalidate(range);
        }
        if drain {
            self.phys.drain();
        }
        if leaves {
            leave();
        }
        if mailbox.done.get() < posted {
            mailbox.done.store(posted, Ordering::Release);
        }
    }

    /// Takes the frames that CPUs hold in their caches back to where everyone finds them. For when memory
    /// seems to have run out. Waits for the other CPUs; to be called without a spin lock or a pin.
    pub fn squeeze(&self) {
        for _ in 0..3 {
            self.phys.epoch.advance();
        }
        self.phys.epoch.collect();
        self.phys.collect();
        self.ask(members(&self.shootdown.serving), |requests| requests.drain = true);
        self.phys.drain();
    }

    /// Asks the other CPUs that translate through `pmap`, which ends, to give it up; waits until they have.
    pub fn evict(&self, pmap: &Pmap<P>) {
        self.ask(pmap.active(), |requests| requests.leave = true);
    }

    fn flush(&self, ranges: &Ranges, mut targets: CpuSet) {
        self.phys.counters.count(Event::Flush);
        let interrupts = P::intr_save();
        let me = P::cpu_id();
        if targets.contains(me) {
            for range in ranges.iter() {
                self.phys.platform.tlb_invalidate(range);
            }
        }
        targets.remove(me);
        P::intr_restore(interrupts);
        if !targets.is_empty() {
            self.phys.counters.add(Event::FlushRemote, targets.count() as u64);
            self.ask(targets, |requests| {
                for range in ranges.iter() {
                    requests.ranges.add::<P>(range);
                }
            });
        }
    }

    /// Posts a request to each CPU in `targets` but this one, and waits until all have served it.
    fn ask(&self, mut targets: CpuSet, mut request: impl FnMut(&mut Requests)) {
        targets.remove(P::cpu_id());
        if targets.is_empty() {
            return;
        }
        let mut numbers = [0; MAX_CPUS];
        for cpu in targets.iter() {
            let mut requests = self.shootdown.mailboxes.of(cpu).requests.lock();
            request(&mut requests);
            requests.posted += 1;
            numbers[cpu.0 as usize] = requests.posted;
        }
        self.phys.platform.tlb_ipi(&targets);
        for cpu in targets.iter() {
            let number = numbers[cpu.0 as usize];
            let mailbox = self.shootdown.mailboxes.of(cpu);
            mailbox.done.wait_while(Ordering::Acquire, |done| done < number);
        }
    }
}
