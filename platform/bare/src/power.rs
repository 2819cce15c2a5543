//! The end: power off, with a status.
//!
//! Status 0 goes off as a PC does, by ACPI, so that an emulator exits with 0. Any other is told by QEMU's
//! `isa-debug-exit` at port 0xf4, whose emulator exits with twice the value and one; where there is no such
//! device, by a line on the console.
//!
//! Flow:  [`exit`] -> debug port -> ACPI -> reset (which `-no-reboot` makes an end) -> halt.

use rumpvm_arch::PhysAddr;
use spin::Once;

use crate::acpi::{Acpi, Register, SoftOff};
use crate::{console, paging, panic};

/// `-device isa-debug-exit,iobase=0xf4,iosize=4`.
const DEBUG_PORT: u16 = 0xf4;

#[derive(Clone, Copy)]
struct Ways {
    soft_off: Option<SoftOff>,
    reset: Option<(Register, u8)>,
}

static WAYS: Once<Ways> = Once::new();

/// Remembers what the tables say.
pub(crate) fn prepare(acpi: &Acpi) {
    WAYS.call_once(|| Ways { soft_off: acpi.soft_off, reset: acpi.reset });
}

/// Switches the machine off. Other CPUs may be in the middle of anything.
pub fn exit(status: u8) -> ! {
    if status != 0 {
        console::write_in_trouble(format_args!("rumpvm: exit status {status}\n"));
        // SAFETY: the port belongs to the device that ends an emulator, or to nobody.
        unsafe { x86::io::outl(DEBUG_PORT, u32::from(status)) };
    }
    if let Some(ways) = WAYS.get() {
        match ways.soft_off {
            // SAFETY: port and value are those of the ACPI tables.
            Some(SoftOff::Control(port, value)) => unsafe { x86::io::outw(port, value) },
            Some(SoftOff::Sleep(register, value)) => write(register, value),
            None => {}
        }
        if let Some((register, value)) = ways.reset {
            write(register, value);
        }
    }
    // SAFETY: asks the keyboard's controller to reset the machine; where there is none, nobody answers.
    unsafe { x86::io::outb(0x64, 0xfe) };
    panic::halt()
}

/// Writes a register that the ACPI tables name.
fn write(register: Register, value: u8) {
    match register {
        // SAFETY: port and value are those of the ACPI tables.
        Register::Port(port) => unsafe { x86::io::outb(port, value) },
        Register::Memory(at) => {
            if let Some(place) = paging::map_registers(PhysAddr(at), 1) {
                // SAFETY: the register is mapped there, and the value is that of the tables.
                unsafe { place.as_ptr().write_volatile(value) };
            }
        }
    }
}
