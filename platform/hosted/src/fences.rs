//! Fences on every CPU at once: membarrier(2), for readers that then need none of their own.
//!
//! The kernel interrupts each processor that runs a thread of this process, and an interrupt is a full fence.
//! A thread that does not run has passed one when it was switched away from.
//!
//! Flow:  `power_on` -> [`prepare`], once; `Seam::fence_everywhere` -> the kernel.
//! Owns:  nothing; the registration is the process's, and stays.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static WORKS: AtomicBool = AtomicBool::new(false);

/// Asks the kernel for the service. A kernel or a sandbox that refuses it leaves readers with their own fences.
/// Before any CPU runs, so that the answer is the same for all of them.
pub(crate) fn prepare() {
    static ASKED: OnceLock<()> = OnceLock::new();
    ASKED.get_or_init(|| WORKS.store(register().is_some(), Ordering::Relaxed));
}

/// Whether [`everywhere`] works.
#[inline(always)]
pub(crate) fn work_everywhere() -> bool {
    WORKS.load(Ordering::Relaxed)
}

#[cfg(target_os = "linux")]
fn register() -> Option<()> {
    use rustix::thread::{MembarrierCommand, membarrier};
    membarrier(MembarrierCommand::RegisterPrivateExpedited).ok()?;
    // Once for trial: a filter may pass the one and not the other.
    membarrier(MembarrierCommand::PrivateExpedited).ok()
}

#[cfg(target_os = "linux")]
pub(crate) fn everywhere() {
    use rustix::thread::{MembarrierCommand, membarrier};
    membarrier(MembarrierCommand::PrivateExpedited).expect("what worked at power-on works later");
}

#[cfg(not(target_os = "linux"))]
fn register() -> Option<()> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn everywhere() {
    unreachable!("no such service was found at power-on");
}
