//! Requests between CPUs: flushes, and what else all CPUs have to do.
//!
//! Locks: each CPU's mailbox lock, held for a few stores.
//! Sleep: never; who asks waits for the CPUs concerned, and serves his own mailbox meanwhile.
//!
//! S1. Entries change before the set of active CPUs is read; a CPU joins the set before it translates.
//! S2. `done` of a mailbox is the number of the last request that its CPU has carried out.

use rumpvm_platform::{CpuId, CpuSet, MAX_CPUS, Platform};

use super::ranges::Ranges;
use super::{Mmu, Pmap};
use crate::NoMemory;
use crate::stats::Event;
use crate::sync::{Atomic, Ordering, PerCpu, Spin, class};

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
            requests: Spin::new(
                &class::MAILBOX,
                Requests { ranges: Ranges::new(), drain: false, leave: false, posted: 0 },
            ),
            done: Atomic::new(0),
        })?;
        let empty = || core::array::from_fn(|_| Atomic::new(0));
        Ok(Self { mailboxes, translating: empty(), serving: empty() })
    }

    /// CPUs that translate through some pmap now.
    pub(super) fn translating(&self) -> CpuSet {
        members(&self.translating)
    }

    /// CPUs that have ever served requests, and the caller's.
    pub(super) fn all(&self) -> CpuSet {
        self.serves(P::cpu_id());
        members(&self.serving)
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
            self.phys.drain_all();
        }
        if leaves {
            leave();
        }
        if mailbox.done.get() < posted {
            mailbox.done.store(posted, Ordering::Release);
        }
    }

    /// Takes the frames that CPUs hold in their caches back to where everyone finds them, those of the zones and heaps of the
    /// kernel around us too. For when memory seems to have run out. Waits for the other CPUs; to be called without a spin
    /// lock or a pin.
    pub fn squeeze(&self) {
        for _ in 0..3 {
            self.phys.epoch.advance();
        }
        self.phys.epoch.collect();
        self.phys.collect();
        self.ask(members(&self.shootdown.serving), |requests| requests.drain = true);
        self.phys.drain_all();
    }

    /// Asks the other CPUs that translate through `pmap`, which ends, to give it up; waits until they have.
    pub fn evict(&self, pmap: &Pmap<P>) {
        self.ask(pmap.active(), |requests| requests.leave = true);
    }

    pub(super) fn flush(&self, ranges: &Ranges, mut targets: CpuSet) {
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
                    requests.ranges.add::<P::Format>(range);
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
