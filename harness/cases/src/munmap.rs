//! munmap(2): what goes, and what stays.

use rumpvm::{CallError, MapFlags, Vm};
use rumpvm_arch::{Format, VirtAddr, span};
use rumpvm_platform::Platform;

use crate::program::{BASE, unmapped};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    malformed_requests_get_the_error_numbers_of_linux,
    a_hole_in_the_middle_leaves_both_sides,
    a_range_over_several_areas_and_holes_is_emptied,
    unmapping_nothing_is_no_error,
    the_frames_of_what_was_unmapped_are_free_again,
    a_range_over_several_leaf_tables_is_emptied_and_the_tables_freed,
    the_rest_of_a_file_mapping_keeps_its_offsets,
    everything_can_be_unmapped_at_once,
    unmapping_very_many_pages_that_were_stored_to_loses_no_store,
}

fn malformed_requests_get_the_error_numbers_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    let end = P::Format::USER_END;
    for (at, length) in [
        (BASE, 0),
        (BASE + 1, PAGE),
        (end, PAGE),
        (end + PAGE, PAGE),
        (end - PAGE, 2 * PAGE),
        (BASE, u64::MAX),
    ] {
        assert_eq!(program.munmap(vm, at, length), Err(CallError::Invalid), "{at} {length:#x}");
    }
    assert_eq!(program.pages(), [(0, 1)]);
    assert_eq!(program.munmap(vm, BASE, 1), Ok(()));
    assert_eq!(program.pages(), []);
}

fn a_hole_in_the_middle_leaves_both_sides<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 9);
    program.number(BASE, 9);
    program.unmap(BASE + 3 * PAGE, 3);
    assert_eq!(program.pages(), [(0, 3), (6, 9)]);
    assert_eq!(program.numbers(BASE, 3), [1, 2, 3]);
    assert_eq!(program.numbers(BASE + 6 * PAGE, 3), [7, 8, 9]);
    for page in 3..6 {
        let at = BASE + page * PAGE;
        assert_eq!(program.load(at), unmapped(at));
    }
    assert_eq!(program.mapped_bytes(), 6 * PAGE);
}

fn a_range_over_several_areas_and_holes_is_emptied<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 9)).unwrap();
    for page in (0..60).step_by(6) {
        program.map_at(BASE + page * PAGE, 2);
        program.map_object(BASE + (page + 2) * PAGE, 2, MapFlags::SHARED, &object, page % 5);
    }
    program.unmap(BASE + PAGE, 56);
    assert_eq!(program.pages(), [(0, 1), (57, 58)]);
    assert_eq!(program.get(BASE + 57 * PAGE), 6);
    assert_eq!(object.users(), 2);
    vm.close(&object).unwrap();
}

fn unmapping_nothing_is_no_error<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.unmap(BASE, 100);
    program.map_at(BASE, 1);
    program.unmap(BASE + PAGE, 100);
    assert_eq!(program.pages(), [(0, 1)]);
}

fn the_frames_of_what_was_unmapped_are_free_again<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let frames = vm.statistics().frames_total;
    // Ten times a fifth of memory is more than there is.
    for _ in 0..10 {
        let pages = frames / 5;
        program.map_at(BASE, pages);
        (0..pages).for_each(|page| program.set(BASE + page * PAGE, 1));
        program.unmap(BASE, pages);
    }
    assert_eq!(program.resident_pages(vm), 0);
}

fn a_range_over_several_leaf_tables_is_emptied_and_the_tables_freed<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let before = program.table_pages(vm);
    program.map_at(BASE, 3000);
    for page in [0, 511, 512, 1023, 1024, 2999] {
        program.set(BASE + page * PAGE, 1);
    }
    assert!(program.table_pages(vm) > before);
    program.unmap(BASE, 3000);
    assert_eq!((program.table_pages(vm), program.resident_pages(vm)), (before, 0));
    assert_eq!(vm.check(), Ok(()));
}

fn the_rest_of_a_file_mapping_keeps_its_offsets<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 9)).unwrap();
    program.map_object(BASE, 8, MapFlags::SHARED, &object, 1);
    program.unmap(BASE + 2 * PAGE, 3);
    program.unmap(BASE, 1);
    assert_eq!(program.get(BASE + PAGE), 3);
    assert_eq!(program.numbers(BASE + 5 * PAGE, 3), [7, 8, 9]);
    vm.close(&object).unwrap();
}

fn everything_can_be_unmapped_at_once<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    for page in 0..40 {
        program.map_at(BASE + page * 3 * PAGE, 2);
        program.set(BASE + page * 3 * PAGE, 1);
    }
    let top = program.map(5);
    program.set(top, 1);
    assert_eq!(program.munmap(vm, VirtAddr(0), P::Format::USER_END.0), Ok(()));
    assert_eq!((program.area_count(), program.mapped_bytes()), (0, 0));
    assert_eq!((program.resident_pages(vm), program.table_pages(vm)), (0, 1));
}

fn unmapping_very_many_pages_that_were_stored_to_loses_no_store<P: Platform>(vm: &Vm<P>) {
    const PAGES: u64 = 200;
    let program = Program::new(vm);
    let object = vm.shared_memory(PAGES * PAGE).unwrap();
    // On both sides of a leaf table's edge.
    let at = BASE + span::<P::Format>(2) - 120 * PAGE;
    program.map_object(at, PAGES, MapFlags::SHARED, &object, 0);
    (0..PAGES).for_each(|page| program.set(at + page * PAGE + 1, 7));
    program.unmap(at, PAGES);
    assert_eq!((program.resident_pages(vm), program.table_pages(vm)), (0, 1));
    assert_eq!(vm.check(), Ok(()));
    for page in 0..PAGES {
        let mut bytes = [0; 3];
        assert_eq!(vm.read_object(&object, page * PAGE, &mut bytes), Ok(3));
        assert_eq!(bytes, [0, 7, 0], "page {page}");
    }
    vm.close(&object).unwrap();
}
