//! Counters: what happened, kept for each CPU so that counting shares no cache line.

use rumpvm_platform::Seam;

use crate::NoMemory;
use crate::sync::{Atomic, Ordering, PerCpu};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $event:ident => $field:ident,)+) => {
        /// Something worth counting.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Event {
            $($(#[doc = $doc])+ $event,)+
        }

        const EVENTS: usize = [$(Event::$event),+].len();

        /// Counts since the machine started, and what is in use now. All in pieces, pages or calls.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Statistics {
            $($(#[doc = $doc])+ pub $field: u64,)+
            /// Frames that the component was given, its records included.
            pub frames_total: u64,
            /// Frames that are free now, in whatever cache.
            pub frames_free: u64,
            /// Most frames that were in use at once, to the batch of a CPU's cache.
            pub frames_peak: u64,
            /// Frames that hold page records.
            pub frames_records: u64,
        }

        impl<S: Seam> Counters<S> {
            /// Sums over all CPUs.
            pub fn sum(&self) -> Statistics {
                Statistics {
                    $($field: self.total(Event::$event),)+
                    ..Statistics::default()
                }
            }
        }
    };
}

counters! {
    /// Faults on a page that nobody had touched: zero-filled.
    FaultZeroFill => faults_zero_fill,
    /// Read faults answered with the shared zero page.
    FaultZeroPage => faults_zero_page,
    /// Write faults that copied a page.
    FaultCopy => faults_copy,
    /// Write faults that found the page to be the writer's alone.
    FaultReuse => faults_reuse,
    /// Faults on a page that was resident and only had to be mapped.
    FaultSoft => faults_soft,
    /// Faults that had to wait for a pager.
    FaultPager => faults_pager,
    /// Faults that found the mapping already good.
    FaultSpurious => faults_spurious,
    /// Faults that grew a stack.
    FaultStack => faults_stack,
    /// Faults that ended in an error.
    FaultFailed => faults_failed,
    /// Faults that began again because the map changed under them.
    FaultRetry => faults_retry,
    /// Neighbouring pages mapped along with a fault.
    MappedAround => mapped_around,
    /// Pages read from files.
    PageIn => pages_in,
    /// Pages written to files.
    PageOut => pages_out,
    /// Pages filled with zeros when they were needed.
    Zeroed => pages_zeroed,
    /// Pages zeroed by an idle CPU beforehand.
    ZeroedIdle => pages_zeroed_idle,
    /// Mappings that a host with a map of its own entered.
    PmapEnter => pmap_enters,
    /// Page-table pages made.
    TableMade => tables_made,
    /// Page-table pages freed.
    TableFreed => tables_freed,
    /// Page-table pages that a fork shared instead of copying.
    TableShared => tables_shared,
    /// Shared page-table pages given up for one's own.
    TableUnshared => tables_unshared,
    /// Amap and object nodes made.
    NodeMade => nodes_made,
    /// Amap and object nodes freed.
    NodeFreed => nodes_freed,
    /// Amap nodes copied because a fork had shared them.
    NodeUnshared => nodes_unshared,
    /// Flush debts paid.
    Flush => flushes,
    /// Flush requests sent to other CPUs.
    FlushRemote => flushes_remote,
    /// Spaces forked.
    Fork => forks,
}

/// The counters of one machine.
pub struct Counters<S> {
    cpus: PerCpu<[Atomic<u64, S>; EVENTS], S>,
}

impl<S: Seam> Counters<S> {
    /// All zero, for `cpus` CPUs.
    pub fn try_new(cpus: usize) -> Result<Self, NoMemory> {
        Ok(Self { cpus: PerCpu::try_new(cpus, |_| core::array::from_fn(|_| Atomic::new(0)))? })
    }

    /// Counts one `event` on this CPU.
    #[inline]
    pub fn count(&self, event: Event) {
        self.add(event, 1);
    }

    /// Counts `many` of `event` on this CPU.
    #[inline]
    pub fn add(&self, event: Event, many: u64) {
        let mine = self.cpus.mine();
        let counter = &mine[event as usize];
        counter.set(counter.get() + many);
    }

    fn total(&self, event: Event) -> u64 {
        self.cpus.iter().map(|cpu| cpu[event as usize].load(Ordering::Relaxed)).sum()
    }
}
