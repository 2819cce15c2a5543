//! What the files ask of the kernel around them: memory, the time of day, chance, devices.

use alloc::boxed::Box;

use rumpvm::Vm;
use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::Platform;

use crate::errno::Errno;
use crate::node::{FileType, Special};

/// A moment, since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds of the next one.
    pub nanoseconds: u32,
}

/// What the kernel does for its files. Every volume has a copy.
pub struct Services<P: Platform> {
    /// The memory of files.
    pub vm: &'static Vm<P>,
    /// The time of day.
    pub now: fn() -> Time,
    /// Fills a slice by chance.
    pub random: fn(&mut [u8]),
    /// Adds memory that was held back; false if there is none, and then the machine is really full.
    pub more_memory: fn() -> bool,
    /// The device of a kind and number (see [`device_number`]) that is not one of ours; [`Errno::ENXIO`] if there is none.
    pub device: fn(FileType, u64) -> Driver<P>,
}

/// What stands behind a device.
pub type Driver<P> = Result<Box<dyn Special<P>>, Errno>;

impl<P: Platform> Clone for Services<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Services<P> {}

/// Files leave so much of a machine's memory to programs, at least: a sixteenth.
const KEPT_BACK: u64 = 16;

impl<P: Platform> Services<P> {
    /// Frames that files may still take.
    pub(crate) fn room(&self) -> u64 {
        let phys = &self.vm.mmu.phys;
        phys.free_frames().saturating_sub(phys.total_frames() / KEPT_BACK)
    }

    /// Whether files may take `bytes` more bytes of memory.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        loop {
            if self.room() >= bytes.div_ceil(PAGE_SIZE) {
                return true;
            }
            if !(self.more_memory)() {
                return false;
            }
        }
    }
}

/// Linux's number of the device `major`:`minor`, as stat(2) shows it.
pub const fn device_number(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
}

/// The two parts of a device's number.
pub const fn device_parts(number: u64) -> (u32, u32) {
    let major = ((number >> 8) & 0xfff) | ((number >> 32) & !0xfff);
    let minor = (number & 0xff) | ((number >> 12) & !0xff);
    (major as u32, minor as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_number_is_put_together_and_taken_apart_as_in_linux() {
        assert_eq!(device_number(1, 3), 0x103);
        assert_eq!(device_number(8, 0x12345), 0x1230_0845);
        for parts in [(1, 3), (5, 1), (136, 0), (0xfff, 0xf_ffff), (0x12345, 0x6789)] {
            assert_eq!(device_parts(device_number(parts.0, parts.1)), parts);
        }
    }
}
