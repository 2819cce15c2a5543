//! Differences by design: the one table, each row with its reason, as narrow as it can be.
//!
//! A row says what is not compared, or not tried, and the code beside it is all that knows of it.

use super::answer::{Outcome, PageSeen, Shown};
use super::op::{Call, LIMIT_AREAS, LIMIT_DATA, LIMIT_MAPPED, Op, PAGE, segment_areas};

const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
/// `MADV_PAGEOUT`.
const PAGEOUT: i32 = 21;

/// `FALLOC_FL_KEEP_SIZE`, and no hole.
const KEEP_SIZE: u64 = 1;

/// A difference that stays.
pub struct ByDesign {
    /// What differs.
    pub what: &'static str,
    /// Why it is left so.
    pub reason: &'static str,
}

/// All of them.
pub const TABLE: &[ByDesign] = &[
    ByDesign {
        what: "where a mapping goes whose place is the kernel's choice",
        reason: "placement is policy, and random on the host; that it is chosen at all is compared, and the mapping is taken away at once",
    },
    ByDesign {
        what: "where one area ends and the next begins",
        reason: "merging is policy: areas are compared page by page",
    },
    ByDesign {
        what: "whether pages of a file are in memory, and pages that were loaded but never stored to",
        reason: "read-ahead, fault-around and the shared page of zeros are policy; private pages, and shared memory by mincore, are compared",
    },
    ByDesign {
        what: "what is in memory, if the host says otherwise when it is asked again",
        reason: "pages of shared memory that were never stored to go when the host's caches are dropped; how often that was is printed",
    },
    ByDesign {
        what: "bytes stored behind the end of a file, in its last page",
        reason: "POSIX leaves open how long they are seen: stores go to the first bytes of a page, and files end behind those",
    },
    ByDesign {
        what: "what a page holds after MADV_FREE, until it is stored to",
        reason: "Linux lets it go when memory is short, we at once: one page at a time is freed, and MADV_DONTNEED follows on both sides",
    },
    ByDesign {
        what: "a page brought in by a fetch that is denied",
        reason: "Linux takes the fetch of an absent page for a load at first: a fetch is tried after a load",
    },
    ByDesign {
        what: "MREMAP_DONTUNMAP in programs that lock memory",
        reason: "Linux unlocks all of the area of which a part moved, so what is locked then follows from merging; we unlock what moved",
    },
    ByDesign {
        what: "mremap and remap_file_pages of pages whose areas only one side holds apart: EFAULT and EINVAL there",
        reason: "merging is policy, and this is where it shows: Linux holds apart what came into memory apart, we what is still promised and what was never touched since it was cut off. The rest of such a program is not compared",
    },
    ByDesign {
        what: "PROT_GROWSDOWN where stacks touch, or were cut and are whole again",
        reason: "merging is policy, and PROT_GROWSDOWN shows where a stack begins: Linux merges none with another that it has grown down to, none whose parts came into memory apart, were promised apart or were forked, and leaves one cut in two by an mmap that was refused. Programs with it have one process and one stack, which is in memory at once and can always be stored to; no holes come into it, and no limits or seals refuse anything",
    },
    ByDesign {
        what: "what is in memory in programs with MADV_PAGEOUT",
        reason: "which pages go, and whether there is anywhere to go, is policy",
    },
    ByDesign {
        what: "MADV_PAGEOUT in programs with MAP_DROPPABLE",
        reason: "what may go when memory is short goes when the kernel likes: Linux lets it go then, we do not yet",
    },
    ByDesign {
        what: "MAP_SYNC without MAP_SHARED_VALIDATE",
        reason: "a disk's file system refuses it, as our files do; the oracle's files are in memory, which does not. Linux remembers it and does not merge",
    },
    ByDesign {
        what: "mremap of several areas at once",
        reason: "since Linux 6.17, and only if nothing is resized: on older hosts such moves are of one page",
    },
    ByDesign {
        what: "how many areas map a segment, once a call has cut one of them",
        reason: "merging is policy: Linux merges no area of a segment that would have to go for it, we do; that ours are no more, and none if Linux's are none, is compared",
    },
    ByDesign {
        what: "which pieces shmdt takes away when mremap has lengthened an attachment",
        reason: "merging is policy, and shows: Linux leaves pieces that reach beyond the segment's size, but for the first one. Programs with segments lengthen nothing",
    },
    ByDesign {
        what: "ENOMEM where only Linux has as many areas as there may be, and how far a call got that was refused for them",
        reason: "merging is policy; what follows in such a program is not compared",
    },
    ByDesign {
        what: "how far mprotect of several pages got when it was refused for want of data (RLIMIT_DATA), and whether it was where RLIMIT_AS leaves little room",
        reason: "it goes from area to area, and merging is policy; what follows in such a program is not compared",
    },
    ByDesign {
        what: "what mincore says of the memory with a name in programs in which fallocate has allocated some of it",
        reason: "Linux has such pages, but says so only once they are touched, and keeps them beyond the end (FALLOC_FL_KEEP_SIZE); ours lie within it, and are there",
    },
    ByDesign {
        what: "SHM_LOCK in programs that may not lock what they like",
        reason: "Linux counts it for the user, with all that his other processes have locked",
    },
    ByDesign {
        what: "brk in programs with RLIMIT_DATA",
        reason: "the limit of the heap is that of all data, of which the host's process has some of its own",
    },
    ByDesign {
        what: "superpages",
        reason: "they are off on the host's side (PR_SET_THP_DISABLE): when they are made is policy",
    },
];

