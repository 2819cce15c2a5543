//! mremap(2) to another place: pages move with their contents, and nothing else does.

use rumpvm::{CallError, FaultError, MapFlags, RemapFlags, Vm};
use rumpvm_arch::{Format, Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{BASE, no_store, unmapped};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    several_areas_move_with_the_holes_between_them,
    a_move_of_several_areas_begins_with_one_and_keeps_its_length,
    what_replaces_itself_is_no_longer_there,
    what_is_at_the_new_place_goes_even_if_the_old_range_wraps,
    a_moved_mapping_takes_its_contents_along_without_a_copy,
    a_move_to_a_fixed_place_replaces_what_is_there,
    a_move_to_the_last_page_of_user_memory_is_a_move,
    a_move_may_shrink_on_the_way,
    a_move_that_shrinks_unmaps_a_tail_of_other_areas,
    dontunmap_leaves_the_old_range_mapped_and_empty,
    dontunmap_goes_to_its_hint_if_that_is_free,
    dontunmap_of_a_shared_mapping_shows_it_twice,
    an_old_length_of_zero_maps_shared_memory_once_more,
    locked_memory_that_is_mapped_once_more_is_locked_in_both_places,
    a_moved_file_mapping_keeps_pages_and_copies,
    a_move_after_fork_leaves_the_other_side_alone,
    rights_and_flags_move_along,
    a_part_of_an_area_moves_alone,
    a_move_by_less_than_a_leaf_keeps_every_page,
}

const MAYMOVE: RemapFlags = RemapFlags::MAYMOVE;
const FIXED: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::FIXED);
const KEEP: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::DONTUNMAP);
const AWAY: VirtAddr = VirtAddr(0x6000_0000);
/// Pages from `BASE` to there.
const PAGES_AWAY: u64 = (AWAY.0 - BASE.0) / PAGE;

fn a_moved_mapping_takes_its_contents_along_without_a_copy<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 700);
    for page in (0..700).step_by(3) {
        program.set(BASE + page * PAGE, (page % 250) as u8 + 1);
    }
    let before = vm.statistics();
    let moved = program.mremap(vm, BASE, 700 * PAGE, 800 * PAGE, FIXED, AWAY);
    assert_eq!(moved, Ok(AWAY));
    for page in 0..800 {
        let kept = if page % 3 == 0 && page < 700 { (page % 250) as u8 + 1 } else { 0 };
        assert_eq!(program.get(AWAY + page * PAGE), kept, "page {page}");
    }
    assert_eq!(program.load(BASE), unmapped(BASE));
    let now = vm.statistics();
    assert_eq!(
        (now.faults_copy, now.faults_zero_fill),
        (before.faults_copy, before.faults_zero_fill)
    );
}

fn a_move_to_a_fixed_place_replaces_what_is_there<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 3);
    program.number(BASE, 3);
    program.map_at(AWAY, 6);
    program.number(AWAY, 6);
    let moved = program.mremap(vm, BASE, 3 * PAGE, 3 * PAGE, FIXED, AWAY + 2 * PAGE);
    assert_eq!(moved, Ok(AWAY + 2 * PAGE));
    assert_eq!(program.numbers(AWAY, 6), [1, 2, 1, 2, 3, 6]);
    assert_eq!(program.load(BASE), unmapped(BASE));
}

fn a_move_to_the_last_page_of_user_memory_is_a_move<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    program.set(BASE, 7);
    let last = P::Format::USER_END - PAGE;
    assert_eq!(program.mremap(vm, BASE, PAGE, PAGE, FIXED, last), Ok(last));
    assert_eq!(program.get(last), 7);
}

fn a_move_may_shrink_on_the_way<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 5);
    program.number(BASE, 5);
    assert_eq!(program.mremap(vm, BASE, 4 * PAGE, 2 * PAGE, FIXED, AWAY), Ok(AWAY));
    assert_eq!(program.numbers(AWAY, 2), [1, 2]);
    assert_eq!(program.pages().first(), Some(&(4, 5)));
    assert_eq!(program.load(AWAY + 2 * PAGE), unmapped(AWAY + 2 * PAGE));
    assert_eq!(program.get(BASE + 4 * PAGE), 5);
}

fn a_move_that_shrinks_unmaps_a_tail_of_other_areas<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 6);
    program.number(BASE, 6);
    program.protect(BASE + 2 * PAGE, 1, Prot::READ);
    program.unmap(BASE + 3 * PAGE, 1);
    assert_eq!(program.mremap(vm, BASE, 5 * PAGE, 2 * PAGE, FIXED, AWAY), Ok(AWAY));
    assert_eq!(program.numbers(AWAY, 2), [1, 2]);
    assert_eq!(program.pages(), [(5, 6), (PAGES_AWAY, PAGES_AWAY + 2)]);
    assert_eq!(program.get(BASE + 5 * PAGE), 6);
}

