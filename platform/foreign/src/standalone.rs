//! What Rust needs of a program that is not one: somebody to tell of panics. (The allocator is `heap`'s.)

use core::fmt::Write;
use core::panic::PanicInfo;

use crate::{home, text};

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    let mut line = text::Line::<1024>::new();
    // A line never fails; it is cut off.
    let _ = write!(line, "{info}");
    home::panic(core::str::from_utf8(line.bytes()).unwrap_or("rumpvm panicked"))
}
