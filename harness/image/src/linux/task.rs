//! A task: what others know of a thread of a program.
//!
//! Locks: pending signals, how it is scheduled; for a few instructions.
//! Owns:  its waker. The registers are the thread's own (`thread`).

use rumpvm::sync::{Atomic, Ordering, Spin};
use rumpvm::{Hold, NoMemory};
use rumpvm_bare::Bare;
use rumpvm_files::Waker;
use rumpvm_platform::{CpuId, Seam};

use super::class;
use super::process::{Image, Process};
use super::schedule::{Schedule, Scheduled};
use super::signal::{Pending, Set, Signal};

/// A thread of a program, as others see it.
pub(crate) struct Task {
    /// Its number; that of the process for the first one, and for one that becomes another program.
    pub(crate) number: Atomic<u32, Bare>,
    pub(crate) process: Hold<Process, Bare>,
    pub(crate) waker: Hold<Waker<Bare>, Bare>,
    /// Blocked signals. Written by the thread itself.
    pub(crate) mask: Atomic<Set, Bare>,
    pub(crate) pending: Spin<Pending, Bare>,
    pub(crate) scheduled: Scheduled,
    /// What it is called, if that is not what its process is.
    pub(crate) name: Spin<Option<[u8; 16]>, Bare>,
    /// 1 when it is to end though its process goes on.
    told_to_end: Atomic<u32, Bare>,
    /// The CPU that it runs on.
    cpu: Atomic<u32, Bare>,
}

/// No CPU yet.
const NOWHERE: u32 = u32::MAX;

impl Task {
    pub(crate) fn try_new(
        number: u32,
        process: &Hold<Process, Bare>,
        mask: Set,
        schedule: Schedule,
    ) -> Result<Hold<Self, Bare>, NoMemory> {
        Hold::try_new(Self {
            number: Atomic::new(number),
            process: process.clone(),
            waker: Waker::try_new()?,
            mask: Atomic::new(mask),
            pending: Spin::new(&class::PENDING, Pending::default()),
            scheduled: Scheduled::new(schedule),
            name: Spin::new(&class::RECORD, None),
            told_to_end: Atomic::new(0),
            cpu: Atomic::new(NOWHERE),
        })
    }

    /// Nanoseconds that it has had a CPU.
    pub(crate) fn time(&self) -> u64 {
        self.scheduled.standing.time()
    }

    /// What it is called, ended by a zero. The first thread's name is that of its process.
    pub(crate) fn name(&self) -> [u8; 16] {
        let own = *self.name.lock();
        own.unwrap_or_else(|| self.process.image.lock().name)
    }

    /// Calls it so, as far as there is room.
    pub(crate) fn set_name(&self, name: &[u8]) {
        if self.number() == self.process.pid() {
            self.process.image.lock().set_name(name);
        } else {
            *self.name.lock() = Some(Image::name_of(name));
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// The calling thread is it.
    pub(crate) fn starts_here(&self) {
        self.cpu.store(Bare::cpu_id().0, Ordering::Release);
    }

    /// Ends its wait, or brings it back from its program soon, so that it looks at what is pending.
    pub(crate) fn interrupt(&self) {
        self.waker.interrupt();
        let cpu = self.cpu.load(Ordering::Acquire);
        if cpu != NOWHERE {
            Bare::interrupt(CpuId(cpu));
        }
    }

    /// Has it end though its process goes on.
    pub(crate) fn tell_to_end(&self) {
        self.told_to_end.store(1, Ordering::SeqCst);
        self.interrupt();
    }

    pub(crate) fn is_told_to_end(&self) -> bool {
        self.told_to_end.load(Ordering::SeqCst) != 0
    }

    /// Whether it does not block `signal`.
    pub(crate) fn hears(&self, signal: Signal) -> bool {
        self.mask.load(Ordering::SeqCst) & signal.bit() == 0
    }
}
