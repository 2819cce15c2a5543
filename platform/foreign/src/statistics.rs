//! Statistics, as a host sees them.

use rumpvm::Statistics as Counted;

use crate::errno::{Errno, RUMPVM_EINVAL, outcome};
use crate::{heap, layer, machine};

/// Counts since the start, and what is in use now. In pieces, pages or calls; of the heap in bytes. Later versions
/// append.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    /// Faults on a page that nobody had touched: zero-filled.
    pub faults_zero_fill: u64,
    /// Read faults answered with the shared zero page.
    pub faults_zero_page: u64,
    /// Write faults that copied a page.
    pub faults_copy: u64,
    /// Write faults that found the page to be the writer's alone.
    pub faults_reuse: u64,
    /// Faults on a page that was resident and only had to be mapped.
    pub faults_soft: u64,
    /// Faults that had to wait for a pager.
    pub faults_pager: u64,
    /// Faults that found the mapping already good.
    pub faults_spurious: u64,
    /// Faults that grew a stack.
    pub faults_stack: u64,
    /// Faults that ended in an error.
    pub faults_failed: u64,
    /// Faults that began again because the map changed under them.
    pub faults_retry: u64,
    /// Neighbouring pages mapped along with a fault.
    pub mapped_around: u64,
    /// Pages read from files.
    pub pages_in: u64,
    /// Pages written to files.
    pub pages_out: u64,
    /// Pages filled with zeros when they were needed.
    pub pages_zeroed: u64,
    /// Pages zeroed by an idle CPU beforehand.
    pub pages_zeroed_idle: u64,
    /// Page-table pages made.
    pub tables_made: u64,
    /// Page-table pages freed.
    pub tables_freed: u64,
    /// Page-table pages that a fork shared instead of copying.
    pub tables_shared: u64,
    /// Shared page-table pages given up for one's own.
    pub tables_unshared: u64,
    /// Amap and object nodes made.
    pub nodes_made: u64,
    /// Amap and object nodes freed.
    pub nodes_freed: u64,
    /// Amap nodes copied because a fork had shared them.
    pub nodes_unshared: u64,
    /// Flush debts paid.
    pub flushes: u64,
    /// Flush requests sent to other CPUs.
    pub flushes_remote: u64,
    /// Spaces forked.
    pub forks: u64,
    /// Pages that rumpvm was given, its records included.
    pub frames_total: u64,
    /// Pages that are free now, in whatever cache.
    pub frames_free: u64,
    /// Most pages that were in use at once, to the batch of a CPU's cache.
    pub frames_peak: u64,
    /// Pages that hold page records.
    pub frames_records: u64,
    /// Bytes that the heap for small records has taken.
    pub heap_total: u64,
    /// Bytes of it that are in use.
    pub heap_used: u64,
    /// Mappings that the host entered by rumpvm_pmap_enter.
    pub pmap_enters: u64,
}

/// Stores the first `size` bytes of the statistics at `into`; sizeof(struct rumpvm_statistics) for all that a host's
/// header knows. The CPUs' counters are read one after the other while they count. Takes spin locks, does not sleep;
/// from anywhere. Returns 0, -EINVAL (more than there are), -ENODEV.
///
/// # Safety
/// There are `size` bytes to write at `into`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_statistics(into: *mut Statistics, size: usize) -> i32 {
    outcome(machine::vm().and_then(|vm| {
        if into.is_null() || size > size_of::<Statistics>() {
            return Err(Errno(RUMPVM_EINVAL));
        }
        let phys = &layer::mmu(vm).phys;
        let statistics = collect(phys.usage(phys.counters.sum()));
        // SAFETY: by the caller's promise, and there are so many.
        unsafe {
            into.cast::<u8>().copy_from_nonoverlapping((&raw const statistics).cast(), size);
        }
        Ok(())
    }))
}

fn collect(counted: Counted) -> Statistics {
    let (heap_total, heap_used) = heap::usage();
    // Taken apart, so that no counter is forgotten.
    let Counted {
        faults_zero_fill,
        faults_zero_page,
        faults_copy,
        faults_reuse,
        faults_soft,
        faults_pager,
        faults_spurious,
        faults_stack,
        faults_failed,
        faults_retry,
        mapped_around,
        pmap_enters,
        pages_in,
        pages_out,
        pages_zeroed,
        pages_zeroed_idle,
        tables_made,
        tables_freed,
        tables_shared,
        tables_unshared,
        nodes_made,
        nodes_freed,
        nodes_unshared,
        flushes,
        flushes_remote,
        forks,
        frames_total,
        frames_free,
        frames_peak,
        frames_records,
    } = counted;
    Statistics {
        faults_zero_fill,
        faults_zero_page,
        faults_copy,
        faults_reuse,
        faults_soft,
        faults_pager,
        faults_spurious,
        faults_stack,
        faults_failed,
        faults_retry,
        mapped_around,
        pages_in,
        pages_out,
        pages_zeroed,
        pages_zeroed_idle,
        tables_made,
        tables_freed,
        tables_shared,
        tables_unshared,
        nodes_made,
        nodes_freed,
        nodes_unshared,
        flushes,
        flushes_remote,
        forks,
        frames_total,
        frames_free,
        frames_peak,
        frames_records,
        heap_total: heap_total as u64,
        heap_used: heap_used as u64,
        pmap_enters,
    }
}
