//! Promises: how much memory may be needed at once, by what was mapped; Linux's `Committed_AS`.
//!
//! A call that maps memory which may become private takes its pages here, and gives them back when they go; a fault
//! takes nothing, so it writes no word that others write. Each CPU counts its own calls; the sum is what counts.
//!
//! Locks: none. Sleep: never.
//!
//! Q1. The sum is the pages of all accounted areas, and of all shared anonymous memory that was promised whole.

use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::Platform;

use crate::NoMemory;
use crate::sync::{Atomic, Ordering, PerCpu};

/// How much may be promised (`vm.overcommit_memory`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overcommit {
    /// Refuse one request that is larger than all memory (mode 0).
    #[default]
    Heuristic,
    /// Refuse nothing (mode 1).
    Always,
    /// Refuse what goes beyond the limit in sum (mode 2).
    Never,
}

/// What may be promised in sum, for [`Overcommit::Never`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitPolicy {
    /// Whether that is looked at.
    pub mode: Overcommit,
    /// Per cent of all memory (`vm.overcommit_ratio`), unless `bytes` says it.
    pub ratio: u64,
    /// Bytes (`vm.overcommit_kbytes`); 0 for the ratio.
    pub bytes: u64,
    /// Bytes that only an administrator gets (`vm.admin_reserve_kbytes`).
    pub admin_reserve: u64,
    /// Most bytes that are kept from a space because it is large: 1 in 32 of its own size, so that a large one
    /// leaves enough to end it (`vm.user_reserve_kbytes`).
    pub user_reserve: u64,
}

impl Default for CommitPolicy {
    /// Linux's defaults.
    fn default() -> Self {
        Self {
            mode: Overcommit::Heuristic,
            ratio: 50,
            bytes: 0,
            admin_reserve: 8 << 20,
            user_reserve: 128 << 20,
        }
    }
}

/// Who asks for a promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asker {
    /// Whether it gets what is kept for administrators.
    pub(crate) admin: bool,
    /// Bytes that it has mapped.
    pub(crate) mapped: u64,
}

/// What a machine has promised.
pub struct Promises<P: Platform> {
    /// Pages, by the CPU that took or gave them back; wrapping, so that the sum is right.
    pages: PerCpu<Atomic<u64, P>, P>,
    mode: Atomic<u32, P>,
    ratio: Atomic<u64, P>,
    bytes: Atomic<u64, P>,
    admin_reserve: Atomic<u64, P>,
    user_reserve: Atomic<u64, P>,
}

/// A promise that is taken back unless it is kept.
pub(crate) struct Taken<'p, P: Platform> {
    promises: &'p Promises<P>,
    pages: u64,
}

impl<P: Platform> Promises<P> {
    pub(crate) fn try_new(cpus: usize) -> Result<Self, NoMemory> {
        let promises = Self {
            pages: PerCpu::try_new(cpus, |_| Atomic::new(0))?,
            mode: Atomic::new(0),
            ratio: Atomic::new(0),
            bytes: Atomic::new(0),
            admin_reserve: Atomic::new(0),
            user_reserve: Atomic::new(0),
        };
        promises.set_policy(CommitPolicy::default());
        Ok(promises)
    }

    /// Pages promised.
    pub(crate) fn pages(&self) -> u64 {
        let sum = self
            .pages
            .iter()
            .fold(0_u64, |sum, pages| sum.wrapping_add(pages.load(Ordering::Relaxed)));
        // Read one after the other: what moved meanwhile may be missing.
        if sum > i64::MAX as u64 { 0 } else { sum }
    }

    /// Most pages that may be promised, of `memory` pages that there are.
    pub(crate) fn limit(&self, memory: u64) -> u64 {
        match self.bytes.load(Ordering::Relaxed) {
            0 => memory.saturating_mul(self.ratio.load(Ordering::Relaxed)) / 100,
            bytes => bytes / PAGE_SIZE,
        }
    }

    pub(crate) fn mode(&self) -> Overcommit {
        match self.mode.load(Ordering::Relaxed) {
            0 => Overcommit::Heuristic,
            1 => Overcommit::Always,
            _ => Overcommit::Never,
        }
    }

    pub(crate) fn policy(&self) -> CommitPolicy {
        CommitPolicy {
            mode: self.mode(),
            ratio: self.ratio.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            admin_reserve: self.admin_reserve.load(Ordering::Relaxed),
            user_reserve: self.user_reserve.load(Ordering::Relaxed),
        }
    }

    /// Changes the policy. What has been promised stays so.
    pub(crate) fn set_policy(&self, policy: CommitPolicy) {
        let mode = match policy.mode {
            Overcommit::Heuristic => 0,
            Overcommit::Always => 1,
            Overcommit::Never => 2,
        };
        self.mode.store(mode, Ordering::Relaxed);
        self.ratio.store(policy.ratio, Ordering::Relaxed);
        self.bytes.store(policy.bytes, Ordering::Relaxed);
        self.admin_reserve.store(policy.admin_reserve, Ordering::Relaxed);
        self.user_reserve.store(policy.user_reserve, Ordering::Relaxed);
    }

    /// Takes `pages` of the `memory` pages that there are, if the policy lets `asker` have them; Linux's
    /// `__vm_enough_memory`.
    pub(crate) fn take(
        &self,
        pages: u64,
        memory: u64,
        asker: Asker,
    ) -> Result<Taken<'_, P>, NoMemory> {
        let taken = Taken { promises: self, pages };
        self.add(pages);
        let fits = match self.mode() {
            Overcommit::Always => true,
            Overcommit::Heuristic => pages <= memory,
            Overcommit::Never => {
                let mut kept = 0;
                if !asker.admin {
                    kept = self.admin_reserve.load(Ordering::Relaxed) / PAGE_SIZE;
                }
                let user = self.user_reserve.load(Ordering::Relaxed).min(asker.mapped / 32);
                self.pages() < self.limit(memory).saturating_sub(kept + user / PAGE_SIZE)
            }
        };
        if fits { Ok(taken) } else { Err(NoMemory) }
    }

    /// Takes `pages` whatever the policy says.
    pub(crate) fn add(&self, pages: u64) {
        if pages > 0 {
            self.pages.mine().fetch_add(pages, Ordering::Relaxed);
        }
    }

    /// Gives `pages` back.
    pub(crate) fn give_back(&self, pages: u64) {
        self.add(pages.wrapping_neg());
    }
}

impl<P: Platform> Taken<'_, P> {
    /// It stays, and is to be given back by whoever gives up what it was for.
    pub(crate) fn keep(mut self) -> u64 {
        core::mem::take(&mut self.pages)
    }
}

impl<P: Platform> Drop for Taken<'_, P> {
    fn drop(&mut self) {
        self.promises.give_back(self.pages);
    }
}
