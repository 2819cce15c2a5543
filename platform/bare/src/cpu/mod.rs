//! What each CPU has of its own: its number, its threads, its tables.
//!
//! Flow:  `gs` -> [`Cpu`] -> queue, tables, clock.
//! Locks: the run queue has one; all else belongs to its CPU, with interrupts masked or by one instruction.
//! Owns:  every [`Cpu`], for good.
//!
//! U1. `gs` points to the CPU's own record whenever kernel code runs.

pub(crate) mod features;
pub(crate) mod tables;

use alloc::boxed::Box;
use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use rumpvm_platform::{CpuId, MAX_CPUS};
use spin::Once;
use x86::msr;

use crate::acpi::Acpi;
use crate::scheduler::Queue;
use crate::spent::Spent;
use crate::thread::Thread;
use features::Features;
use tables::Tables;

/// One CPU. Assembly knows the offsets of the first fields (see [`offsets`]).
#[repr(C)]
pub(crate) struct Cpu {
    /// Its own address, for code that has only `gs`.
    itself: Cell<*const Cpu>,
    id: u32,
    /// Reasons for which its thread must stay; see `Seam::hold_cpu`.
    pub(crate) held: Cell<u32>,
    /// Where the state of the program that runs ends: the stack pointer of its traps.
    pub(crate) user_end: Cell<u64>,
    /// A program's stack pointer, for two instructions.
    scratch: Cell<u64>,
    pub(crate) tables: UnsafeCell<Tables>,
    /// The thread that runs.
    pub(crate) current: Cell<*const Thread>,
    /// The idle loop, as a thread.
    pub(crate) idle: Cell<*const Thread>,
    /// A thread that has just ended, to be taken apart by whoever runs next.
    pub(crate) ended: Cell<*const Thread>,
    /// When the thread that runs went on.
    pub(crate) since: Cell<u64>,
    /// What the idle loop has had of it.
    pub(crate) idled: Spent,
    /// Another thread should run.
    pub(crate) resched: AtomicBool,
    /// The CPU is asleep or about to be, and needs an interrupt to see what is put into its queue.
    pub(crate) asleep: AtomicBool,
    /// Another CPU asked for flushes.
    pub(crate) flush: AtomicBool,
    /// They are being served.
    pub(crate) flushing: Cell<bool>,
    /// It runs kernel code.
    pub(crate) started: AtomicBool,
    /// Threads that live here; who places a new one picks the smallest number.
    pub(crate) load: AtomicU32,
    /// Its number in the interrupt controllers.
    apic: AtomicU32,
    pub(crate) queue: Queue,
}

/// What assembly knows.
pub(crate) mod offsets {
    use super::{Cpu, Tables, offset_of};

    pub(crate) const USER_END: usize = offset_of!(Cpu, user_end);
    pub(crate) const SCRATCH: usize = offset_of!(Cpu, scratch);
    /// The stack pointer that a trap from a program gets.
    pub(crate) const TRAP_STACK: usize = offset_of!(Cpu, tables) + offset_of!(Tables, task.rsp);
}

// SAFETY: what other CPUs touch (queue, flags, load) is atomic or locked; cells are used by the CPU itself.
unsafe impl Sync for Cpu {}

