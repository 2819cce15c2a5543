//! Frames for the host itself.

use rumpvm::phys::{Contents, GiveBackError, Phys};
use rumpvm_arch::{Frame, PAGE_SIZE, PhysAddr};

use crate::errno::{Errno, RUMPVM_EBUSY, RUMPVM_EINVAL, RUMPVM_ENODEV, number, outcome};
use crate::home::Foreign;
use crate::{layer, machine};

/// Of rumpvm_frame_alloc: the frame is full of zeros.
pub const RUMPVM_FRAME_ZERO: u32 = 1;

/// Largest order of rumpvm_frame_alloc_run: a gibibyte.
const MOST: u32 = 18;

fn phys() -> Result<&'static Phys<Foreign>, Errno> {
    Ok(&layer::mmu(machine::get().ok_or(Errno(RUMPVM_ENODEV))?).phys)
}

/// The frame at physical address `at`.
pub(crate) fn frame(at: u64) -> Result<Frame, Errno> {
    let is_frame = at.is_multiple_of(PAGE_SIZE) && at / PAGE_SIZE < u64::from(u32::MAX);
    if is_frame { Ok(PhysAddr(at).frame()) } else { Err(Errno(RUMPVM_EINVAL)) }
}

/// Takes a frame of 4096 bytes for the host; returns its physical address. `flags` is 0 or RUMPVM_FRAME_ZERO. Takes
/// spin locks, does not sleep; from anywhere. Or -ENOMEM, -EINVAL (other flags), -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_frame_alloc(flags: u32) -> i64 {
    let alloc = || {
        let contents = match flags {
            0 => Contents::Unknown,
            RUMPVM_FRAME_ZERO => Contents::Zeros,
            _ => return Err(Errno(RUMPVM_EINVAL)),
        };
        Ok(phys()?.take_frame(contents)?.start().0)
    };
    number(alloc())
}

/// Takes 2 to the power of `order` frames in a row for the host, aligned to their length; returns the physical address of
/// the first. Each is freed by itself. Takes spin locks, does not sleep; from anywhere. Or -ENOMEM, -EINVAL (an order
/// above 18), -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_frame_alloc_run(order: u32) -> i64 {
    let alloc = || {
        if order > MOST {
            return Err(Errno(RUMPVM_EINVAL));
        }
        Ok(phys()?.take_frames(order)?.start().0)
    };
    number(alloc())
}

/// Gives back a frame of the host's, by its physical address. Takes spin locks, does not sleep; from anywhere. Returns 0;
/// -EINVAL (the host does not have it), -EBUSY (something maps it that rumpvm keeps track of), -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_frame_free(address: u64) -> i32 {
    let free = || {
        phys()?.give_back(frame(address)?).map_err(|error| match error {
            GiveBackError::NotHosts => Errno(RUMPVM_EINVAL),
            GiveBackError::Mapped => Errno(RUMPVM_EBUSY),
        })
    };
    outcome(free())
}
