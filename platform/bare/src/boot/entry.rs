//! The image's first instructions, and the symbols that the linker script gives it.

use core::arch::global_asm;

use super::{BootInfo, Door};
use crate::layout::{IMAGE, Image};

global_asm!(include_str!("entry.s"), options(att_syntax));

unsafe extern "C" {
    static image_text_start: u8;
    static image_text_end: u8;
    static image_constants_start: u8;
    static image_constants_end: u8;
    static image_data_start: u8;
    static image_end: u8;
    static boot_entered: u64;
}

unsafe extern "Rust" {
    /// What the image does once the machine runs; the result is its exit status. See [`crate::main`].
    safe fn rumpvm_bare_main(boot: &'static BootInfo) -> u8;
}

/// Physical addresses of the image's parts.
fn image() -> Image {
    let at = |symbol: *const u8| symbol as u64 - IMAGE;
    Image {
        text: (at(&raw const image_text_start), at(&raw const image_text_end)),
        constants: (at(&raw const image_constants_start), at(&raw const image_constants_end)),
        data: (at(&raw const image_data_start), at(&raw const image_end)),
    }
}

/// Called by `entry.s` on the boot stack, with the boot tables loaded.
#[unsafe(no_mangle)]
extern "C" fn boot_main(door: u32, info: u32) -> ! {
    let door = if door == 1 { Door::Pvh } else { Door::Multiboot };
    // SAFETY: `entry.s` wrote it before, and nobody does later.
    crate::clock::entered(unsafe { boot_entered });
    super::start(door, u64::from(info), &image(), rumpvm_bare_main)
}