static CPUS: [Once<&'static Cpu>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];
static COUNT: AtomicUsize = AtomicUsize::new(1);
/// The first CPU needs its record before there is a heap.
static FIRST: Cpu = Cpu::new(0, 0);

impl Cpu {
    const fn new(id: u32, apic: u32) -> Self {
        Self {
            itself: Cell::new(ptr::null()),
            id,
            held: Cell::new(0),
            user_end: Cell::new(0),
            scratch: Cell::new(0),
            tables: UnsafeCell::new(Tables::new()),
            current: Cell::new(ptr::null()),
            idle: Cell::new(ptr::null()),
            ended: Cell::new(ptr::null()),
            since: Cell::new(0),
            idled: Spent::new(),
            resched: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            flush: AtomicBool::new(false),
            flushing: Cell::new(false),
            started: AtomicBool::new(false),
            load: AtomicU32::new(0),
            apic: AtomicU32::new(apic),
            queue: Queue::new(),
        }
    }

    /// Its number in the interrupt controllers.
    pub(crate) fn apic(&self) -> u32 {
        self.apic.load(Ordering::Relaxed)
    }

    /// Its number.
    #[inline]
    pub(crate) fn id(&self) -> CpuId {
        CpuId(self.id)
    }
}

/// Makes the CPU that runs CPU 0.
pub(crate) fn start_first(features: &Features) {
    let info = x86::cpuid::CpuId::new().get_feature_info();
    let apic = info.map_or(0, |info| u32::from(info.initial_local_apic_id()));
    FIRST.apic.store(apic, Ordering::Relaxed);
    CPUS[0].call_once(|| &FIRST);
    become_cpu(&FIRST, features);
}

/// Makes records for the CPUs that the ACPI tables name; the first one is there.
pub(crate) fn prepare_others(acpi: &Acpi) {
    let first = FIRST.apic();
    for apic in acpi.cpus().filter(|apic| *apic != first) {
        let number = COUNT.load(Ordering::Relaxed);
        if number == MAX_CPUS {
            log::warn!("more than {MAX_CPUS} processors: the others stay off");
            return;
        }
        CPUS[number].call_once(|| Box::leak(Box::new(Cpu::new(number as u32, apic))));
        COUNT.store(number + 1, Ordering::Release);
    }
}

/// Forgets the CPUs from `first` on, which did not start.
pub(crate) fn forget_from(first: CpuId) {
    COUNT.store(first.0 as usize, Ordering::Release);
}

/// Makes the CPU that runs `cpu`, for good: features, `gs`, tables.
pub(crate) fn become_cpu(cpu: &'static Cpu, features: &Features) {
    features::turn_on(features);
    cpu.itself.set(cpu);
    // SAFETY: `cpu` lives for good, nobody else becomes it, and it is not in use yet.
    unsafe {
        (*cpu.tables.get()).load();
        msr::wrmsr(msr::IA32_GS_BASE, ptr::from_ref(cpu) as u64);
        msr::wrmsr(msr::IA32_KERNEL_GSBASE, 0);
    }
    crate::traps::start_system_calls();
    cpu.started.store(true, Ordering::Release);
}

/// Number of CPUs.
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// The CPU with this number, which there must be.
pub(crate) fn cpu(id: CpuId) -> &'static Cpu {
    CPUS[id.0 as usize].get().expect("a CPU of this machine")
}

/// All CPUs.
pub(crate) fn all() -> impl Iterator<Item = &'static Cpu> {
    (0..count()).map(|number| cpu(CpuId(number as u32)))
}

/// This CPU. The caller masks interrupts, or does not mind if its thread is switched away; it never moves.
#[inline]
pub(crate) fn this() -> &'static Cpu {
    let cpu: *const Cpu;
    // SAFETY: `gs` points to this CPU's record (U1), whose first word is its own address; records are for good.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) cpu, options(nostack, preserves_flags, readonly, pure));
        &*cpu
    }
}

/// Number of this CPU.
#[inline]
pub(crate) fn id() -> CpuId {
    let id: u32;
    // SAFETY: as in `this`; the number is the second word.
    unsafe {
        asm!("mov {:e}, gs:[8]", out(reg) id, options(nostack, preserves_flags, readonly, pure));
    }
    CpuId(id)
}

/// Whether this CPU has become one of the machine's yet: before that only the boot code runs.
pub(crate) fn is_up() -> bool {
    // SAFETY: reading the base of `gs` is harmless.
    unsafe { msr::rdmsr(msr::IA32_GS_BASE) != 0 }
}
