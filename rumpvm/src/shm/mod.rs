//! System V shared memory: segments with a number, a key and permissions.
//!
//! Flow:  shmget -> segment: a memory object with a name -> shmat: an area of it -> shmdt, exit -> last area gone.
//! Locks: the table's sleep lock, for a search; nothing is mapped, and no object ends, while it is held.
//! Sleep: for it; in `remove`, where an object may end.
//! Owns:  one use of each segment's object, until the segment is removed.
//!
//! G1. `nattch` is the number of areas: the object's users but the table itself. So it is right after fork, exec, exit
//!     and munmap, for which nothing is done here.
//! G2. A removed segment has no key and no use by the table: its memory ends with its last area, and its number is
//!     forgotten by the next who looks at the table.
//!
//! What a kernel knows of the caller (who it is, and what time it is) comes with each call.

mod attach;
mod control;
mod table;

use bitflags::bitflags;

use rumpvm_platform::Platform;

pub use table::Segments;

use crate::object::Object;
use crate::sync::Hold;

bitflags! {
    /// Flags of shmget(2) above the permissions, with Linux's values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SegmentFlags: u32 {
        /// Make it if there is none with that key.
        const CREATE = 0o1000;
        /// With `CREATE`: fail if there is one.
        const EXCLUSIVE = 0o2000;
        /// Superpages of a hugetlb file system, of which there is no pool here.
        const HUGETLB = 0o4000;
        /// Do not count it against memory.
        const NORESERVE = 0o10000;
    }
}

bitflags! {
    /// Flags of shmat(2), with Linux's values. Others are ignored.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AttachFlags: u32 {
        /// To load only.
        const RDONLY = 0o10000;
        /// Round the address down.
        const RND = 0o20000;
        /// In place of what is there.
        const REMAP = 0o40000;
        /// To execute, too.
        const EXEC = 0o100000;
    }
}

/// The key of segments that nobody finds by it.
pub const PRIVATE: i32 = 0;

/// Who calls, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller<'c> {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Further groups.
    pub groups: &'c [u32],
    /// Whether permissions and ownership do not bind it (`CAP_IPC_OWNER`, `CAP_SYS_ADMIN`, `CAP_IPC_LOCK`).
    pub rank: Rank,
    /// Number of its process.
    pub pid: u32,
    /// Seconds since the epoch.
    pub now: i64,
}

/// Whether permissions bind a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rank {
    /// They do.
    Ordinary,
    /// They do not.
    Administrator,
}

/// What shmctl(2) tells of a segment with `IPC_STAT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// Its number.
    pub id: i32,
    /// Its key; [`PRIVATE`] once it is removed.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Who made it.
    pub creator_uid: u32,
    /// The group of who made it.
    pub creator_gid: u32,
    /// Permissions, with `SHM_DEST` (0o1000) when it is removed and `SHM_LOCKED` (0o2000).
    pub mode: u32,
    /// Bytes, as they were asked for.
    pub bytes: u64,
    /// When it was last attached.
    pub attached: i64,
    /// When it was last detached by shmdt(2).
    pub detached: i64,
    /// When it was made or changed.
    pub changed: i64,
    /// Process that made it.
    pub creator: u32,
    /// Process that attached or detached it last.
    pub last: u32,
    /// Areas of it, in all spaces.
    pub attachments: u64,
}

/// Limits of all segments (`IPC_INFO`, `kernel.shm*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentLimits {
    /// Most bytes of one.
    pub bytes: u64,
    /// Most of them.
    pub segments: u64,
    /// Most pages of all.
    pub pages: u64,
}

impl Default for SegmentLimits {
    /// Linux's: the largest numbers that nothing wraps with, and 4096 segments.
    fn default() -> Self {
        let most = u64::MAX - (1 << 24);
        Self { bytes: most, segments: 4096, pages: most }
    }
}

/// What there is of all segments (`SHM_INFO`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Segments.
    pub segments: u64,
    /// Pages of all.
    pub pages: u64,
    /// Pages of all that are in memory.
    pub resident: u64,
    /// Highest place in the table that is in use, 0 if none is.
    pub highest: i32,
}

/// One segment.
pub(crate) struct Segment<P: Platform> {
    pub(crate) object: Hold<Object<P>, P>,
    pub(crate) status: Status,
}

/// Removed; gone with its last attachment.
const DEST: u32 = 0o1000;
/// Locked in memory.
const LOCKED: u32 = 0o2000;
/// Permissions.
const MODE: u32 = 0o777;

impl<P: Platform> Segment<P> {
    fn is_removed(&self) -> bool {
        self.status.mode & DEST != 0
    }

    /// Areas of it. Those who are about to make or to end one may be counted.
    fn attachments(&self) -> u64 {
        self.object.users().saturating_sub(u64::from(!self.is_removed()))
    }

    fn pages(&self) -> u64 {
        self.status.bytes.div_ceil(rumpvm_arch::PAGE_SIZE)
    }

    /// As of now.
    fn status(&self) -> Status {
        Status { attachments: self.attachments(), ..self.status }
    }

    /// Whether `caller` may do what `mode` says, for whichever class of users it is in; Linux's `ipcperms`.
    fn permits(&self, caller: &Caller<'_>, mode: u32) -> bool {
        let wanted = (mode >> 6) | (mode >> 3) | mode;
        let status = &self.status;
        let in_group = |gid| caller.gid == gid || caller.groups.contains(&gid);
        let granted = if caller.uid == status.creator_uid || caller.uid == status.uid {
            status.mode >> 6
        } else if in_group(status.creator_gid) || in_group(status.gid) {
            status.mode >> 3
        } else {
            status.mode
        };
        wanted & !granted & 0o7 == 0 || caller.rank == Rank::Administrator
    }

    /// Whether `caller` may change or remove it.
    fn is_owned_by(&self, caller: &Caller<'_>) -> bool {
        let status = &self.status;
        caller.uid == status.uid
            || caller.uid == status.creator_uid
            || caller.rank == Rank::Administrator
    }
}
