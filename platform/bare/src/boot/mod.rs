//! From the boot loader's jump to a machine that runs threads.
//!
//! Flow:  `entry.s` (32 bits) -> [`start`] -> console, CPU, memory, clock, other CPUs -> the image's main thread.
//! Locks: none; one CPU runs.
//! Owns:  the order in which the parts come up.

#[cfg(target_os = "none")]
mod entry;
mod info;
mod multiboot;
mod pvh;
#[cfg(test)]
mod tests;

pub(crate) use info::List;
pub use info::{BootInfo, Kind, Module, Region};
pub(crate) use info::{Read, bytes};

use crate::layout::Image;
use crate::{acpi, apic, clock, cpu, heap, memory, power, scheduler, smp};

/// Which of the entry's two doors was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// PVH, as hypervisors use it.
    Pvh,
    /// Multiboot 1, as GRUB does.
    Multiboot,
}

/// Brings the machine up on the CPU that was started, and goes on as its idle loop. `main` is the first thread.
pub(crate) fn start(door: Door, info: u64, image: &Image, main: fn(&'static BootInfo) -> u8) -> ! {
    crate::console::start();
    let features = cpu::features::detect();
    let boot = match door {
        Door::Pvh => pvh::decode(info, &memory::read_early),
        Door::Multiboot => multiboot::decode(info, &memory::read_early),
    };
    let boot: &'static BootInfo = info::keep(boot);
    cpu::start_first(features);
    // While the first 4 GiB are mapped as they are.
    let acpi = acpi::find(boot.rsdp, &memory::read_early);
    power::prepare(&acpi);
    memory::start(boot, image);
    heap::start(boot);
    apic::start_first(&acpi);
    clock::start(&acpi);
    cpu::prepare_others(&acpi);
    scheduler::start_first(move || power::exit(main(boot)));
    smp::start_others();
    scheduler::idle_loop()
}