fn dontunmap_leaves_the_old_range_mapped_and_empty<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 3);
    program.number(BASE, 3);
    let moved = program.mremap(vm, BASE, 3 * PAGE, 3 * PAGE, KEEP, VirtAddr(0)).unwrap();
    assert_ne!(moved, BASE);
    assert_eq!(program.numbers(BASE, 3), [0, 0, 0]);
    program.set(BASE, 9);
    assert_eq!(program.numbers(moved, 3), [1, 2, 3]);
    let both = KEEP | RemapFlags::FIXED;
    assert_eq!(program.mremap(vm, moved, PAGE, PAGE, both, AWAY), Ok(AWAY));
    assert_eq!((program.get(AWAY), program.get(moved)), (1, 0));
}

fn dontunmap_goes_to_its_hint_if_that_is_free<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.number(BASE, 2);
    assert_eq!(program.mremap(vm, BASE, 2 * PAGE, 2 * PAGE, KEEP, AWAY), Ok(AWAY));
    assert_eq!(program.numbers(AWAY, 2), [1, 2]);
    let elsewhere = program.mremap(vm, BASE, 2 * PAGE, 2 * PAGE, KEEP, AWAY + PAGE).unwrap();
    assert!(elsewhere != AWAY + PAGE);
    assert_eq!(program.numbers(AWAY, 2), [1, 2]);
}

fn dontunmap_of_a_shared_mapping_shows_it_twice<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(2 * PAGE).unwrap();
    program.map_object(BASE, 2, MapFlags::SHARED, &memory, 0);
    program.number(BASE, 2);
    let moved = program.mremap(vm, BASE, 2 * PAGE, 2 * PAGE, KEEP, VirtAddr(0)).unwrap();
    program.set(moved, 5);
    assert_eq!((program.numbers(BASE, 2), memory.users()), (alloc::vec![5, 2], 3));
    vm.close(&memory).unwrap();
}

fn an_old_length_of_zero_maps_shared_memory_once_more<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(4 * PAGE).unwrap();
    program.map_object(BASE, 4, MapFlags::SHARED, &memory, 0);
    program.number(BASE, 4);
    let again = program.mremap(vm, BASE + PAGE, 0, 2 * PAGE, MAYMOVE, VirtAddr(0)).unwrap();
    assert_eq!(program.numbers(again, 2), [2, 3]);
    program.set(again, 22);
    assert_eq!(program.numbers(BASE, 4), [1, 22, 3, 4]);
    vm.close(&memory).unwrap();
}

fn locked_memory_that_is_mapped_once_more_is_locked_in_both_places<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(4 * PAGE).unwrap();
    program.map_object(BASE, 4, MapFlags::SHARED, &memory, 0);
    assert_eq!(program.mlock(vm, BASE, 4 * PAGE), Ok(()));
    program.mremap(vm, BASE + PAGE, 0, 2 * PAGE, MAYMOVE, VirtAddr(0)).unwrap();
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (6 * PAGE, 6));
    program.unmap(BASE, 4);
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (2 * PAGE, 2));
    vm.close(&memory).unwrap();
}

fn a_moved_file_mapping_keeps_pages_and_copies<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 9)).unwrap();
    program.map_object(BASE, 4, MapFlags::PRIVATE, &object, 1);
    program.set(BASE + PAGE, 50);
    program.get(BASE + 2 * PAGE);
    assert_eq!(program.mremap(vm, BASE + PAGE, 3 * PAGE, 3 * PAGE, FIXED, AWAY), Ok(AWAY));
    assert_eq!((program.numbers(AWAY, 3), program.get(BASE)), (alloc::vec![50, 4, 5], 2));
    vm.close(&object).unwrap();
}

