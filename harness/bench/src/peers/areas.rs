//! Sets of areas: `memory_set`, `rangemap`, and the standard library's `BTreeMap` as the floor: it checks nothing,
//! cuts nothing, merges nothing, and has no reader beside its writer.

use std::collections::BTreeMap;
use std::hint::black_box;

use memory_addr::VirtAddr;
use memory_set::{MappingBackend, MemoryArea, MemorySet};
use rangemap::RangeMap;

use crate::cases::areas::{HUNDRED_THOUSAND, Places, STRIDE, THOUSAND, TIMES};
use crate::meter::{Measured, Meter};

const PAGE: u64 = 4096;
const BASE: u64 = 0x40_0000_0000;
const RW: u8 = 3;
/// Pairs among a hundred thousand areas for `memory_set`, which looks at all of them each time.
const FEW: u64 = 50;

/// A backend with nothing behind it.
#[derive(Clone)]
struct Nothing;

impl MappingBackend for Nothing {
    type Addr = VirtAddr;
    type Flags = u8;
    type PageTable = ();

    fn map(&self, _: VirtAddr, _: usize, _: u8, (): &mut ()) -> bool {
        true
    }
    fn unmap(&self, _: VirtAddr, _: usize, (): &mut ()) -> bool {
        true
    }
    fn protect(&self, _: VirtAddr, _: usize, _: u8, (): &mut ()) -> bool {
        true
    }
}

fn area(at: u64) -> MemoryArea<Nothing> {
    MemoryArea::new(VirtAddr::from(at as usize), PAGE as usize, RW, Nothing)
}

/// From the highest down: its search for the area below goes through all of those.
fn memory_set(count: u64) -> MemorySet<Nothing> {
    let mut set = MemorySet::new();
    for at in (0..count).rev() {
        set.map(area(BASE + at * STRIDE), &mut (), false).expect("nothing is there");
    }
    set
}

fn hole(places: &mut Places, count: u64) -> u64 {
    BASE + places.next(count) * STRIDE + STRIDE / 2
}

fn repeat(mut meter: Meter, times: u64, mut work: impl FnMut()) -> Measured {
    (0..times.min(500)).for_each(|_| work());
    meter.measure(times, || (0..times).for_each(|_| work()));
    meter.done()
}

fn memory_set_among(count: u64, times: u64, meter: Meter) -> Measured {
    let (mut set, mut places) = (memory_set(count), Places::new());
    repeat(meter, times, || {
        let at = hole(&mut places, count);
        set.map(area(at), &mut (), false).expect("nothing is there");
        set.unmap(VirtAddr::from(at as usize), PAGE as usize, &mut ()).expect("it is there");
    })
}

/// Among a thousand.
pub(crate) fn memory_set_thousand(meter: Meter) -> Measured {
    let times = meter.scale(TIMES.0, TIMES.1);
    memory_set_among(THOUSAND, times, meter)
}

/// Among a hundred thousand.
pub(crate) fn memory_set_hundred_thousand(meter: Meter) -> Measured {
    memory_set_among(HUNDRED_THOUSAND, FEW, meter)
}

/// Finding one of a hundred thousand: its `find` goes through all areas below too.
pub(crate) fn memory_set_lookup(meter: Meter) -> Measured {
    let (set, mut places) = (memory_set(HUNDRED_THOUSAND), Places::new());
    let times = meter.scale(4 * FEW, FEW);
    repeat(meter, times, || {
        let at = BASE + places.next(HUNDRED_THOUSAND) * STRIDE + PAGE / 2;
        black_box(set.find(VirtAddr::from(at as usize)).is_some());
    })
}

fn rangemap_among(count: u64, meter: Meter) -> Measured {
    let mut map = RangeMap::new();
    for at in (0..count).map(|at| BASE + at * STRIDE) {
        map.insert(at..at + PAGE, RW);
    }
    let (times, mut places) = (meter.scale(TIMES.0, TIMES.1), Places::new());
    repeat(meter, times, || {
        let at = hole(&mut places, count);
        map.insert(at..at + PAGE, RW);
        map.remove(at..at + PAGE);
    })
}

/// Among a thousand.
pub(crate) fn rangemap_thousand(meter: Meter) -> Measured {
    rangemap_among(THOUSAND, meter)
}

/// Among a hundred thousand.
pub(crate) fn rangemap_hundred_thousand(meter: Meter) -> Measured {
    rangemap_among(HUNDRED_THOUSAND, meter)
}

fn btree(count: u64) -> BTreeMap<u64, (u64, u8)> {
    (0..count).map(|at| BASE + at * STRIDE).map(|at| (at, (at + PAGE, RW))).collect()
}

fn btree_among(count: u64, meter: Meter) -> Measured {
    let (mut map, mut places) = (btree(count), Places::new());
    let times = meter.scale(TIMES.0, TIMES.1);
    repeat(meter, times, || {
        let at = hole(&mut places, count);
        map.insert(at, (at + PAGE, RW));
        black_box(map.remove(&at));
    })
}

/// Among a thousand.
pub(crate) fn btree_thousand(meter: Meter) -> Measured {
    btree_among(THOUSAND, meter)
}

/// Among a hundred thousand.
pub(crate) fn btree_hundred_thousand(meter: Meter) -> Measured {
    btree_among(HUNDRED_THOUSAND, meter)
}

/// Finding one of a hundred thousand.
pub(crate) fn btree_lookup(meter: Meter) -> Measured {
    let (map, mut places) = (btree(HUNDRED_THOUSAND), Places::new());
    let times = meter.scale(10 * TIMES.0, TIMES.1);
    repeat(meter, times, || {
        let at = BASE + places.next(HUNDRED_THOUSAND) * STRIDE + PAGE / 2;
        black_box(map.range(..=at).next_back().is_some_and(|(_, (end, _))| at < *end));
    })
}
