//! What is mapped, area by area: for a debugger, or for `/proc/PID/maps`.
//!
//! Locks: none; what changes meanwhile is told as it was or as it is.

use core::ops::ControlFlow;

use rumpvm::{Area as Mapped, AreaFlags};

use crate::errno::{Errno, RUMPVM_EINVAL, number};
use crate::home::Foreign;
use crate::space::{Space, with};

/// Of an area: stores go to the object.
pub const RUMPVM_AREA_SHARED: u32 = 1;
/// Of an area: a stack, which faults extend.
pub const RUMPVM_AREA_GROWSDOWN: u32 = 2;
/// Of an area: its pages stay in memory.
pub const RUMPVM_AREA_LOCKED: u32 = 4;
/// Of an area: nothing can be used there; see rumpvm_reserve.
pub const RUMPVM_AREA_RESERVED: u32 = 8;
/// Of an area: it has an object, of which `offset` is the first byte there.
pub const RUMPVM_AREA_OBJECT: u32 = 16;
/// Of an area: that is a file of the host's, with `device` and `inode`.
pub const RUMPVM_AREA_FILE: u32 = 32;

/// A range of addresses that means one thing.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// Its first byte.
    pub start: u64,
    /// One past its last.
    pub end: u64,
    /// Byte of the object at `start`; 0 without one.
    pub offset: u64,
    /// As the host named the file in rumpvm_object_open; else 0.
    pub device: u64,
    /// As `device`.
    pub inode: u64,
    /// RUMPVM_PROT_*.
    pub prot: u32,
    /// What rumpvm_mprotect may make of that.
    pub max_prot: u32,
    /// RUMPVM_AREA_*.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// Stores the areas of `space` that end above `from` at `into`, in order of address, `room` at most, and returns how
/// many it has stored; whoever wants more calls with the last one's end. Time grows with the number of areas below, too.
/// Takes no lock of the space; from a thread. Or -EINVAL (null), -EBADF, -ENODEV.
///
/// # Safety
/// There is room for so many at `into`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_areas(
    space: Space,
    from: u64,
    into: *mut Area,
    room: usize,
) -> i64 {
    number(with(space, |vm, space| {
        if into.is_null() && room > 0 {
            return Err(Errno(RUMPVM_EINVAL));
        }
        let mut count = 0;
        let _: ControlFlow<()> = space.areas(vm, |area| {
            if count == room {
                return ControlFlow::Break(());
            }
            if area.range.end.0 > from {
                // SAFETY: by the caller's promise.
                unsafe { into.add(count).write(told(area)) };
                count += 1;
            }
            ControlFlow::Continue(())
        });
        Ok(count as u64)
    }))
}

fn told(area: &Mapped<Foreign>) -> Area {
    let file = area.object.as_ref().and_then(|object| object.file_id());
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    let has = |flags: AreaFlags| area.flags.contains(flags);
    Area {
        start: area.range.start.0,
        end: area.range.end.0,
        offset: if area.object.is_some() { area.offset } else { 0 },
        device: file.map_or(0, |file| file.device),
        inode: file.map_or(0, |file| file.inode),
        prot: area.prot.bits().into(),
        max_prot: area.max_prot.bits().into(),
        flags: flag(area.is_shared(), RUMPVM_AREA_SHARED)
            | flag(has(AreaFlags::GROWSDOWN), RUMPVM_AREA_GROWSDOWN)
            | flag(has(AreaFlags::LOCKED), RUMPVM_AREA_LOCKED)
            | flag(has(AreaFlags::RESERVED), RUMPVM_AREA_RESERVED)
            | flag(area.object.is_some(), RUMPVM_AREA_OBJECT)
            | flag(file.is_some(), RUMPVM_AREA_FILE),
        reserved: 0,
    }
}
