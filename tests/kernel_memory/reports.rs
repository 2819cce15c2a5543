//! What is told of memory that is misused: each report is provoked, and names both places.
//!
//! Records are kept where debug assertions are on, as they are in tests.
#![cfg(debug_assertions)]

use std::alloc::Layout;
use std::ptr::NonNull;

use rumpvm::kmem::{Arena, ArenaSpec, Fit, KernelHeap, Span};
use rumpvm::phys::Phys;
use rumpvm::zone::{Spec, Zone};

use crate::machine::{Home, story_of};

fn zone(phys: &Phys<Home>) -> Zone<Home> {
    Zone::try_new(phys, Spec::new("victims", 40, 8)).unwrap()
}

/// Writes a byte of an item, or beside it, as kernels do by mistake.
fn poke(item: NonNull<u8>, byte: usize) {
    // SAFETY: the byte is in the arena of the machine, which the test has to itself and uses no more.
    unsafe { item.add(byte).write(0x42) };
}

/// Whether `story` has all of it, in that order.
fn tells(story: &str, parts: &[&str]) {
    let mut rest = story;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part:?} in {story:?}"));
        rest = &rest[at + part.len()..];
    }
}

/// A line of this file, as places have it.
fn here(line: u32) -> String {
    format!("reports.rs:{line}:")
}

#[test]
fn what_is_freed_twice_is_told_with_all_three_places() {
    let line = line!();
    let story = story_of(|phys| {
        let zone = zone(phys);
        let item = zone.alloc(phys).unwrap();
        // SAFETY: it is ours; the second time it is not, which is what is to be noticed.
        unsafe {
            zone.free(phys, item);
            zone.free(phys, item);
        }
    });
    let places = [here(line + 3), here(line + 6), here(line + 7)];
    let [allocated, freed, again] = places.each_ref().map(String::as_str);
    tells(
        &story,
        &[
            "zone victims",
            "freed twice: allocated at",
            allocated,
            "freed at",
            freed,
            "again at",
            again,
        ],
    );
}

#[test]
fn what_is_written_beyond_its_end_is_told_when_it_is_freed() {
    let line = line!();
    let story = story_of(|phys| {
        let zone = zone(phys);
        let item = zone.alloc(phys).unwrap();
        poke(item, 41);
        // SAFETY: it is ours.
        unsafe { zone.free(phys, item) };
    });
    let (allocated, freed) = (here(line + 3), here(line + 6));
    tells(&story, &["byte 41 was written, of 40: allocated at", &allocated, "freed at", &freed]);
}

#[test]
fn what_is_written_after_it_was_freed_is_told_when_it_is_handed_out_again() {
    let line = line!();
    let story = story_of(|phys| {
        let zone = zone(phys);
        let item = zone.alloc(phys).unwrap();
        // SAFETY: it is ours.
        unsafe { zone.free(phys, item) };
        poke(item, 17);
        let _ = zone.alloc(phys);
    });
    let places = [here(line + 3), here(line + 5), here(line + 7)];
    let [allocated, freed, seen] = places.each_ref().map(String::as_str);
    tells(
        &story,
        &[
            "byte 17 was written after it was freed: allocated at",
            allocated,
            "freed at",
            freed,
            "seen at",
            seen,
        ],
    );
}

#[test]
fn an_entry_that_is_not_free_is_not_handed_out() {
    // What is wrong here is the zone's own list: an item is put in it that is in use. The record of the item says so.
    let story = story_of(|phys| {
        let zone = zone(phys);
        let item = zone.alloc(phys).unwrap();
        // SAFETY: it is ours. Then its state is put back to what it was, as a stray store may do.
        unsafe {
            let state = item.add(56).cast::<u64>();
            let in_use = state.read();
            zone.free(phys, item);
            state.write(in_use);
        }
        let _ = zone.alloc(phys);
    });
    tells(
        &story,
        &["entry not free", "in use, allocated at", "reports.rs:", "freed at", "reports.rs:"],
    );
}

