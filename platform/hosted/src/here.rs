//! "This CPU": what a host thread knows of the CPU that it plays.
//!
//! Locks and waits of the component name no machine (`Seam` has no `self`); like hardware, they find
//! the CPU by being on it. Here that is a thread-local, set once when the host thread begins.
//!
//! Flow:  `Seam` calls and accesses -> [`here`] -> scheduler, mailbox, component.
//! Locks: none; everything here belongs to one host thread.
//! Owns:  the CPU's scheduler, and a share of the machine.

use std::cell::{Cell, OnceCell, RefCell};
use std::hint;
use std::panic::resume_unwind;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

#[cfg(feature = "lock-counters")]
use rumpvm_platform::LockWatch;
use rumpvm_platform::{CpuId, LockStep, LockUse, ThreadLocal, Witness};

use crate::cpu::{Attention, Cpu};
use crate::machine::Machine;
use crate::scheduler::Scheduler;
use crate::thread::Ask;

/// A waiting CPU lets the host run another thread after so many looks. There may be more CPUs than
/// processors, and then the one waited for may be the one that is not running.
const LOOKS_PER_YIELD: u32 = 16;
const NOWHERE: u32 = u32::MAX;
/// Threads are numbered from one; the idle loops stand apart.
const IDLE: u64 = 1 << 63;

thread_local! {
    static ID: Cell<u32> = const { Cell::new(NOWHERE) };
    /// Calls of `intr_save` that have not been undone.
    static MASKED: Cell<u32> = const { Cell::new(0) };
    static HERE: OnceCell<Here> = const { OnceCell::new() };
}

pub(crate) struct Here {
    pub(crate) machine: Arc<Machine>,
    pub(crate) id: CpuId,
    pub(crate) scheduler: Scheduler,
    /// The component's flush handler is running.
    in_interrupt: Cell<bool>,
    looks: Cell<u32>,
    /// Of the idle loop, which is no thread, but takes locks.
    local: ThreadLocal,
    witness: RefCell<Witness>,
    #[cfg(feature = "lock-counters")]
    watch: RefCell<LockWatch>,
}

/// Unwinds a CPU that is told to stop while no thread runs on it.
struct Halted;

/// The number of this CPU.
#[inline]
pub(crate) fn cpu_id() -> CpuId {
    let id = ID.with(Cell::get);
    assert!(id != NOWHERE, "not on a CPU: use Hosted::run to get on one");
    CpuId(id)
}

pub(crate) fn is_on_cpu() -> bool {
    ID.get() != NOWHERE
}

/// Masks interrupts. There are none here, so all it does is count; the count is what `may_switch` asks.
#[inline]
pub(crate) fn intr_save() -> usize {
    // Through `with`: the other accessors of a thread's cell are not inlined.
    MASKED.with(|masked| {
        let before = masked.get();
        masked.set(before + 1);
        before as usize
    })
}

/// Undoes one [`intr_save`].
#[inline]
pub(crate) fn intr_restore() {
    MASKED.with(|masked| masked.set(masked.get() - 1));
}

/// Nanoseconds since the first question.
pub(crate) fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Checks that a switch of threads is allowed here: no spin lock is held, and no value of this CPU is
/// in use. Both mask interrupts, on every home.
#[inline]
pub(crate) fn may_switch(what: &str) {
    let masked = MASKED.get();
    assert!(
        masked == 0 || thread::panicking(),
        "{what} with interrupts masked {masked} times: a spin lock is held"
    );
}

/// Calls `body` with this CPU.
#[inline]
pub(crate) fn here<R>(body: impl FnOnce(&Here) -> R) -> R {
    HERE.with(|here| body(here.get().expect("not on a CPU: use Hosted::run to get on one")))
}

