//! What a host keeps of each of its threads for the component.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

use rumpvm_platform::{CpuId, Platform, ThreadLocal};

use crate::home::Foreign;

/// Words of 64 bits in struct rumpvm_thread.
pub const RUMPVM_THREAD_WORDS: usize = 256;

/// A thread, as far as rumpvm knows it. A host with threads has one in each; its contents are rumpvm's.
#[repr(C)]
pub struct Thread {
    /// Not for the host.
    pub words: [u64; RUMPVM_THREAD_WORDS],
}

const _: () = assert!(size_of::<ThreadLocal>() <= size_of::<Thread>(), "it has room");
const _: () = assert!(align_of::<ThreadLocal>() <= align_of::<Thread>(), "it is aligned");

/// One for each CPU, for hosts without threads; null before the first memory.
static OF_CPUS: AtomicPtr<ThreadLocal> = AtomicPtr::new(core::ptr::null_mut());

/// Makes `thread` ready for a new thread with number `id`, which is not 0 and differs from those of all threads alive.
/// It then stays where it is until the thread has ended. Takes no lock, does not sleep; from anywhere, before the
/// thread calls rumpvm. Returns 0, or -EINVAL for the number 0 or a null pointer.
///
/// # Safety
/// `thread` is null, or points to a record that no thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_thread_init(thread: *mut Thread, id: u64) -> i32 {
    if thread.is_null() || id == 0 {
        return -crate::errno::RUMPVM_EINVAL;
    }
    // SAFETY: there is room, aligned, and nobody else uses it.
    unsafe { thread.cast::<ThreadLocal>().write(ThreadLocal::new(id)) };
    0
}

/// Makes one for each CPU, unless there are; whether there was memory. Before the component is called.
pub(crate) fn make_for_cpus() -> bool {
    if !OF_CPUS.load(Ordering::Acquire).is_null() {
        return true;
    }
    let cpus = Foreign.cpu_count();
    let mut all = Vec::new();
    if all.try_reserve_exact(cpus).is_err() {
        return false;
    }
    all.extend((1..=cpus as u64).map(ThreadLocal::new));
    OF_CPUS.store(all.leak().as_mut_ptr(), Ordering::Release);
    true
}

/// That of `cpu`.
pub(crate) fn of_cpu(cpu: CpuId) -> Option<NonNull<ThreadLocal>> {
    let all = NonNull::new(OF_CPUS.load(Ordering::Acquire))?;
    // SAFETY: there are as many as CPUs, and the host's numbers are below that.
    Some(unsafe { all.add(cpu.0 as usize) })
}
