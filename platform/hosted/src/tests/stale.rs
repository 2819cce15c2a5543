//! What the machine finds: frames freed under a translation, tables freed under a walk.

use rumpvm_arch::{Format, PAGE_SIZE, Pae, Prot, Pte, VirtAddr, VirtRange, X86_64};
use rumpvm_platform::{CpuId, Platform};

use super::tables::Tables;
use super::{machine, panic_of};
use crate::Hosted;

const AT: VirtAddr = VirtAddr(0x40_0000);

/// Runs `body` on CPU 1 with a page mapped at `AT` and used once; returns the machine's last words.
fn last_words<F: Format>(body: fn(&Hosted<F>, &mut Tables<F>)) -> String {
    let (hosted, _power) = machine::<F>(2);
    panic_of(|| {
        hosted.clone().run(Some(CpuId(1)), move || {
            let mut tables = Tables::new(&hosted);
            tables.map_new(AT, Prot::RW);
            hosted.tlb_activate(Some(tables.root));
            hosted.load(AT, &mut [0]).unwrap();
            body(&hosted, &mut tables);
        })
    })
}

#[test]
fn an_access_through_a_stale_translation_to_a_freed_frame_stops_the_machine_with_the_story() {
    let story = last_words::<X86_64>(|hosted, tables| {
        let frame = tables.leaf(AT).frame();
        tables.set_leaf(AT, Pte::ABSENT);
        hosted.frame_freed(frame);
        hosted.load(AT + 8, &mut [0]).ok();
    });
    for part in [
        "CPU 1 loads from 0x400008",
        "frame 0x10",
        "freed since",
        "Filled at access 1 of this CPU, now at 2",
        "then never freed, now freed 1 times, last by CPU 1",
        "now says absent",
    ] {
        assert!(story.contains(part), "{part:?} is missing in: {story}");
    }
}

#[test]
fn a_frame_freed_after_the_flush_harms_nobody() {
    let (hosted, _power) = machine::<X86_64>(1);
    hosted.clone().run(None, move || {
        let mut tables = Tables::new(&hosted);
        let frame = tables.map_new(AT, Prot::RW);
        hosted.tlb_activate(Some(tables.root));
        for _ in 0..3 {
            hosted.store(AT, b"x").unwrap();
            tables.set_leaf(AT, Pte::ABSENT);
            hosted.tlb_invalidate(VirtRange::new(AT, AT + PAGE_SIZE));
            hosted.frame_freed(frame);
            assert!(hosted.load(AT, &mut [0]).is_err());
            tables.map(AT, frame, Prot::RW, true);
        }
        hosted.store(AT, b"x").unwrap();
    });
}

#[test]
fn a_walk_through_a_freed_table_stops_the_machine() {
    let story = last_words::<Pae>(|hosted, tables| {
        hosted.frame_freed(tables.table(1, AT));
        hosted.load(AT + PAGE_SIZE, &mut [0]).ok();
    });
    assert!(story.contains("still uses the level-1 page table"), "{story}");
}

#[test]
fn a_walk_through_a_freed_root_stops_the_machine() {
    let story = last_words::<X86_64>(|hosted, tables| {
        hosted.frame_freed(tables.root);
        hosted.load(VirtAddr(1 << 40), &mut [0]).ok();
    });
    assert!(story.contains("still uses the level-4 page table"), "{story}");
}

#[test]
fn an_entry_that_names_no_memory_stops_the_machine() {
    let story = last_words::<X86_64>(|hosted, tables| {
        let nowhere = rumpvm_arch::Frame(0x80_0000);
        tables.map(AT + PAGE_SIZE, nowhere, Prot::RW, true);
        hosted.load(AT + PAGE_SIZE, &mut [0]).ok();
    });
    assert!(story.contains("no such memory"), "{story}");
}

#[test]
fn a_frame_that_was_freed_and_mapped_again_is_found_by_verification() {
    let story = last_words::<X86_64>(|hosted, tables| {
        hosted.frame_freed(tables.leaf(AT).frame());
        hosted.verify_tlbs().unwrap_or_else(|story| panic!("{story}"));
    });
    assert!(story.contains("CPU 1") && story.contains("mapped again"), "{story}");
}
