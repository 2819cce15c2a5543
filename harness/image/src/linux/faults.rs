//! Faults of programs: made good by the component, or told to the program as signals.
//!
//! Linux, arch/x86/kernel/traps.c: which signal, which code, which address.

use rumpvm::FaultError;
use rumpvm::Signal as Told;
use rumpvm_arch::PageFault;

use super::signal::{Info, Signal, code, send};
use super::system::system;
use super::thread::{LastFault, Thread};

/// Numbers of the CPU's traps.
mod trap {
    pub(super) const DIVISION: u8 = 0;
    pub(super) const DEBUG: u8 = 1;
    pub(super) const BREAKPOINT: u8 = 3;
    pub(super) const OVERFLOW: u8 = 4;
    pub(super) const UNDEFINED: u8 = 6;
    pub(super) const STACK: u8 = 12;
    pub(super) const PROTECTION: u8 = 13;
    pub(super) const PAGE: u64 = 14;
    pub(super) const X87: u8 = 16;
    pub(super) const ALIGNMENT: u8 = 17;
    pub(super) const SIMD: u8 = 19;
}

/// A page fault.
pub(crate) fn page(thread: &mut Thread, fault: PageFault) {
    thread.task.process.usage.count_fault();
    let Err(error) = system().kernel.fault(thread.space(), fault.at, fault.access) else { return };
    thread.last_fault =
        LastFault { trap: trap::PAGE, error: u64::from(fault.code()), address: fault.at.0 };
    tell(thread, error);
}

/// Tells the program of an access that cannot be made good.
pub(crate) fn tell(thread: &Thread, error: FaultError) {
    let at = error.at().0;
    let info = match error.signal() {
        Told::Segv { code } => Info::fault(Signal::SEGV, code, at),
        Told::Bus => Info::fault(Signal::BUS, 2, at),
        Told::Kill => {
            let process = &thread.task.process;
            let name = process.image.lock().name;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default().escape_ascii();
            log::warn!("out of memory: process {} ({name}) is killed", process.pid());
            process.end(Signal::KILL.number().cast_signed());
            return;
        }
    };
    send::force(&thread.task, info);
}

/// Any other fault.
pub(crate) fn other(thread: &mut Thread, vector: u8, error: u64) {
    let at = thread.program.registers().rip;
    thread.last_fault = LastFault { trap: u64::from(vector), error, address: 0 };
    let info = match vector {
        trap::DIVISION => Info::fault(Signal::FPE, 1, at),
        trap::DEBUG => {
            // What single-steps goes on doing so, unless the handler says otherwise.
            Info::fault(Signal::TRAP, 2, at)
        }
        trap::BREAKPOINT => Info::kernel(Signal::TRAP),
        trap::UNDEFINED => Info::fault(Signal::ILL, 2, at),
        trap::STACK => Info::kernel(Signal::BUS),
        trap::X87 => Info::fault(Signal::FPE, x87_code(thread), at),
        trap::SIMD => Info::fault(Signal::FPE, simd_code(thread), at),
        trap::ALIGNMENT => Info::fault(Signal::BUS, 1, 0),
        trap::OVERFLOW | trap::PROTECTION => Info::kernel(Signal::SEGV),
        _ => Info { code: code::KERNEL, ..Info::kernel(Signal::SEGV) },
    };
    send::force(&thread.task, info);
}

/// The status word of the x87, and what masks it, say which exception it was.
fn x87_code(thread: &mut Thread) -> i32 {
    let fpu = thread.program.fpu();
    let control = u32::from(u16::from_le_bytes([fpu[0], fpu[1]]));
    let status = u32::from(u16::from_le_bytes([fpu[2], fpu[3]]));
    floating(status & !control)
}

/// The control register of SSE has both.
fn simd_code(thread: &mut Thread) -> i32 {
    let fpu = thread.program.fpu();
    let control = u32::from_le_bytes([fpu[24], fpu[25], fpu[26], fpu[27]]);
    floating(control & !(control >> 7))
}

/// `FPE_FLTINV` and so on, of the six bits that both have.
fn floating(raised: u32) -> i32 {
    match raised {
        raised if raised & 1 != 0 => 7,
        raised if raised & 4 != 0 => 3,
        raised if raised & 8 != 0 => 4,
        // Denormal and underflow.
        raised if raised & 0x12 != 0 => 5,
        raised if raised & 0x20 != 0 => 6,
        _ => 14,
    }
}
