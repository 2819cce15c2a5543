//! The rows: what is measured, what stands beside it, and what it may cost.

use crate::cases::{areas, faults, fork, frames, tables};
use crate::meter::{Measured, Meter};
use crate::peers;

/// One way to do the work of a row.
pub(crate) struct Case {
    /// The row's name for ours, with the peer's name behind it for a peer's.
    pub(crate) name: &'static str,
    pub(crate) run: fn(Meter) -> Measured,
}

/// What a row may cost.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// Cycles of one piece of work, at most.
    Cycles(f64),
    /// Instructions of one piece of work, at most.
    Instructions(f64),
    /// Cycles: so many times fewer than the fastest peer, at least.
    Faster(f64),
    /// Cycles: so many times fewer than this peer.
    FasterThan(&'static str, f64),
    /// Milliseconds of one piece of work, at most.
    Milliseconds(f64),
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) work: &'static str,
    pub(crate) limits: &'static [Limit],
    /// Ours first.
    pub(crate) cases: &'static [Case],
}

impl Row {
    /// Our case.
    pub(crate) fn ours(&self) -> Option<&'static Case> {
        self.cases.first()
    }
}

const fn case(name: &'static str, run: fn(Meter) -> Measured) -> Case {
    Case { name, run }
}

/// The budgets, in the order of the issue that set them.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "map",
        work: "map a range, per page, with reverse map and counts",
        limits: &[Limit::Faster(2.0)],
        cases: &[
            case("map", tables::map),
            case("map/x86_64", peers::x86_64::map),
            case("map/page_table_multiarch", peers::multiarch::map),
        ],
    },
    Row {
        name: "map-known",
        work: "the same, frames that others may be mapping too",
        limits: &[],
        cases: &[case("map-known", tables::map_known)],
    },
    Row {
        name: "map-device",
        work: "the same without reverse map",
        limits: &[Limit::Faster(3.5)],
        cases: &[
            case("map-device", tables::map_device),
            case("map-device/x86_64", peers::x86_64::map),
            case("map-device/page_table_multiarch", peers::multiarch::map),
        ],
    },
    Row {
        name: "protect",
        work: "protect a range, per page",
        limits: &[Limit::Faster(2.5)],
        cases: &[
            case("protect", tables::protect),
            case("protect/x86_64", peers::x86_64::protect),
            case("protect/page_table_multiarch", peers::multiarch::protect),
        ],
    },
    Row {
        name: "unmap",
        work: "unmap a live range, per page, tables freed",
        limits: &[Limit::FasterThan("unmap/page_table_multiarch", 1.0 / 3.0)],
        cases: &[
            case("unmap", tables::unmap),
            case("unmap/x86_64", peers::x86_64::unmap),
            case("unmap/page_table_multiarch", peers::multiarch::unmap),
        ],
    },
    Row {
        name: "frame",
        work: "frame alloc + free, order 0, hot",
        limits: &[Limit::Cycles(20.0), Limit::FasterThan("frame/buddy_system_allocator", 70.0)],
        cases: &[
            case("frame", frames::single),
            case("frame/buddy_system_allocator", peers::buddy_system::single),
            case("frame/frame-alloc", peers::depot::single),
            case("frame/buddy-slab-allocator", peers::buddy_slab::single),
        ],
    },
    Row {
        name: "run",
        work: "order 9 alloc + free",
        limits: &[Limit::Cycles(60.0)],
        cases: &[
            case("run", frames::run),
            case("run/buddy_system_allocator", peers::buddy_system::run),
            case("run/frame-alloc", peers::depot::run),
            case("run/buddy-slab-allocator", peers::buddy_slab::run),
        ],
    },
    Row {
        name: "areas-1k",
        work: "mmap + munmap at 1,000 areas",
        limits: &[Limit::Cycles(600.0)],
        cases: &[
            case("areas-1k", areas::thousand),
            case("areas-1k/memory_set", peers::areas::memory_set_thousand),
            case("areas-1k/rangemap", peers::areas::rangemap_thousand),
            case("areas-1k/BTreeMap floor", peers::areas::btree_thousand),
        ],
    },
    Row {
        name: "areas-100k",
        work: "mmap + munmap at 100,000 areas",
        limits: &[Limit::Cycles(1500.0)],
        cases: &[
            case("areas-100k", areas::hundred_thousand),
            case("areas-100k/memory_set", peers::areas::memory_set_hundred_thousand),
            case("areas-100k/rangemap", peers::areas::rangemap_hundred_thousand),
            case("areas-100k/BTreeMap floor", peers::areas::btree_hundred_thousand),
        ],
    },
    Row {
        name: "lookup",
        work: "area lookup at 100,000",
        limits: &[Limit::Cycles(250.0)],
        cases: &[
            case("lookup", areas::lookup),
            case("lookup/memory_set", peers::areas::memory_set_lookup),
            case("lookup/BTreeMap floor", peers::areas::btree_lookup),
        ],
    },
    Row {
        name: "fault",
        work: "fresh anonymous fault, zeroing aside, no trap",
        limits: &[Limit::Instructions(600.0)],
        cases: &[case("fault", faults::fresh)],
    },
    Row {
        name: "fork",
        work: "fork of 1 GiB resident (counted: 64 MiB), first write included",
        limits: &[Limit::Milliseconds(0.3)],
        cases: &[case("fork", fork::fork)],
    },
];
