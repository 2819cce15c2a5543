//! Differences by design: the one table, each row with its reason, as narrow as it can be.
//!
//! A row says what is not compared, or not tried, and the code beside it is all that knows of it.

use super::answer::{Outcome, PageSeen, Shown};
use super::op::{Call, LIMIT_MAPPED, Op, PAGE};

const ENOMEM: i32 = 12;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
/// `MADV_PAGEOUT`.
const PAGEOUT: i32 = 21;

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
        what: "mremap and remap_file_pages of pages whose areas only Linux holds apart: EFAULT and EINVAL there",
        reason: "merging is policy, and this is where it shows; the rest of such a program is not compared",
    },
    ByDesign {
        what: "PROT_GROWSDOWN where stacks touch",
        reason: "a stack that has grown down to another one is merged with it here and not on Linux, and PROT_GROWSDOWN shows where it begins: programs with it have one stack, and no holes come into it",
    },
    ByDesign {
        what: "what is in memory in programs with MADV_PAGEOUT",
        reason: "which pages go, and whether there is anywhere to go, is policy",
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
        what: "F_SEAL_WRITE and F_SEAL_EXEC in programs of several processes",
        reason: "Linux takes an exiting process's mappings away some time after its last step, and says EBUSY until then",
    },
    ByDesign {
        what: "RLIMIT_AS and RLIMIT_DATA in one program",
        reason: "Linux lets mprotect pass the second, area by area, where the first leaves no room for as much again; we let nothing pass",
    },
    ByDesign {
        what: "how far mprotect got when it was refused for want of data (RLIMIT_DATA)",
        reason: "Linux changes the areas before the one that is too much, we none: what follows in such a program is not compared",
    },
    ByDesign {
        what: "superpages",
        reason: "they are off on the host's side (PR_SET_THP_DISABLE): when they are made is policy",
    },
];

/// Whether the table excuses these outcomes of a step. What comes after it is not compared.
///
/// Areas that only Linux holds apart make `mremap` and `remap_file_pages` of both impossible there; we hold none apart that it merges.
pub(super) fn ends(op: &Op, linux: Outcome, ours: Outcome) -> bool {
    let several = op.call == Call::Mremap && op.arguments[1] > PAGE;
    if op.call == Call::RemapFilePages && op.arguments[1] > PAGE {
        return linux == Outcome::Refused(EINVAL) && matches!(ours, Outcome::Done(_));
    }
    several && linux == Outcome::Refused(EFAULT) && ours != Outcome::Refused(EINVAL)
}

/// Whether what comes after this step, the last of `ops`, is not compared although both sides refused it alike.
pub(super) fn leaves_open(ops: &[Op], outcome: Outcome) -> bool {
    let limited = |op: &Op| op.call == Call::Limit && op.arguments[0] != LIMIT_MAPPED;
    let refused = outcome == Outcome::Refused(ENOMEM);
    refused && ops.last().is_some_and(|op| op.call == Call::Mprotect) && ops.iter().any(limited)
}

/// Whether what is in memory means nothing in this program: it asked for pages to go.
pub(super) fn presence_is_open(ops: &[Op]) -> bool {
    ops.iter().any(|op| match op.call {
        Call::Madvise => op.arguments[2] as i32 == PAGEOUT,
        Call::ProcessMadvise => op.arguments[4] as i32 == PAGEOUT,
        _ => false,
    })
}

/// Whether two pages have the same area, but for what the table excuses.
pub(super) fn same_area(linux: &PageSeen, ours: &PageSeen) -> bool {
    let kept = Shown::all();
    linux.shown() & kept == ours.shown() & kept && linux.index == ours.index
}
