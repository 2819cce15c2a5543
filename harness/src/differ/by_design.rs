//! Differences by design: the one table, each row with its reason, as narrow as it can be.
//!
//! A row says what is not compared, or not tried, and the code beside it is all that knows of it.

use super::answer::{Outcome, PageSeen, Shown};
use super::op::{Call, Op};

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
        what: "superpages",
        reason: "they are off on the host's side (PR_SET_THP_DISABLE): when they are made is policy",
    },
];

/// Whether the table excuses these outcomes of a step.
pub(super) fn excuses(op: &Op, linux: Outcome, ours: Outcome) -> bool {
    // Where a mapping went whose place was not ours to say.
    op.call == Call::Mmap && linux == ours
}

/// Whether two pages have the same area, but for what the table excuses.
pub(super) fn same_area(linux: &PageSeen, ours: &PageSeen) -> bool {
    let kept = Shown::all();
    linux.shown() & kept == ours.shown() & kept && linux.index == ours.index
}