#[test]
fn a_record_that_was_overwritten_says_so_and_is_not_believed() {
    let story = story_of(|phys| {
        let zone = zone(phys);
        let item = zone.alloc(phys).unwrap();
        (40..104).for_each(|byte| poke(item, byte));
        // SAFETY: it is ours.
        unsafe { zone.free(phys, item) };
    });
    tells(&story, &["its record was overwritten", "reports.rs:"]);
}

#[test]
fn what_is_no_item_of_the_zone_is_not_taken() {
    let story = story_of(|phys| {
        let (zone, other) = (zone(phys), zone(phys));
        let item = other.alloc(phys).unwrap();
        // SAFETY: it is ours, and of the wrong zone, which is what is to be noticed.
        unsafe { zone.free(phys, item) };
    });
    tells(&story, &["zone victims", "is freed at", "reports.rs:", "none of its items"]);
    let story = story_of(|phys| {
        let zone = zone(phys);
        let item = zone.alloc(phys).unwrap();
        // SAFETY: it is inside of ours, which is what is to be noticed.
        unsafe { zone.free(phys, item.add(8)) };
    });
    tells(&story, &["none of its items"]);
}

#[test]
fn a_block_of_the_heap_knows_its_very_size() {
    let story = story_of(|phys| {
        let heap = KernelHeap::try_new(phys).unwrap();
        let layout = Layout::from_size_align(13, 1).unwrap();
        let block = heap.alloc(phys, layout).unwrap();
        poke(block, 13);
        // SAFETY: it is ours.
        unsafe { heap.free(phys, block, layout) };
    });
    tells(&story, &["zone heap-16", "byte 13 was written, of 13"]);
    let story = story_of(|phys| {
        let heap = KernelHeap::try_new(phys).unwrap();
        let block = heap.alloc(phys, Layout::from_size_align(13, 1).unwrap()).unwrap();
        // SAFETY: it is ours; the layout is wrong, which is what is to be noticed.
        unsafe { heap.free(phys, block, Layout::from_size_align(14, 1).unwrap()) };
    });
    tells(&story, &["freed with another size, not 13", "reports.rs:", "reports.rs:"]);
}

#[test]
fn pages_that_are_freed_twice_or_with_another_size_are_told_with_their_places() {
    let line = line!();
    let story = story_of(|phys| {
        let heap = KernelHeap::try_new(phys).unwrap();
        let layout = Layout::from_size_align(9000, 8).unwrap();
        let block = heap.alloc(phys, layout).unwrap();
        // SAFETY: it is ours; the second time it is not, which is what is to be noticed.
        unsafe {
            heap.free(phys, block, layout);
            heap.free(phys, block, layout);
        }
    });
    let places = [here(line + 4), here(line + 7), here(line + 8)];
    let [allocated, freed, again] = places.each_ref().map(String::as_str);
    tells(
        &story,
        &["arena heap-pages", "freed twice: allocated at", allocated, freed, "again at", again],
    );

    let story = story_of(|phys| {
        let spec =
            ArenaSpec { name: "numbers", quantum: 1, fit: Fit::Instant, cached: 0, spare: 0 };
        let arena = Arena::try_new(phys, spec, None).unwrap();
        arena.add(phys, Span { start: 100, size: 100 }).unwrap();
        let at = arena.alloc(phys, 10).unwrap();
        arena.free(phys, at, 20);
    });
    tells(&story, &["arena numbers", "with size 0x14, not 0xa: allocated at", "reports.rs:"]);
    let story = story_of(|phys| {
        let spec =
            ArenaSpec { name: "numbers", quantum: 1, fit: Fit::Instant, cached: 0, spare: 0 };
        Arena::try_new(phys, spec, None).unwrap().free(phys, 77, 1);
    });
    tells(&story, &["arena numbers", "freed at", "reports.rs:", "nothing is allocated there"]);
}
