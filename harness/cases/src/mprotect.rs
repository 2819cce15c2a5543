//! mprotect(2): rights of what is mapped.

use alloc::vec::Vec;

use rumpvm::{CallError, MapFlags, ProtFlags, Vm};
use rumpvm_arch::{Format, Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{ANON, BASE, no_load, no_store};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    malformed_requests_get_the_error_numbers_of_linux,
    unknown_bits_are_refused_but_not_for_nothing,
    a_stack_is_protected_from_its_start,
    locked_memory_that_becomes_writable_is_brought_in,
    there_is_no_protection_key,
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

fn unknown_bits_are_refused_but_not_for_nothing<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    let protect = |at, length, bits| {
        let flags = ProtFlags::from_bits_retain(bits);
        program.mprotect(vm, at, length, flags).map_err(CallError::errno)
    };
    for bits in [0x10, 1 << 31 | 1, 1 << 32 | 1, 1 << 63, 0x0200_0001, 0x0300_0001, 0x0100_0001] {
        assert_eq!(protect(BASE, PAGE, bits), Err(22), "{bits:#x}");
    }
    assert_eq!(protect(BASE, u64::MAX, 0x10), Err(12));
    assert_eq!(protect(BASE, 0, 0x10), Ok(()));
    assert_eq!(protect(BASE, 0, 0x0300_0001), Err(22));
    assert_eq!(protect(BASE, PAGE, 0xb), Ok(()), "SEM means nothing");
    assert_eq!(program.table().len(), 1);
}

fn a_stack_is_protected_from_its_start<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let at = BASE + 512 * PAGE;
    program.try_map(at, 4, ANON | MapFlags::GROWSDOWN | MapFlags::FIXED).unwrap();
    let protect =
        |at, pages, rights| program.mprotect(vm, at, pages * PAGE, ProtFlags::GROWSDOWN | rights);
    let rights = || program.table().iter().map(|(_, prot, _)| *prot).collect::<Vec<_>>();
    assert_eq!(protect(at + 2 * PAGE, 1, ProtFlags::READ), Ok(()));
    assert_eq!(program.pages(), [(512, 515), (515, 516)]);
    assert_eq!(rights(), [Prot::READ, Prot::RW]);
    // A range that begins below it will do as well, one that ends there will not.
    assert_eq!(protect(at - 3 * PAGE, 4, ProtFlags::READ | ProtFlags::WRITE), Ok(()));
    assert_eq!(rights(), [Prot::RW, Prot::READ, Prot::RW]);
    assert_eq!(protect(at - 3 * PAGE, 3, ProtFlags::READ), Err(CallError::Unmapped));
    assert_eq!(protect(at + 2 * PAGE, 8, ProtFlags::READ), Err(CallError::Unmapped));
    assert_eq!(rights(), [Prot::RW, Prot::READ], "up to the end it was done");
    assert_eq!(program.pages(), [(512, 513), (513, 516)]);
}

fn locked_memory_that_becomes_writable_is_brought_in<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 4)).unwrap();
    program.map_object(BASE, 4, MapFlags::PRIVATE, &object, 0);
    program.map_object(BASE + 8 * PAGE, 4, MapFlags::SHARED, &object, 0);
    program.protect(BASE, 4, Prot::READ);
    program.mlock(vm, BASE, 2 * PAGE).unwrap();
    program.protect(BASE, 4, Prot::RW);
    (0..4).for_each(|page| program.set(BASE + (8 + page) * PAGE, 77));
    assert_eq!(program.numbers(BASE, 4), [1, 2, 77, 77]);
    vm.close(&object).unwrap();
}

fn there_is_no_protection_key<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    assert_eq!(program.pkey_alloc(0, 0), Err(CallError::Invalid));
    assert_eq!(program.pkey_free(0), Err(CallError::Invalid));
    let protect = |length, key| program.pkey_mprotect(vm, BASE, length, Prot::READ, key);
    assert_eq!(protect(PAGE, 0), Err(CallError::Invalid));
    assert_eq!(protect(u64::MAX, 0), Err(CallError::Unmapped));
    assert_eq!(protect(0, 99), Ok(()));
    assert_eq!(program.table()[0].1, Prot::RW);
    assert_eq!(protect(PAGE, -1), Ok(()));
    assert_eq!(program.table()[0].1, Prot::READ);
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
