//! Barriers on every CPU, for membarrier(2).
//!
//! Flow:  a thread on each CPU -> it runs, so what ran there before has been switched away -> it says so.
//! Sleep: until all have run.

use alloc::sync::Arc;

use rumpvm::Hold;
use rumpvm::sync::{Atomic, Ordering};
use rumpvm_bare::{Bare, Priority, Standing};
use rumpvm_files::Errno;
use rumpvm_platform::{CpuId, Platform};

/// Returns when every CPU has passed a barrier since the call.
pub(crate) fn everywhere() -> Result<(), Errno> {
    let left = Hold::<Atomic<u32, Bare>, Bare>::try_new(Atomic::new(0))?;
    for number in 0..Bare.cpu_count() {
        let (cpu, theirs) = (CpuId(number as u32), left.clone());
        left.fetch_add(1, Ordering::SeqCst);
        let passed = move || {
            theirs.fetch_sub(1, Ordering::SeqCst);
            theirs.wake_sleepers();
        };
        // On Linux an interrupt does it, which comes before every thread.
        let before_all = Arc::new(Standing::new(Priority::INTERRUPT));
        if Bare::spawn_with(Some(cpu), before_all, passed).is_err() {
            left.fetch_sub(1, Ordering::SeqCst);
            await_none(&left);
            return Err(Errno::ENOMEM);
        }
    }
    await_none(&left);
    Ok(())
}

fn await_none(left: &Atomic<u32, Bare>) {
    loop {
        match left.load(Ordering::SeqCst) {
            0 => return,
            some => left.sleep_while(some),
        }
    }
}
