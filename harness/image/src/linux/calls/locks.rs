//! Locks of files: flock(2), and those of fcntl(2).

use rumpvm::Hold;
use rumpvm_arch::VirtAddr;
use rumpvm_bare::Bare;
use rumpvm_files::lock::{Ask, Family, Range, Use};
use rumpvm_files::open::Whence;
use rumpvm_files::{Errno, Open, Table};

use super::{Answer, Args, files};
use crate::linux::thread::Thread;

/// `F_GETLK`, `F_SETLK`, `F_SETLKW`.
pub(super) const RANGES_FIRST: u32 = 5;
pub(super) const RANGES_LAST: u32 = 7;
/// `F_OFD_GETLK`, `F_OFD_SETLK`, `F_OFD_SETLKW`.
pub(super) const OPEN_FIRST: u32 = 36;
pub(super) const OPEN_LAST: u32 = 38;

/// `F_RDLCK`, `F_WRLCK`, `F_UNLCK`.
const SHARED: u16 = 0;
const EXCLUSIVE: u16 = 1;
const UNLOCKED: u16 = 2;

/// Bytes of a `struct flock`.
const BYTES: usize = 32;

/// A `struct flock`: type, whence, start, length, process.
struct Record([u8; BYTES]);

impl Record {
    fn short(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn word(&self, at: usize) -> i64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[at..at + 8]);
        i64::from_le_bytes(bytes)
    }

    fn process(&self) -> u32 {
        self.word(24) as u32
    }

    /// The bytes that it means; none is all to the end, and a negative number those before.
    fn range(&self, open: &Open<Bare>) -> Result<Range, Errno> {
        let from = match Whence::of(u32::from(self.short(2))) {
            Some(Whence::Start) => 0,
            // As lseek(2) says it, who moves nothing.
            Some(Whence::Here) => open.seek(0, Whence::Here)?.cast_signed(),
            Some(Whence::End) => open.size().cast_signed(),
            _ => return Err(Errno::EINVAL),
        };
        let start = from.checked_add(self.word(8)).ok_or(Errno::EOVERFLOW)?;
        let length = self.word(16);
        let (first, last) = match length {
            0 => (start, i64::MAX),
            1.. => (start, start.checked_add(length - 1).ok_or(Errno::EOVERFLOW)?),
            _ => (start.saturating_add(length), start - 1),
        };
        if start < 0 || first < 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Range { first: first as u64, last: last as u64 })
    }

    fn tell(&mut self, kind: Use, range: Range, pid: i32) {
        let kind = if kind == Use::Shared { SHARED } else { EXCLUSIVE };
        let length = if range.last == Range::ALL.last { 0 } else { range.last - range.first + 1 };
        self.0[0..2].copy_from_slice(&kind.to_le_bytes());
        self.0[2..4].fill(0);
        self.0[8..16].copy_from_slice(&range.first.to_le_bytes());
        self.0[16..24].copy_from_slice(&length.to_le_bytes());
        self.0[24..28].copy_from_slice(&pid.to_le_bytes());
    }
}

/// fcntl(2) with one of the commands for locks.
pub(super) fn control(
    thread: &Thread,
    table: &Table<Bare>,
    open: &Hold<Open<Bare>, Bare>,
    command: u32,
    at: VirtAddr,
) -> Result<(), Errno> {
    if open.is_path() {
        return Err(Errno::EBADF);
    }
    let mut record = Record(thread.user().load::<BYTES>(at)?);
    let of_open = command >= OPEN_FIRST;
    if of_open && record.process() != 0 {
        return Err(Errno::EINVAL);
    }
    let (owner, pid) = match of_open {
        true => (open.owner(), 0),
        false => (table.owner(), thread.task.process.pid()),
    };
    let kind = match record.short(0) {
        SHARED => Some(Use::Shared),
        EXCLUSIVE => Some(Use::Exclusive),
        UNLOCKED => None,
        _ => return Err(Errno::EINVAL),
    };
    let ask = Ask { family: Family::Ranges, owner, range: record.range(open)?, pid };
    let waits = command == RANGES_LAST || command == OPEN_LAST;
    match kind {
        Some(kind) if command == RANGES_FIRST || command == OPEN_FIRST => {
            match open.lock_in_the_way(&ask, kind) {
                Some(held) => {
                    let pid = if held.ask.pid == 0 { -1 } else { held.ask.pid.cast_signed() };
                    record.tell(held.kind, held.ask.range, pid);
                }
                None => record.0[0..2].copy_from_slice(&UNLOCKED.to_le_bytes()),
            }
            thread.user().write(at, &record.0)
        }
        None if command == RANGES_FIRST || command == OPEN_FIRST => Err(Errno::EINVAL),
        None => open.unlock(&ask),
        Some(kind) => open.lock(&ask, kind, waits.then_some(&thread.task.waker)),
    }
}

/// Takes back what was locked by a descriptor that somebody has closed since.
pub(super) fn forget(table: &Table<Bare>, open: &Hold<Open<Bare>, Bare>) {
    let (owner, range) = (table.owner(), Range::ALL);
    // Of all that the owner has there, nothing is split, so no memory is needed.
    open.unlock(&Ask { family: Family::Ranges, owner, range, pid: 0 }).ok();
}

pub(super) fn flock(thread: &mut Thread, args: Args) -> Answer {
    const DONT_WAIT: u32 = 4;
    let open = files::get(thread, args.half(0))?;
    let ask = Ask { family: Family::Files, owner: open.owner(), range: Range::ALL, pid: 0 };
    let waits = (args.half(1) & DONT_WAIT == 0).then_some(&thread.task.waker);
    if open.is_path() {
        return Err(Errno::EBADF);
    }
    match args.half(1) & !DONT_WAIT {
        1 => open.lock(&ask, Use::Shared, waits)?,
        2 => open.lock(&ask, Use::Exclusive, waits)?,
        8 => open.unlock(&ask)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