fn a_move_after_fork_leaves_the_other_side_alone<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 8);
    parent.number(BASE, 8);
    let child = parent.fork();
    child.mremap(vm, BASE + 2 * PAGE, 4 * PAGE, 4 * PAGE, FIXED, AWAY).unwrap();
    assert_eq!(parent.numbers(BASE, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(parent.load(AWAY), unmapped(AWAY));
    child.set(AWAY, 33);
    parent.set(BASE + 3 * PAGE, 44);
    assert_eq!(child.numbers(AWAY, 4), [33, 4, 5, 6]);
    assert_eq!(parent.numbers(BASE, 4), [1, 2, 3, 44]);
    assert_eq!(vm.check(), Ok(()));
}

fn rights_and_flags_move_along<P: Platform>(vm: &Vm<P>) {
    const RANDOM: i32 = 1;
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.number(BASE, 2);
    program.protect(BASE, 2, Prot::READ);
    program.madvise(vm, BASE, 2 * PAGE, RANDOM).unwrap();
    let (_, prot, flags) = program.table()[0];
    program.mremap(vm, BASE, 2 * PAGE, 2 * PAGE, FIXED, AWAY).unwrap();
    assert_eq!((program.table()[0].1, program.table()[0].2), (prot, flags));
    assert_eq!(program.store(AWAY, 1), no_store(AWAY));
    assert_eq!(program.numbers(AWAY, 2), [1, 2]);
}

fn a_part_of_an_area_moves_alone<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 9);
    program.number(BASE, 9);
    program.mremap(vm, BASE + 3 * PAGE, 3 * PAGE, 3 * PAGE, FIXED, AWAY).unwrap();
    assert_eq!(program.pages()[..2], [(0, 3), (6, 9)]);
    assert_eq!(program.numbers(AWAY, 3), [4, 5, 6]);
    assert_eq!(program.numbers(BASE + 6 * PAGE, 3), [7, 8, 9]);
}

fn a_move_by_less_than_a_leaf_keeps_every_page<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 200);
    program.number(BASE, 200);
    let new = BASE + 200 * PAGE;
    assert_eq!(program.mremap(vm, BASE, 200 * PAGE, 200 * PAGE, FIXED, new), Ok(new));
    assert!((0..200).all(|page| program.get(new + page * PAGE) == page as u8 + 1));
    assert_eq!(program.mremap(vm, new, 200 * PAGE, 200 * PAGE, FIXED, BASE), Ok(BASE));
    assert!((0..200).all(|page| program.get(BASE + page * PAGE) == page as u8 + 1));
}

fn several_areas_move_with_the_holes_between_them<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(2 * PAGE).unwrap();
    program.map_at(BASE, 2);
    program.map_object(BASE + 2 * PAGE, 1, MapFlags::SHARED, &memory, 0);
    program.map_at(BASE + 5 * PAGE, 2);
    program.number(BASE, 3);
    program.number(BASE + 5 * PAGE, 2);
    program.protect(BASE + PAGE, 1, Prot::READ);
    let away = BASE + 100 * PAGE;
    program.map_at(away, 8);
    (0..8).for_each(|page| program.set(away + page * PAGE, 77));
    let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    let moved = program.mremap(vm, BASE, 6 * PAGE, 6 * PAGE, flags, away);
    assert_eq!(moved, Ok(away));
    assert_eq!(program.numbers(away, 8), [1, 2, 3, 77, 77, 1, 77, 77]);
    assert_eq!(program.get(BASE + 6 * PAGE), 2);
    assert_eq!(program.load(BASE), Err(FaultError::Unmapped { at: BASE }));
    vm.close(&memory).unwrap();
}

fn a_move_of_several_areas_begins_with_one_and_keeps_its_length<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE + PAGE, 2);
    program.protect(BASE + 2 * PAGE, 1, Prot::READ);
    let fixed = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    let remap = |page, old, new, flags| {
        program.mremap(vm, BASE + page * PAGE, old * PAGE, new * PAGE, flags, BASE + 100 * PAGE)
    };
    let bad = Err(CallError::BadAddress);
    assert_eq!(remap(0, 3, 3, fixed), bad);
    assert_eq!(remap(1, 2, 3, fixed), bad);
    assert_eq!(remap(1, 2, 2, RemapFlags::MAYMOVE | RemapFlags::DONTUNMAP), bad);
    assert_eq!(remap(1, 9, 9, fixed), Ok(BASE + 100 * PAGE));
    assert_eq!(program.pages(), [(100, 101), (101, 102)]);
}

fn what_replaces_itself_is_no_longer_there<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(4 * PAGE).unwrap();
    program.map_object(BASE, 4, MapFlags::SHARED, &memory, 0);
    let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    assert_eq!(program.mremap(vm, BASE, 0, 2 * PAGE, flags, BASE), Err(CallError::BadAddress));
    assert_eq!(program.pages(), [(2, 4)]);
    vm.close(&memory).unwrap();
}

fn what_is_at_the_new_place_goes_even_if_the_old_range_wraps<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    program.map_at(AWAY, 2);
    let moved = program.mremap(vm, BASE, 0_u64.wrapping_sub(BASE.0), PAGE, FIXED, AWAY);
    assert_eq!(moved, Err(CallError::Invalid));
    assert_eq!(program.pages(), [(0, 1), (PAGES_AWAY + 1, PAGES_AWAY + 2)]);
}
