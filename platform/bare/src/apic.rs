//! The CPU's own interrupt controller: interrupts between CPUs, the timer, and "done".
//!
//! Two ways to the same registers: model-specific ones (x2APIC) where the CPU has them, memory otherwise.
//! Intel SDM vol. 3A, chapter 11.
//!
//! Locks: none; each CPU has its own. A message to another one is written in one step (x2APIC) or with interrupts
//!        masked.

use core::sync::atomic::{AtomicU64, Ordering};

use rumpvm_arch::PhysAddr;
use rumpvm_platform::CpuId;
use x86::msr;

use crate::acpi::Acpi;
use crate::cpu::features::features;
use crate::cpu::{self, Cpu};
use crate::lock::Masked;
use crate::paging;
use crate::traps::vectors;

/// Registers, by their offset in memory; the model-specific ones are in the same order.
mod registers {
    pub(super) const ID: u32 = 0x20;
    pub(super) const DONE: u32 = 0xb0;
    pub(super) const SPURIOUS: u32 = 0xf0;
    pub(super) const COMMAND: u32 = 0x300;
    pub(super) const COMMAND_HIGH: u32 = 0x310;
    pub(super) const TIMER: u32 = 0x320;
    pub(super) const PINS: [u32; 2] = [0x350, 0x360];
    pub(super) const INITIAL_COUNT: u32 = 0x380;
    pub(super) const CURRENT_COUNT: u32 = 0x390;
    pub(super) const DIVIDE: u32 = 0x3e0;
}

/// What a message does, and that it goes to one CPU (or to all others).
const FIXED: u32 = 1 << 14;
const NMI: u32 = 4 << 8 | 1 << 14;
const INIT: u32 = 5 << 8 | 1 << 14;
const START: u32 = 6 << 8 | 1 << 14;
const ALL_OTHERS: u32 = 3 << 18;
/// A message in memory has not left yet.
const PENDING: u32 = 1 << 12;

/// A pin or the timer interrupts nobody.
const MASKED: u32 = 1 << 16;
/// The timer counts every tick of its clock.
const BY_ONE: u32 = 0xb;
/// The controller is on; the low byte is the vector of what turns out to be nothing.
const ON: u32 = 1 << 8;

/// Where the registers in memory are; all CPUs see their own there. Zero with x2APIC.
static MEMORY: AtomicU64 = AtomicU64::new(0);

/// Sets up the first CPU's, and keeps the old controller quiet.
pub(crate) fn start_first(acpi: &Acpi) {
    silence_old_controller();
    if !features().x2apic {
        let place = paging::map_registers(PhysAddr(acpi.controller), 4096);
        let place = place.expect("memory for the tables of the interrupt controller");
        MEMORY.store(place.as_ptr() as u64, Ordering::Release);
    }
    start_this();
}

/// Sets up the controller of the CPU that runs.
pub(crate) fn start_this() {
    const ENABLE: u64 = 1 << 11;
    const X2: u64 = 1 << 10;
    let mode = if features().x2apic { ENABLE | X2 } else { ENABLE };
    // SAFETY: turns the controller on, in the mode that every access here takes (`read`, `write`).
    unsafe {
        let base = msr::rdmsr(msr::IA32_APIC_BASE);
        msr::wrmsr(msr::IA32_APIC_BASE, base | mode);
    }
    for pin in registers::PINS {
        write(pin, MASKED);
    }
    write(registers::TIMER, MASKED);
    write(registers::DIVIDE, BY_ONE);
    write(registers::SPURIOUS, ON | u32::from(vectors::SPURIOUS));
    let (id, known) = (id(), cpu::this().apic());
    assert!(id == known, "a CPU's interrupt controller has number {id}, the tables say {known}");
}

/// The two 8259s: their lines moved away from the CPU's own traps, then masked. Nothing here uses them.
fn silence_old_controller() {
    const COMMANDS: [(u16, u8); 10] = [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, vectors::OLD),
        (0xa1, vectors::OLD + 8),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ];
    for (port, value) in COMMANDS {
        // SAFETY: the ports are the 8259s' on every PC; where there are none, nobody answers.
        unsafe { x86::io::outb(port, value) };
    }
}

fn model_specific(register: u32) -> u32 {
    0x800 + (register >> 4)
}

fn read(register: u32) -> u32 {
    match MEMORY.load(Ordering::Acquire) {
        // SAFETY: the CPU has x2APIC, and it is on.
        0 => unsafe { msr::rdmsr(model_specific(register)) as u32 },
        // SAFETY: the registers are mapped there, for good.
        memory => unsafe { ((memory + u64::from(register)) as *const u32).read_volatile() },
    }
}

fn write(register: u32, value: u32) {
    match MEMORY.load(Ordering::Acquire) {
        // SAFETY: the CPU has x2APIC, it is on, and what is written is a value of that register.
        0 => unsafe { msr::wrmsr(model_specific(register), u64::from(value)) },
        // SAFETY: the registers are mapped there, for good, and what is written is a value of that one.
        memory => unsafe { ((memory + u64::from(register)) as *mut u32).write_volatile(value) },
    }
}

fn id() -> u32 {
    let id = read(registers::ID);
    if features().x2apic { id } else { id >> 24 }
}

/// The interrupt that is being served is done with.
#[inline]
pub(crate) fn done() {
    write(registers::DONE, 0);
}

/// Sends a message.
fn command(to: u32, what: u32) {
    if features().x2apic {
        // Unlike a store to memory, a write to this register does not wait for earlier stores.
        core::sync::atomic::fence(Ordering::SeqCst);
        let message = u64::from(to) << 32 | u64::from(what);
        // SAFETY: the CPU has x2APIC, it is on, and the message is one of the few that callers here send.
        unsafe { msr::wrmsr(model_specific(registers::COMMAND), message) };
        return;
    }
    let _masked = Masked::now();
    while read(registers::COMMAND) & PENDING != 0 {
        core::hint::spin_loop();
    }
    write(registers::COMMAND_HIGH, to << 24);
    write(registers::COMMAND, what);
}

/// Interrupts `cpu`.
pub(crate) fn interrupt(cpu: CpuId, vector: u8) {
    command(cpu::cpu(cpu).apic(), FIXED | u32::from(vector));
}

/// Stops all other CPUs, whatever they do (`traps::kernel_trap`).
pub(crate) fn stop_others() {
    command(0, NMI | ALL_OTHERS);
}

/// Resets `cpu`, and starts it in real mode at the beginning of physical page `page`; `wait` passes some
/// microseconds. Intel SDM vol. 3A, 9.4.4.
pub(crate) fn start_cpu(cpu: &Cpu, page: u8, wait: impl Fn(u64)) {
    command(cpu.apic(), INIT);
    wait(100);
    for _ in 0..2 {
        command(cpu.apic(), START | u32::from(page));
        wait(200);
        if cpu.started.load(Ordering::Acquire) {
            return;
        }
    }
}

/// Has the timer interrupt this CPU once, in `ticks` ticks; zero calls it off.
pub(crate) fn set_timer(ticks: u32) {
    write(registers::TIMER, u32::from(vectors::TIMER));
    write(registers::INITIAL_COUNT, ticks);
}

/// Lets the timer count down from its largest value, interrupting nobody.
pub(crate) fn measure_timer() {
    write(registers::TIMER, MASKED);
    write(registers::INITIAL_COUNT, u32::MAX);
}

/// Ticks since [`measure_timer`].
pub(crate) fn measured() -> u32 {
    u32::MAX - read(registers::CURRENT_COUNT)
}