/// Makes the calling host thread play CPU `id` of `machine`, for the rest of its life.
pub(crate) fn become_cpu(machine: Arc<Machine>, id: CpuId) {
    ID.set(id.0);
    let here = Here {
        machine,
        id,
        scheduler: Scheduler::default(),
        in_interrupt: Cell::new(false),
        looks: Cell::new(0),
        local: ThreadLocal::new(IDLE | u64::from(id.0)),
        witness: RefCell::default(),
        #[cfg(feature = "lock-counters")]
        watch: RefCell::default(),
    };
    let fresh = HERE.with(|cell| cell.set(here).is_ok());
    assert!(fresh, "a host thread plays one CPU");
}

impl Here {
    pub(crate) fn cpu(&self) -> &Cpu {
        self.machine.cpu(self.id)
    }

    /// Between two instructions: serves flush requests, and does not return if the machine has stopped.
    #[inline]
    pub(crate) fn attend(&self) {
        let attention = self.cpu().attention();
        if !attention.is_none() {
            self.attend_to(attention);
        }
    }

    #[cold]
    fn attend_to(&self, attention: Attention) {
        if attention.has(Attention::STOP) {
            self.halt();
        }
        if attention.has(Attention::FLUSH) && !self.in_interrupt.get() {
            self.cpu().attend(Attention::FLUSH);
            if let Some(component) = self.machine.upcalls() {
                self.in_interrupt.set(true);
                component.tlb_interrupt();
                self.in_interrupt.set(false);
            }
        }
    }

    /// What the component keeps of the running thread, or of the idle loop.
    pub(crate) fn local(&self) -> NonNull<ThreadLocal> {
        self.scheduler
            .with_current(|thread| NonNull::from(thread.map_or(&self.local, |it| &it.local)))
    }

    /// Notes what is done to a lock, and stops the machine if that is against the rules.
    pub(crate) fn lock_step(&self, step: LockStep, lock: &LockUse) {
        let told = self.scheduler.with_current(|thread| {
            let witness = thread.map_or(&self.witness, |thread| &thread.witness);
            witness.borrow_mut().step(step, lock)
        });
        if let Err(violation) = told
            && !thread::panicking()
        {
            panic!("CPU {}: {violation}", self.id.0);
        }
    }

    /// Calls `note` with the running thread's locks as the counters see them.
    #[cfg(feature = "lock-counters")]
    fn with_watch(&self, note: impl FnOnce(&mut LockWatch)) {
        self.scheduler.with_current(|thread| {
            let watch = thread.map_or(&self.watch, |thread| &thread.watch);
            note(&mut watch.borrow_mut());
        });
    }

    /// Counts what is done to a lock, if that was asked for.
    #[inline(always)]
    pub(crate) fn count_lock(&self, step: LockStep, lock: &LockUse) {
        #[cfg(feature = "lock-counters")]
        self.with_watch(|watch| watch.step(step, lock, clock(), &self.machine.lock_stats));
        #[cfg(not(feature = "lock-counters"))]
        let _ = (step, lock);
    }

    /// Counts a wait, if that was asked for.
    #[inline(always)]
    pub(crate) fn count_wait(&self) {
        #[cfg(feature = "lock-counters")]
        self.with_watch(LockWatch::waits);
    }

    /// One look of a waiting CPU at what it waits for.
    pub(crate) fn relax(&self) {
        self.count_wait();
        self.attend();
        self.spin();
    }

    /// One look of a CPU at a spin lock that it waits for: serves nothing, but does not outlive a machine
    /// that has stopped.
    pub(crate) fn pause(&self) {
        self.count_wait();
        if self.cpu().attention().has(Attention::STOP) {
            self.halt();
        }
        self.spin();
    }

    fn spin(&self) {
        hint::spin_loop();
        let looks = self.looks.get().wrapping_add(1);
        self.looks.set(looks);
        if looks.is_multiple_of(LOOKS_PER_YIELD) {
            thread::yield_now();
        }
    }

    /// Ends what runs here. A thread is suspended for good and not unwound: its destructors expect a
    /// machine that works.
    pub(crate) fn halt(&self) {
        if self.scheduler.in_thread() {
            self.scheduler.suspend(Ask::Halt);
        } else if !thread::panicking() {
            resume_unwind(Box::new(Halted));
        }
    }
}
