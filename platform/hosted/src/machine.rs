//! The machine as its CPUs share it.
//!
//! Flow:  births -> the least loaded CPU; a panic -> `Outcome`, then a stop to every CPU.
//! Locks: none of its own.
//! Owns:  the parts. Handles and CPUs own the machine together; `Power` owns the CPUs' host threads.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use rumpvm_platform::{CpuId, Failures, LockStats};

use crate::cpu::{Attention, Birth, Census, Cpu};
use crate::hardware::Hardware;
use crate::outcome::{Group, Outcome, Payload};
use crate::sleepers::Sleepers;

/// What a CPU calls in the component, for want of interrupts.
pub trait Upcalls: Send + Sync {
    /// Serves the flush requests of the calling CPU. Called between accesses, from `Seam::relax` and
    /// from idle CPUs; never nested, and it must not sleep.
    fn tlb_interrupt(&self);

    /// The calling CPU has nothing to run: does a little work and says whether there may be more. Must
    /// not sleep. Every thread's resume hook runs when the CPU takes it up again.
    fn idle(&self) -> bool;
}

pub(crate) struct Machine {
    pub(crate) hardware: Hardware,
    pub(crate) cpus: Box<[Cpu]>,
    pub(crate) census: Census,
    pub(crate) sleepers: Sleepers,
    pub(crate) outcome: Outcome,
    pub(crate) failures: Failures,
    /// Fed only with the feature `lock-counters`.
    pub(crate) lock_stats: LockStats,
    /// Threads so far.
    threads: AtomicU64,
    /// Weak, because the component owns a handle to the machine.
    pub(crate) upcalls: OnceLock<Weak<dyn Upcalls>>,
}

impl Machine {
    pub(crate) fn new(memory: u64, cpus: usize) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            hardware: Hardware::new(memory)?,
            cpus: (0..cpus).map(|_| Cpu::default()).collect(),
            census: Census::new(cpus),
            sleepers: Sleepers::default(),
            outcome: Outcome::default(),
            failures: Failures::default(),
            lock_stats: LockStats::default(),
            threads: AtomicU64::new(0),
            upcalls: OnceLock::new(),
        }))
    }

    /// The number of a thread that is about to begin.
    pub(crate) fn new_thread(&self) -> u64 {
        self.threads.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn cpu(&self, id: CpuId) -> &Cpu {
        &self.cpus[id.0 as usize]
    }

    pub(crate) fn upcalls(&self) -> Option<Arc<dyn Upcalls>> {
        self.upcalls.get()?.upgrade()
    }

    /// Sends a new thread to `cpu`, or to the CPU with the fewest.
    pub(crate) fn spawn(&self, cpu: Option<CpuId>, group: Group, body: Box<dyn FnOnce() + Send>) {
        let cpu = match cpu {
            Some(id) => self.cpu(id),
            None => {
                let load = |cpu: &&Cpu| cpu.load.load(Ordering::Relaxed);
                self.cpus.iter().min_by_key(load).expect("a machine has a CPU")
            }
        };
        cpu.load.fetch_add(1, Ordering::Relaxed);
        group.join();
        cpu.ring(&self.census, Attention::MAIL, |mail| mail.births.push(Birth { body, group }));
    }

    /// Tells every CPU to stop, and whoever waits why. No CPU switches to a thread again.
    pub(crate) fn stop_for(&self, why: Payload) {
        self.outcome.record(why);
        for cpu in &self.cpus {
            cpu.ring(&self.census, Attention::STOP, |_| ());
        }
    }
}
