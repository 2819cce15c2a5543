//! System V's shared memory on the host's side: what a program's names stand for, and that nothing of it stays.
//!
//! Flow:  name -> the host's number, in memory that all processes of the program share -> a system call.
//! Owns:  the segments that a program has made; the warden removes them when it has ended.
//!
//! V1. Nothing is made unless the warden has a name space of its own for segments. Whatever ends him, they go with
//!     it.

use std::sync::atomic::Ordering;

use crate::differ::{Outcome, SEGMENTS, segment_told};

use super::kernel;
use super::shared::Shared;

/// `IPC_PRIVATE`, and what the keys of a program begin behind.
const FIRST_KEY: u64 = 0x5256_0000;

/// No segment has a name any more.
pub(super) fn forget(shared: &Shared) {
    shared.segments.iter().for_each(|segment| segment.store(-1, Ordering::Relaxed));
    shared.made_count.store(0, Ordering::Relaxed);
}

/// Removes what was made.
pub(super) fn remove(shared: &Shared) {
    let count = shared.made_count.load(Ordering::Acquire) as usize;
    for made in &shared.made[..count.min(shared.made.len())] {
        let id = made.load(Ordering::Relaxed) as u64;
        // SAFETY: a segment that nobody maps any more. Most are gone already, which is an error.
        let _ = unsafe { kernel::short(libc::SYS_shmctl, id, libc::IPC_RMID as u64, 0) };
    }
}

/// The host's number of a segment.
fn id(shared: &Shared, name: u64) -> i32 {
    shared.segments.get(name as usize).map_or(-1, |id| id.load(Ordering::Relaxed))
}

pub(super) fn get(shared: &Shared, [name, key, bytes, flags]: [u64; 4]) -> Outcome {
    // V1.
    if shared.own_segments.load(Ordering::Relaxed) == 0 || name as usize >= SEGMENTS {
        return Outcome::Refused(libc::ENOSYS);
    }
    let key = if key == 0 { 0 } else { FIRST_KEY + key };
    // SAFETY: a segment of nobody else is made, or found.
    match unsafe { kernel::short(libc::SYS_shmget, key, bytes, flags) } {
        Ok(made) => {
            let place = shared.made_count.fetch_add(1, Ordering::AcqRel) as usize;
            shared.made[place].store(made as i32, Ordering::Relaxed);
            shared.segments[name as usize].store(-1, Ordering::Relaxed);
            let known = (0..SEGMENTS as u64).find(|other| id(shared, *other) == made as i32);
            shared.segments[name as usize].store(made as i32, Ordering::Relaxed);
            Outcome::Done(known.unwrap_or(name).min(name))
        }
        Err(errno) => Outcome::Refused(errno),
    }
}

/// Where it is; the caller sees to it that nothing is outside of the window.
pub(super) fn attach(shared: &Shared, [name, at, flags]: [u64; 3]) -> Result<u64, i32> {
    // SAFETY: the window is mapped over, or a place of the kernel's choice is taken.
    unsafe { kernel::short(libc::SYS_shmat, id(shared, name) as u64, at, flags) }
}

pub(super) fn detach(at: u64) -> Outcome {
    // SAFETY: only what `attach` has mapped can go.
    match unsafe { kernel::short(libc::SYS_shmdt, at, 0, 0) } {
        Ok(value) => Outcome::Done(value),
        Err(errno) => Outcome::Refused(errno),
    }
}

pub(super) fn control(shared: &Shared, [name, command, mode]: [u64; 3]) -> Outcome {
    // SAFETY: a record of numbers, which the kernel fills in or reads.
    let (answer, status) = unsafe {
        let mut status: libc::shmid_ds = std::mem::zeroed();
        if command == libc::IPC_SET as u64 {
            let own = |number| kernel::call(number, [0; 6]).unwrap_or(0) as u32;
            status.shm_perm.uid = own(libc::SYS_geteuid);
            status.shm_perm.gid = own(libc::SYS_getegid);
            status.shm_perm.mode = mode as _;
        }
        let (id, at) = (id(shared, name) as u64, &raw mut status as u64);
        (kernel::short(libc::SYS_shmctl, id, command, at), status)
    };
    match answer {
        Ok(_) if command == libc::IPC_STAT as u64 => {
            let (bytes, areas) = (status.shm_segsz as u64, status.shm_nattch);
            let mode = u32::from(status.shm_perm.mode);
            Outcome::Done(segment_told(bytes, mode, areas, status.shm_perm.__key != 0))
        }
        Ok(value) => Outcome::Done(value),
        Err(errno) => Outcome::Refused(errno),
    }
}
