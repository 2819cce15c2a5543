//! The other CPUs: from real mode to their idle loops, one after the other.
//!
//! Flow:  code copied to a low page -> INIT, START -> `processor_start` (entry.s) -> [`run`] -> idle loop.
//! Owns:  the low page.

#[cfg(target_os = "none")]
use rumpvm_platform::CpuId;

use crate::cpu::{self, features};
use crate::{apic, scheduler};

#[cfg(target_os = "none")]
mod start {
    use core::ptr;
    use core::sync::atomic::{AtomicU64, Ordering};

    use rumpvm_arch::PhysAddr;

    use super::CpuId;
    use crate::layout::direct;
    use crate::memory::START_PAGE;
    use crate::paging;

    unsafe extern "C" {
        static processor_start: u8;
        static processor_start_end: u8;
        static processor_root: AtomicU64;
        static processor_stack: AtomicU64;
        static processor_number: AtomicU64;
    }

    /// Copies the first instructions to where real mode can reach them.
    pub(super) fn copy_code() {
        let to = direct(PhysAddr(START_PAGE)) as *mut u8;
        // SAFETY: the page is RAM on every PC, mapped, and used by nobody else (`memory`); the code is ours.
        unsafe {
            let length =
                (&raw const processor_start_end).offset_from_unsigned(&raw const processor_start);
            ptr::copy_nonoverlapping(&raw const processor_start, to, length);
        }
    }

    /// Tells the CPU that starts next who it is.
    pub(super) fn leave_word(id: CpuId, stack: u64) {
        // SAFETY: the words are ours, aligned, and reached by atomics alone, here and by the CPU that starts.
        unsafe {
            processor_root.store(paging::kernel_root().0, Ordering::SeqCst);
            processor_stack.store(stack, Ordering::SeqCst);
            processor_number.store(u64::from(id.0), Ordering::SeqCst);
        }
    }

    #[unsafe(no_mangle)]
    extern "C" fn processor_main(number: u64) -> ! {
        super::run(CpuId(number as u32))
    }
}

/// Starts them all. Those that do not answer are left out, with those after them.
#[cfg(target_os = "none")]
pub(crate) fn start_others() {
    use core::sync::atomic::Ordering;

    use crate::memory::START_PAGE;
    use crate::stack::Stack;
    use crate::{apic, clock};

    /// A busy host may keep an emulated CPU waiting as long.
    const PATIENCE: u64 = 5_000_000_000;
    start::copy_code();
    for cpu in cpu::all().skip(1) {
        let stack = Stack::new().expect("memory for the stack of a CPU's idle loop");
        start::leave_word(cpu.id(), stack.end());
        // It is used as long as the machine runs.
        core::mem::forget(stack);
        apic::start_cpu(cpu, (START_PAGE >> 12) as u8, clock::wait);
        let end = clock::now() + PATIENCE;
        while !cpu.started.load(Ordering::Acquire) {
            if clock::now() > end {
                log::warn!(
                    "CPU {} (number {} of the controllers) does not start",
                    cpu.id().0,
                    cpu.apic()
                );
                cpu::forget_from(cpu.id());
                return;
            }
            core::hint::spin_loop();
        }
    }
}

/// Only a kernel can do it.
#[cfg(not(target_os = "none"))]
pub(crate) fn start_others() {}

/// The life of a CPU that was started.
#[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "called by assembly"))]
fn run(id: rumpvm_platform::CpuId) -> ! {
    cpu::become_cpu(cpu::cpu(id), features::features());
    apic::start_this();
    scheduler::start_this();
    scheduler::idle_loop()
}