/// Whether the table excuses these outcomes of the last step of `ops`. What comes after it is not compared.
///
/// Areas that only one side holds apart make `mremap` and `remap_file_pages` of both impossible there, and come to their
/// limit sooner. Ours are held apart alone only by what is promised, once a part can be stored to no more.
pub(super) fn ends(ops: &[Op], linux: Outcome, ours: Outcome) -> bool {
    let Some(op) = ops.last() else { return false };
    if matches!(linux, Outcome::Refused(ENOMEM | EAGAIN)) && limits(ops, LIMIT_AREAS) {
        return true;
    }
    let several = op.call == Call::Mremap && op.arguments[1] > PAGE;
    if op.call == Call::Mprotect && op.arguments[1] > PAGE && limits(ops, LIMIT_MAPPED) {
        let refused = linux == Outcome::Refused(ENOMEM) && limits(ops, LIMIT_DATA);
        return refused && matches!(ours, Outcome::Done(_));
    }
    if op.call == Call::RemapFilePages && op.arguments[1] > PAGE {
        return linux == Outcome::Refused(EINVAL);
    }
    let (theirs, mine) = (linux == Outcome::Refused(EFAULT), ours == Outcome::Refused(EFAULT));
    several
        && (theirs && ours != Outcome::Refused(EINVAL) || mine && ops.iter().any(ends_a_promise))
}

fn limits(ops: &[Op], what: u64) -> bool {
    ops.iter().any(|op| op.call == Call::Limit && op.arguments[0] == what)
}

/// Whether what comes after this step, the last of `ops`, is not compared although both sides refused it alike.
pub(super) fn leaves_open(ops: &[Op], outcome: Outcome) -> bool {
    let Some(op) = ops.last().filter(|op| op.arguments[1] > PAGE) else { return false };
    let refused = matches!(outcome, Outcome::Refused(ENOMEM | EAGAIN));
    let by_data = op.call == Call::Mprotect && limits(ops, LIMIT_DATA);
    refused && (by_data || limits(ops, LIMIT_AREAS))
}

/// Whether these outcomes of the last step of `ops` mean the same although they differ.
pub(super) fn alike(ops: &[Op], linux: Outcome, ours: Outcome) -> bool {
    let (Outcome::Done(linux), Outcome::Done(ours)) = (linux, ours) else { return false };
    if ops.last().is_none_or(|op| op.call != Call::Shmctl) {
        return false;
    }
    let ((theirs, rest), (mine, other)) = (segment_areas(linux), segment_areas(ours));
    rest == other && 0 < mine && mine < theirs && ops.iter().any(cuts_areas)
}

/// Whether what was promised may be so no more after this step.
fn ends_a_promise(op: &Op) -> bool {
    const WRITE: u64 = 2;
    op.call == Call::Mprotect && op.arguments[2] & WRITE == 0
}

/// Whether a step may cut an area in two, of which both stay.
fn cuts_areas(op: &Op) -> bool {
    matches!(
        op.call,
        Call::Mmap
            | Call::Munmap
            | Call::Mprotect
            | Call::Mremap
            | Call::Madvise
            | Call::ProcessMadvise
            | Call::Mlock
            | Call::Mlock2
            | Call::Munlock
            | Call::RemapFilePages
            | Call::Shmat
    )
}

/// Whether what is in memory means nothing in this program: it asked for pages to go.
pub(super) fn presence_is_open(ops: &[Op]) -> bool {
    ops.iter().any(|op| match op.call {
        Call::Madvise => op.arguments[2] as i32 == PAGEOUT,
        Call::ProcessMadvise => op.arguments[4] as i32 == PAGEOUT,
        _ => false,
    })
}

/// Whether it is left open which pages of the memory with a name are in memory.
pub(super) fn named_presence_is_open(ops: &[Op]) -> bool {
    ops.iter().any(|op| op.call == Call::Fallocate && op.arguments[0] <= KEEP_SIZE)
}

/// Whether two pages have the same area, but for what the table excuses.
pub(super) fn same_area(linux: &PageSeen, ours: &PageSeen) -> bool {
    let kept = Shown::all();
    linux.shown() & kept == ours.shown() & kept && linux.index == ours.index
}
