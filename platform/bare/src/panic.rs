//! The end of a machine whose invariants broke: a story on the console, then off, with a status of its own.
//!
//! Flow:  panic -> the other CPUs are stopped -> message, place, way to it -> power off with [`STATUS`].

use core::fmt::Display;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::layout::IMAGE;
use crate::{apic, console, cpu, power};

/// Exit status of a machine that panicked; Rust's own programs end with the same.
pub const STATUS: u8 = 101;

/// Calls told of at most.
const DEPTH: usize = 24;

static UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// Whether some CPU tells its story.
pub(crate) fn is_under_way() -> bool {
    UNDER_WAY.load(Ordering::SeqCst)
}

/// Stops this CPU for good.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: nothing runs here any more, so nothing is missed.
        unsafe {
            x86::irq::disable();
            x86::halt();
        }
    }
}

/// Tells `story` and switches the machine off.
pub(crate) fn stop(story: &dyn Display) -> ! {
    // SAFETY: nothing goes on after this.
    unsafe { x86::irq::disable() };
    if UNDER_WAY.swap(true, Ordering::SeqCst) {
        // A panic while telling of one, or on another CPU at the same time: one story is enough.
        if !cpu::is_up() {
            power::exit(STATUS);
        }
        halt();
    }
    if cpu::is_up() {
        apic::stop_others();
        let thread = crate::thread::current_number();
        let place = format_args!("CPU {}, thread {thread}", cpu::id().0);
        console::write_in_trouble(format_args!("rumpvm: panic on {place}: {story}\n"));
    } else {
        console::write_in_trouble(format_args!("rumpvm: panic while starting: {story}\n"));
    }
    tell_way();
    power::exit(STATUS)
}

/// The return addresses on the stack, innermost first: `addr2line -e IMAGE ADDRESS...` makes lines of them.
fn tell_way() {
    console::write_in_trouble(format_args!("rumpvm: called from"));
    let mut frame: *const [u64; 2];
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    for _ in 0..DEPTH {
        let is_kernel = frame as u64 >= crate::layout::DIRECT && (frame as u64).is_multiple_of(8);
        if !is_kernel {
            break;
        }
        // SAFETY: code here is compiled with frame pointers, so this is one, and its two words are on the stack;
        // what is none ends the loop by the test above, or is mapped memory all the same.
        let [outer, from] = unsafe { frame.read() };
        if from < IMAGE {
            break;
        }
        console::write_in_trouble(format_args!(" {from:#x}"));
        frame = outer as *const [u64; 2];
    }
    console::write_in_trouble(format_args!("\n"));
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    stop(info)
}
