//! mprotect(2): rights of what is mapped.

use rumpvm::{CallError, Vm};
use rumpvm_arch::{Format, Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{BASE, no_load, no_store};
use crate::{PAGE, Program, cases};

cases! {
    malformed_requests_get_the_error_numbers_of_linux,
    memory_without_rights_keeps_its_contents,
    rights_that_were_taken_come_back,
    the_middle_of_an_area_can_differ_and_become_the_same_again,
    up_to_the_first_hole_rights_are_changed,
    a_range_over_several_areas_changes_all,
    no_store_passes_after_write_was_taken_from_a_touched_page,
    a_page_becomes_executable_after_it_was_written,
    the_zero_page_of_memory_that_becomes_writable_is_not_stored_to,
}

fn malformed_requests_get_the_error_numbers_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    let end = P::Format::USER_END;
    let table = [
        (BASE + 1, PAGE, 22),
        (BASE, u64::MAX, 12),
        (end, PAGE, 12),
        (end - PAGE, 8 * PAGE, 12),
        (VirtAddr(0), PAGE, 12),
    ];
    for (at, length, errno) in table {
        let answer = program.mprotect(vm, at, length, Prot::READ).map_err(CallError::errno);
        assert_eq!(answer, Err(errno), "mprotect({at}, {length:#x})");
    }
    assert_eq!(program.mprotect(vm, BASE, 0, Prot::READ), Ok(()));
    assert_eq!(program.table()[0].1, Prot::RW);
}

fn memory_without_rights_keeps_its_contents<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 3);
    program.number(BASE, 3);
    program.protect(BASE, 3, Prot::empty());
    assert_eq!(program.load(BASE), no_load(BASE));
    assert_eq!(program.store(BASE, 1), no_store(BASE));
    assert_eq!(program.resident_pages(vm), 0);
    program.protect(BASE, 3, Prot::READ);
    assert_eq!(program.numbers(BASE, 3), [1, 2, 3]);
}

fn rights_that_were_taken_come_back<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    for round in 0..5 {
        program.set(BASE, round);
        program.protect(BASE, 1, Prot::READ);
        assert_eq!(program.store(BASE, 99), no_store(BASE));
        assert_eq!(program.get(BASE), round);
        program.protect(BASE, 1, Prot::RW);
    }
}

fn the_middle_of_an_area_can_differ_and_become_the_same_again<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 9);
    program.number(BASE, 9);
    program.protect(BASE + 3 * PAGE, 3, Prot::READ);
    assert_eq!(program.pages(), [(0, 3), (3, 6), (6, 9)]);
    let shut = BASE + 4 * PAGE;
    assert_eq!(program.store(shut, 1), no_store(shut));
    program.set(BASE + 2 * PAGE, 1);
    program.set(BASE + 6 * PAGE, 1);
    program.protect(BASE + 2 * PAGE, 5, Prot::RW);
    assert_eq!(program.pages(), [(0, 9)]);
    program.set(shut, 55);
    assert_eq!(program.numbers(BASE, 9), [1, 2, 1, 4, 55, 6, 1, 8, 9]);
}

fn up_to_the_first_hole_rights_are_changed<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 3);
    program.map_at(BASE + 5 * PAGE, 3);
    let answer = program.mprotect(vm, BASE + PAGE, 6 * PAGE, Prot::READ);
    assert_eq!(answer, Err(CallError::Unmapped));
    let rights: alloc::vec::Vec<_> = program.table().iter().map(|area| area.1).collect();
    assert_eq!(rights, [Prot::RW, Prot::READ, Prot::RW]);
    assert_eq!(program.store(BASE + PAGE, 1), no_store(BASE + PAGE));
    program.set(BASE + 5 * PAGE, 1);
}

fn a_range_over_several_areas_changes_all<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2000);
    for page in (0..2000).step_by(2) {
        program.protect(BASE + page * PAGE, 1, Prot::ALL);
    }
    assert_eq!(program.area_count(), 2000);
    program.protect(BASE, 2000, Prot::READ);
    assert_eq!(program.pages(), [(0, 2000)]);
    assert_eq!(program.store(BASE + 999 * PAGE, 1), no_store(BASE + 999 * PAGE));
}

fn no_store_passes_after_write_was_taken_from_a_touched_page<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1100);
    for page in 0..1100 {
        program.set(BASE + page * PAGE, 1);
    }
    program.protect(BASE + PAGE, 1098, Prot::READ | Prot::EXEC);
    for page in [1, 511, 512, 1023, 1024, 1098] {
        let at = BASE + page * PAGE;
        assert_eq!(program.store(at, 2), no_store(at));
        assert_eq!((program.get(at), program.fetch(at)), (1, Ok(())));
    }
    program.set(BASE, 2);
    program.set(BASE + 1099 * PAGE, 2);
}

fn a_page_becomes_executable_after_it_was_written<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.number(BASE, 2);
    assert_eq!(program.fetch(BASE).is_ok(), !P::Format::HAS_NX);
    program.protect(BASE, 1, Prot::READ | Prot::EXEC);
    assert_eq!((program.fetch(BASE), program.get(BASE)), (Ok(()), 1));
    assert_eq!(program.fetch(BASE + PAGE).is_ok(), !P::Format::HAS_NX);
    program.protect(BASE, 1, Prot::RW);
    assert_eq!(program.fetch(BASE).is_ok(), !P::Format::HAS_NX);
}

fn the_zero_page_of_memory_that_becomes_writable_is_not_stored_to<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.protect(BASE, 2, Prot::READ);
    assert_eq!(program.numbers(BASE, 2), [0, 0]);
    program.protect(BASE, 2, Prot::RW);
    program.set(BASE, 7);
    assert_eq!(program.numbers(BASE, 2), [7, 0]);
}
