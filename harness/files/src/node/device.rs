//! The devices that need no hardware: null, zero, full, random.

use alloc::boxed::Box;
use core::marker::PhantomData;

use rumpvm::sync::try_box;
use rumpvm_platform::Platform;

use super::{Call, FileType, Memory, Special};
use crate::errno::Errno;
use crate::services::{Services, device_number};
use crate::transfer::{Sink, Source};

/// What it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// Nothing to read; takes everything.
    Null,
    /// Zeros; takes everything.
    Zero,
    /// Zeros; has no room.
    Full,
    /// Chance.
    Random,
}

struct Device<P: Platform> {
    what: What,
    random: fn(&mut [u8]),
    platform: PhantomData<fn() -> P>,
}

/// What stands behind the device of that kind and number.
pub(crate) fn driver<P: Platform>(
    services: &Services<P>,
    file_type: FileType,
    number: u64,
) -> Result<Box<dyn Special<P>>, Errno> {
    const MEMORY: u32 = 1;
    let what = match number {
        _ if file_type != FileType::Character => return (services.device)(file_type, number),
        _ if number == device_number(MEMORY, 3) => What::Null,
        _ if number == device_number(MEMORY, 5) => What::Zero,
        _ if number == device_number(MEMORY, 7) => What::Full,
        _ if number == device_number(MEMORY, 8) => What::Random,
        _ if number == device_number(MEMORY, 9) => What::Random,
        _ => return (services.device)(file_type, number),
    };
    let device = Device { what, random: services.random, platform: PhantomData };
    Ok(try_box::<_, P>(device)?)
}

impl<P: Platform> Special<P> for Device<P> {
    /// Ends early for a signal: there is no end to what it gives.
    fn read(&self, call: &Call<'_, P>, _: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        if self.what == What::Null {
            return Ok(0);
        }
        let mut done = 0;
        while into.room() > 0 {
            let piece = into.put_with(usize::MAX, &mut |bytes| {
                match self.what {
                    What::Random => (self.random)(bytes),
                    _ => bytes.fill(0),
                }
                Ok(bytes.len())
            });
            match piece {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) => return super::regular::partly(done, error),
            }
            if call.waker.is_interrupted() {
                break;
            }
        }
        Ok(done)
    }

    fn write(&self, _: &Call<'_, P>, _: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        // Nobody looks at the bytes, so nobody minds where they are.
        if self.what == What::Full { Err(Errno::ENOSPC) } else { Ok(from.left()) }
    }

    fn has_position(&self) -> bool {
        true
    }

    fn memory(&self) -> Result<Memory<P>, Errno> {
        if self.what == What::Zero { Ok(Memory::Anonymous) } else { Err(Errno::ENODEV) }
    }
}
