//! Traps: interrupts, and what only a bug of ours could have caused.
//!
//! Flow:  gate (`entry.s`) -> [`kernel_trap`] -> interrupt -> perhaps another thread; or a panic.
//!        From a program: gate -> `Program::run` returns (`program.rs`) -> [`interrupt`], or its caller's business.
//! Locks: none. Sleep: never; but a thread may be switched away at the end of an interrupt.
//!
//! T1. Kernel code runs into no page fault: it reaches programs' memory through the direct map.

mod frame;

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering};

use rumpvm_arch::{PageFault, VirtAddr};
use spin::Once;
use x86::Ring;
use x86::bits64::segmentation::Descriptor64;
use x86::dtables::{DescriptorTablePointer, lidt};
use x86::msr;
use x86::segmentation::{
    BuildDescriptor, DescriptorBuilder, GateDescriptorBuilder, SegmentSelector,
};

use crate::cpu::{self, features, offsets, tables};
use crate::program::Record;
use crate::{apic, clock, panic, scheduler};

pub use frame::Frame;

/// What the vector of a system call's frame says; traps end at 255.
pub(crate) const SYSTEM_CALL: u64 = 256;

/// Vectors that other CPUs, timers and the controller itself use. Higher ones are served first.
pub(crate) mod vectors {
    pub(crate) const TIMER: u8 = 0xe0;
    pub(crate) const WAKE: u8 = 0xe1;
    pub(crate) const FLUSH: u8 = 0xe2;
    pub(crate) const SPURIOUS: u8 = 0xff;
    /// Interrupts begin here; traps of the CPU itself end before.
    pub(crate) const FIRST: u8 = 32;
    /// The old controller's lines, all masked; a spurious one may still come.
    pub(crate) const OLD: u8 = 0x20;
}

/// The CPU has SMAP: `clac` is an instruction.
static SMAP: AtomicBool = AtomicBool::new(false);

global_asm!(
    include_str!("entry.s"),
    SCRATCH = const offsets::SCRATCH,
    USER_END = const offsets::USER_END,
    TRAP_STACK = const offsets::TRAP_STACK,
    RECORD = const size_of::<Record>(),
    USER_DATA = const tables::USER_DATA,
    USER_CODE = const tables::USER_CODE,
    SYSTEM_CALL = const SYSTEM_CALL,
    SMAP = sym SMAP,
    options(att_syntax)
);

unsafe extern "C" {
    static trap_gates: [[u8; 16]; 256];
    fn system_call();
}

/// Points this CPU's `syscall` instruction to its gate.
pub(crate) fn start_system_calls() {
    /// Every flag off but the one that is always on.
    const FLAGS_OFF: u64 = 0x0025_7fd5;
    SMAP.store(features::features().smap, Ordering::Relaxed);
    let selectors = u64::from(tables::USER_BASE) << 48 | u64::from(tables::KERNEL_CODE) << 32;
    // SAFETY: the gate is code of ours that expects what the instruction does, and the selectors are those
    // of `tables`.
    unsafe {
        msr::wrmsr(msr::IA32_STAR, selectors);
        msr::wrmsr(msr::IA32_LSTAR, system_call as *const () as u64);
        msr::wrmsr(msr::IA32_FMASK, FLAGS_OFF);
    }
}

/// Makes this CPU use the gates, which all CPUs share.
pub(crate) fn load_gates() {
    static GATES: Once<[Descriptor64; 256]> = Once::new();
    let gates = GATES.call_once(|| core::array::from_fn(gate));
    // SAFETY: the table is static, and each gate leads to code of ours.
    unsafe { lidt(&DescriptorTablePointer::new_from_slice(gates)) };
}

fn gate(vector: usize) -> Descriptor64 {
    // SAFETY: only the address of the static is taken.
    let code = unsafe { &raw const trap_gates[vector] } as u64;
    let selector = SegmentSelector::from_raw(tables::KERNEL_CODE);
    let stack = match vector as u8 {
        x86::irq::DOUBLE_FAULT_VECTOR => tables::DOUBLE_FAULT_STACK,
        x86::irq::NONMASKABLE_INTERRUPT_VECTOR => tables::NMI_STACK,
        x86::irq::MACHINE_CHECK_VECTOR => tables::MACHINE_CHECK_STACK,
        _ => 0,
    };
    // A program may ask for these two by an instruction; other `int`s are a protection fault.
    let ring = match vector as u8 {
        x86::irq::BREAKPOINT_VECTOR | x86::irq::OVERFLOW_VECTOR => Ring::Ring3,
        _ => Ring::Ring0,
    };
    let builder: DescriptorBuilder =
        <DescriptorBuilder as GateDescriptorBuilder<u64>>::interrupt_descriptor(selector, code);
    builder.ist(stack).dpl(ring).present().finish()
}

/// A trap from kernel code. Called by `entry.s` with interrupts masked.
#[unsafe(no_mangle)]
extern "C" fn kernel_trap(frame: &mut Frame) {
    let vector = frame.vector as u8;
    if vector >= vectors::FIRST {
        interrupt(vector);
        scheduler::after_interrupt();
        return;
    }
    if vector == x86::irq::NONMASKABLE_INTERRUPT_VECTOR && panic::is_under_way() {
        panic::halt();
    }
    panic!("{} in the kernel\n{frame}", what(frame));
}

/// An interrupt, wherever it came. Interrupts are masked.
pub(crate) fn interrupt(vector: u8) {
    match vector {
        vectors::TIMER => clock::alarm(),
        vectors::FLUSH => serve_flushes(),
        vectors::WAKE => {}
        // Neither controller waits for an answer to these.
        vectors::SPURIOUS | vectors::OLD..0x30 => return,
        other => log::warn!("interrupt {other:#x} was not asked for"),
    }
    apic::done();
}

/// Has the component carry out the flushes that were asked of this CPU.
pub(crate) fn serve_flushes() {
    let _masked = crate::lock::Masked::now();
    let cpu = cpu::this();
    if cpu.flushing.replace(true) {
        return;
    }
    while cpu.flush.swap(false, Ordering::SeqCst) {
        if let Some(component) = crate::upcalls() {
            component.tlb_interrupt();
        }
    }
    cpu.flushing.set(false);
}

/// What a trap says, in words.
pub(crate) fn what(frame: &Frame) -> impl core::fmt::Display {
    Story(*frame, fault_address())
}

struct Story(Frame, u64);

impl core::fmt::Display for Story {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self(frame, address) = self;
        let names = &x86::irq::EXCEPTIONS;
        match names.get(frame.vector as usize) {
            Some(exception) if frame.vector as u8 == x86::irq::PAGE_FAULT_VECTOR => {
                write!(f, "{} at {address:#x}", exception.description)?;
                match PageFault::decode(VirtAddr(*address), frame.error as u32) {
                    Some(fault) => write!(f, " ({:?}, present: {})", fault.access, fault.present),
                    None => f.write_str(" (a reserved bit is set in a page table)"),
                }
            }
            Some(exception) => write!(f, "{} ({:#x})", exception.description, frame.error),
            None => write!(f, "trap {:#x}", frame.vector),
        }
    }
}

/// The address of the last page fault of this CPU.
pub(crate) fn fault_address() -> u64 {
    // SAFETY: reading it has no effect.
    unsafe { x86::controlregs::cr2() as u64 }
}
