//! What is told when an item was misused: a line in a buffer of its own, because the heap may be what is broken.

use core::fmt::{self, Write};

use rumpvm_platform::Platform;

use crate::phys::Phys;

/// Longest story; the rest is cut off.
const LENGTH: usize = 640;

struct Story {
    bytes: [u8; LENGTH],
    len: usize,
}

impl Write for Story {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for one in text.chars() {
            let end = self.len + one.len_utf8();
            let Some(room) = self.bytes.get_mut(self.len..end) else { break };
            one.encode_utf8(room);
            self.len = end;
        }
        Ok(())
    }
}

/// Stops the machine with `what`.
#[cold]
pub(crate) fn tell<P: Platform>(phys: &Phys<P>, what: fmt::Arguments<'_>) -> ! {
    let mut story = Story { bytes: [0; LENGTH], len: 0 };
    // A story never fails to be written; it is cut off.
    let _ = write!(story, "rumpvm: {what}");
    let text =
        core::str::from_utf8(&story.bytes[..story.len]).unwrap_or("rumpvm: an item was misused");
    phys.platform.panic(text)
}
