//! The bare home: an x86-64 machine, from the boot loader's jump to threads on all CPUs.
//!
//! Reading order: `boot` (in which order things come up), `home` (what the component sees), `scheduler` -> `thread` ->
//! `sleepers` (who runs), `priority` -> `ready` (who before whom), `traps` -> `program` (ring 3), then what they stand
//! on: `cpu`, `paging`, `apic`, `clock`, `acpi`.
//!
//! Flow:  boot loader -> image in the upper half -> CPUs, memory, clock -> [`main!`] -> component -> programs.
//! Locks: its own spin locks (`lock`), each for a few instructions; none is held when the component is called.
//! Sleep: `Seam::sleep` switches to another thread of the CPU.
//! Owns:  the machine, and what it took of its memory before the component got the rest.
//!
//! Built for any other target than `x86_64-unknown-none` it is checked and its arithmetic is tested; only what an image
//! needs of its linker (first instructions, allocator, panic handler) is left out.
#![no_std]
#![cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "the first instructions, which use it all, are left out")
)]

extern crate alloc;

mod acpi;
mod apic;
mod boot;
pub mod calendar;
mod clock;
pub mod console;
mod cpu;
mod disk;
mod fpu;
pub mod heap;
mod home;
mod layout;
mod lock;
pub mod memory;
mod paging;
mod panic;
pub mod power;
mod priority;
mod program;
mod ready;
mod scheduler;
pub mod serial;
mod sleepers;
mod smp;
mod spent;
mod stack;
mod thread;
mod traps;

use rumpvm_arch::PhysAddr;
use spin::Once;

pub use boot::{BootInfo, Kind, Module, Region};
pub use disk::{Disk, find_disks};
pub use home::{Bare, Kernel};
pub use panic::STATUS as PANIC_STATUS;
pub use priority::{Priority, Standing};
pub use program::{Program, ProgramCopy, Trap};
pub use thread::NoStack;
pub use traps::Frame;

/// What the home calls in the component, or in who owns it.
pub trait Upcalls: Sync {
    /// Serves the flush requests of the calling CPU: `Vm::tlb_interrupt`. Interrupts are masked; must not sleep.
    fn tlb_interrupt(&self);

    /// The calling CPU has nothing to run: gives up the space that it translates through, does a little work and says
    /// whether there may be more. Must not sleep. Every thread's resume hook runs when the CPU takes it up again.
    fn idle(&self) -> bool;

    /// 2^`order` frames in a row, aligned to their length, for good: for stacks, for the kernel's own tables, and for
    /// the heap to grow.
    fn frames(&self, order: u32) -> Option<PhysAddr>;
}

static UPCALLS: Once<&'static dyn Upcalls> = Once::new();

/// Names who serves flush requests, uses idle time and gives frames. Once.
pub fn connect(component: &'static dyn Upcalls) {
    assert!(UPCALLS.get().is_none(), "a machine serves one component");
    UPCALLS.call_once(|| component);
}

pub(crate) fn upcalls() -> Option<&'static dyn Upcalls> {
    UPCALLS.get().copied()
}

/// Names the function that an image does once the machine runs: `fn(&'static BootInfo) -> u8`, whose result is the exit
/// status. It runs as a thread of CPU 0.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn rumpvm_bare_main(boot: &'static $crate::BootInfo) -> u8 {
            let main: fn(&'static $crate::BootInfo) -> u8 = $main;
            main(boot)
        }
    };
}
