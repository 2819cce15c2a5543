//! System V's shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).

use rumpvm::shm::{AttachFlags, Caller, Rank, SegmentFlags, Status};
use rumpvm_bare::calendar;
use rumpvm_files::Errno;

use super::{Answer, Args};
use crate::linux::ids::{Ids, capability};
use crate::linux::system::system;
use crate::linux::thread::Thread;

/// Calls `work` as whoever runs `thread`.
fn as_caller<T>(
    thread: &Thread,
    work: impl FnOnce(&Caller<'_>) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let process = &thread.task.process;
    let ids: Ids = process.ids.lock().try_clone()?;
    let rank = if ids.can(capability::SYS_ADMIN) { Rank::Administrator } else { Rank::Ordinary };
    work(&Caller {
        uid: ids.user.effective,
        gid: ids.group.effective,
        groups: &ids.groups,
        rank,
        pid: process.pid(),
        now: (calendar::now() / 1_000_000_000) as i64,
    })
}

pub(super) fn shmget(thread: &mut Thread, args: Args) -> Answer {
    let (key, bytes, word) = (args.int(0), args.word(1), args.half(2));
    let flags = SegmentFlags::from_bits_truncate(word);
    let vm = &system().kernel.vm;
    as_caller(thread, |caller| {
        let id = vm.segments().get(vm, caller, key, bytes, flags, word & 0o777)?;
        Ok(u64::from(id.cast_unsigned()))
    })
}

pub(super) fn shmat(thread: &mut Thread, args: Args) -> Answer {
    let vm = &system().kernel.vm;
    let flags = AttachFlags::from_bits_truncate(args.half(2));
    as_caller(thread, |caller| {
        let space = thread.space();
        let at = vm.segments().attach(vm, caller, space, args.int(0), args.at(1), flags)?;
        Ok(at.0)
    })
}

pub(super) fn shmdt(thread: &mut Thread, args: Args) -> Answer {
    let vm = &system().kernel.vm;
    as_caller(thread, |caller| {
        vm.segments().detach(vm, caller, thread.space(), args.at(0))?;
        Ok(0)
    })
}

/// Commands of shmctl(2).
mod command {
    pub(super) const REMOVE: i32 = 0;
    pub(super) const SET: i32 = 1;
    pub(super) const STATUS: i32 = 2;
    pub(super) const LIMITS: i32 = 3;
    pub(super) const LOCK: i32 = 11;
    pub(super) const UNLOCK: i32 = 12;
    pub(super) const STATUS_AT: i32 = 13;
    pub(super) const TOTALS: i32 = 14;
    pub(super) const STATUS_ANY: i32 = 15;
}

pub(super) fn shmctl(thread: &mut Thread, args: Args) -> Answer {
    let vm = &system().kernel.vm;
    let (id, at) = (args.int(0), args.at(2));
    let segments = vm.segments();
    let memory = thread.user();
    as_caller(thread, |caller| {
        let highest = || u64::from(segments.totals(vm).highest.cast_unsigned());
        match args.int(1) & !0x100 {
            command::REMOVE => segments.remove(vm, caller, id)?,
            command::STATUS => memory.write(at, &to_bytes(&segments.status(caller, id)?))?,
            command::STATUS_AT => {
                let status = segments.status_at(caller, id)?;
                memory.write(at, &to_bytes(&status))?;
                return Ok(u64::from(status.id.cast_unsigned()));
            }
            command::STATUS_ANY => {
                let status = segments.status_of_any(id)?;
                memory.write(at, &to_bytes(&status))?;
                return Ok(u64::from(status.id.cast_unsigned()));
            }
            command::SET => {
                // `struct ipc64_perm`: key, owner, group, two of the creator, mode.
                let owner = memory.load::<24>(at)?;
                let half = |at: usize| {
                    u32::from_le_bytes([owner[at], owner[at + 1], owner[at + 2], owner[at + 3]])
                };
                let (user, mode) = ((half(4), half(8)), half(20));
                segments.set(caller, id, user, mode)?;
            }
            command::LIMITS => {
                let limits = segments.limits();
                memory.put_words(
                    at,
                    &[limits.bytes, 1, limits.segments, limits.segments, limits.pages],
                )?;
                return Ok(highest());
            }
            command::TOTALS => {
                let totals = segments.totals(vm);
                let used = u64::from(totals.segments as u32);
                memory.put_words(at, &[used, totals.pages, totals.resident, 0, 0, 0])?;
                return Ok(highest());
            }
            command @ (command::LOCK | command::UNLOCK) => {
                let limits = thread.space().limits();
                segments.set_locked(caller, &limits, id, command == command::LOCK)?;
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    })
}

/// `struct shmid64_ds`.
fn to_bytes(status: &Status) -> [u8; 112] {
    let mut bytes = [0; 112];
    let mut half = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    half(0, status.key.cast_unsigned());
    half(4, status.uid);
    half(8, status.gid);
    half(12, status.creator_uid);
    half(16, status.creator_gid);
    half(20, status.mode);
    half(80, status.creator);
    half(84, status.last);
    let mut word = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    word(48, status.bytes);
    word(56, status.attached.cast_unsigned());
    word(64, status.detached.cast_unsigned());
    word(72, status.changed.cast_unsigned());
    word(88, status.attachments);
    bytes
}
