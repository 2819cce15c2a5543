//! The segments of a program on our side: its names, and the component's numbers for them.
//!
//! Flow:  name -> number -> [`rumpvm::Segments`].
//! Owns:  the segments that it made, until [`Slots::end`].

use rumpvm::shm::{AttachFlags, Caller, Rank, SegmentFlags};
use rumpvm::{CallError, Space, Vm};
use rumpvm_arch::{VirtAddr, X86_64};
use rumpvm_hosted::Hosted;

use super::op::{SEGMENTS, segment_told};

type Home = Hosted<X86_64>;

/// Whoever calls owns everything, and has no rights beyond that.
const CALLER: Caller<'static> =
    Caller { uid: 0, gid: 0, groups: &[], rank: Rank::Ordinary, pid: 1, now: 0 };
/// Permissions, of the flags of shmget(2).
const MODE: u64 = 0o777;

const REMOVE: u64 = 0;
const SET: u64 = 1;
const STATUS: u64 = 2;
const LOCK: u64 = 11;
const UNLOCK: u64 = 12;

/// The segments of one program.
pub struct Slots {
    ids: [i32; SEGMENTS],
    made: Vec<i32>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { ids: [-1; SEGMENTS], made: Vec::new() }
    }
}

impl Slots {
    /// shmget(2): from now on `name` is that segment; returns the first name that is.
    pub fn get(
        &mut self,
        vm: &Vm<Home>,
        name: u64,
        key: u64,
        bytes: u64,
        flags: u64,
    ) -> Result<u64, CallError> {
        let how = SegmentFlags::from_bits_truncate(flags as u32);
        let (key, mode) = (key as i32, (flags & MODE) as u32);
        let id = vm.segments().get(vm, &CALLER, key, bytes, how, mode)?;
        self.made.push(id);
        self.ids[name as usize] = id;
        let first = self.ids.iter().position(|other| *other == id);
        Ok(first.map_or(name, |first| first as u64))
    }

    fn id(&self, name: u64) -> i32 {
        self.ids.get(name as usize).copied().unwrap_or(-1)
    }

    /// shmat(2).
    pub fn attach(
        &self,
        vm: &Vm<Home>,
        space: &Space<Home>,
        name: u64,
        at: VirtAddr,
        flags: u64,
    ) -> Result<VirtAddr, CallError> {
        let flags = AttachFlags::from_bits_retain(flags as u32);
        vm.segments().attach(vm, &CALLER, space, self.id(name), at, flags)
    }

    /// shmdt(2).
    pub fn detach(
        &self,
        vm: &Vm<Home>,
        space: &Space<Home>,
        at: VirtAddr,
    ) -> Result<(), CallError> {
        vm.segments().detach(vm, &CALLER, space, at)
    }

    /// shmctl(2), the commands that a program has.
    pub fn control(
        &self,
        vm: &Vm<Home>,
        space: &Space<Home>,
        name: u64,
        command: u64,
        mode: u64,
    ) -> Result<u64, CallError> {
        let (segments, id) = (vm.segments(), self.id(name));
        match command {
            REMOVE => segments.remove(vm, &CALLER, id)?,
            SET => segments.set(&CALLER, id, (0, 0), mode as u32)?,
            STATUS => {
                let told = segments.status(&CALLER, id)?;
                return Ok(segment_told(told.bytes, told.mode, told.attachments, told.key != 0));
            }
            LOCK | UNLOCK => {
                segments.set_locked(&CALLER, &space.limits(), id, command == LOCK)?;
            }
            _ => return Err(CallError::Invalid),
        }
        Ok(0)
    }

    /// Removes what was made. Nothing is mapped any more.
    pub fn end(self, vm: &Vm<Home>) {
        for id in self.made {
            // Most have been removed by the program.
            let _ = vm.segments().remove(vm, &CALLER, id);
        }
    }
}
