//! mlock(2) and munlock(2): pages that are brought in and counted.

use rumpvm::{CallError, Limits, MapFlags, SyncFlags, Vm};
use rumpvm_arch::Prot;
use rumpvm_platform::Platform;

use crate::program::{ANON, BASE};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    a_length_that_wraps_to_nothing_locks_nothing,
    locking_brings_the_pages_in_and_counts_them_once,
    unlocking_and_unmapping_end_the_count,
    up_to_the_first_hole_memory_is_locked,
    memory_that_cannot_be_brought_in_is_an_error,
    the_limit_counts_only_what_is_not_locked_already,
    without_any_limit_left_locking_is_not_permitted,
    the_range_is_widened_to_whole_pages,
}

fn a_length_that_wraps_to_nothing_locks_nothing<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    assert_eq!(program.mlock(vm, BASE, u64::MAX), Ok(()));
    assert_eq!(program.munlock(vm, BASE, u64::MAX), Ok(()));
    assert_eq!(program.msync(vm, BASE, u64::MAX, SyncFlags::SYNC), Ok(()));
    assert_eq!(program.locked_bytes(), 0);
    let most = u64::MAX - (PAGE - 1);
    assert_eq!(program.mlock(vm, BASE, most), Err(CallError::Invalid));
    assert_eq!(program.msync(vm, BASE, most, SyncFlags::SYNC), Err(CallError::Unmapped));
}

fn limited<P: Platform>(vm: &Vm<P>, pages: u64) -> Program<'_, P> {
    let program = Program::new(vm);
    program.set_limits(Limits { locked: pages * PAGE, ..Limits::default() });
    program.map_at(BASE, 8);
    program
}

fn locking_brings_the_pages_in_and_counts_them_once<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 8);
    assert_eq!(program.mlock(vm, BASE + PAGE, 3 * PAGE), Ok(()));
    assert_eq!(program.mlock(vm, BASE + 2 * PAGE, 3 * PAGE), Ok(()));
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (4 * PAGE, 4));
    assert_eq!(program.pages(), [(0, 1), (1, 5), (5, 8)]);
    assert_eq!(program.mlock(vm, BASE, 0), Ok(()));
}

fn unlocking_and_unmapping_end_the_count<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 8);
    program.mlock(vm, BASE, 8 * PAGE).unwrap();
    assert_eq!(program.munlock(vm, BASE + 2 * PAGE, 2 * PAGE), Ok(()));
    assert_eq!(program.locked_bytes(), 6 * PAGE);
    program.unmap(BASE, 2);
    assert_eq!(program.locked_bytes(), 4 * PAGE);
    assert_eq!(program.munlock(vm, BASE + 2 * PAGE, 6 * PAGE), Ok(()));
    assert_eq!((program.locked_bytes(), program.pages()), (0, alloc::vec![(2, 8)]));
}

fn up_to_the_first_hole_memory_is_locked<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.map_at(BASE + 4 * PAGE, 2);
    assert_eq!(program.mlock(vm, BASE + PAGE, 4 * PAGE), Err(CallError::Unmapped));
    assert_eq!(program.locked_bytes(), PAGE);
    assert_eq!(program.munlock(vm, BASE + PAGE, 4 * PAGE), Err(CallError::Unmapped));
    assert_eq!(program.locked_bytes(), 0);
    assert_eq!(program.munlock(vm, BASE + 2 * PAGE, PAGE), Err(CallError::Unmapped));
}

fn memory_that_cannot_be_brought_in_is_an_error<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    program.protect(BASE, 1, Prot::empty());
    assert_eq!(program.mlock(vm, BASE, PAGE).map_err(CallError::errno), Err(12));
    let file = RamFile::<P>::numbered(1, 1);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE, 2, MapFlags::SHARED, &object, 0);
    assert_eq!(program.mlock(vm, BASE, 2 * PAGE).map_err(CallError::errno), Err(12));
    assert_eq!(program.resident_pages(vm), 1);
    vm.close(&object).unwrap();
}

fn the_limit_counts_only_what_is_not_locked_already<P: Platform>(vm: &Vm<P>) {
    let program = limited(vm, 4);
    assert_eq!(program.mlock(vm, BASE, 5 * PAGE), Err(CallError::NoMemory));
    assert_eq!(program.mlock(vm, BASE, 4 * PAGE), Ok(()));
    assert_eq!(program.mlock(vm, BASE, 4 * PAGE), Ok(()), "they are locked already");
    assert_eq!(program.mlock(vm, BASE + PAGE, 4 * PAGE), Err(CallError::NoMemory));
    assert_eq!(program.locked_bytes(), 4 * PAGE);
    let more = program.try_map(BASE + 100 * PAGE, 1, ANON | MapFlags::LOCKED);
    assert_eq!(more, Err(CallError::Again));
}

fn without_any_limit_left_locking_is_not_permitted<P: Platform>(vm: &Vm<P>) {
    let program = limited(vm, 0);
    assert_eq!(program.mlock(vm, BASE, PAGE), Err(CallError::NotPermitted));
    assert_eq!(program.munlock(vm, BASE, PAGE), Ok(()));
}

fn the_range_is_widened_to_whole_pages<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    assert_eq!(program.mlock(vm, BASE + PAGE - 1, 2), Ok(()));
    assert_eq!(program.locked_bytes(), 2 * PAGE);
    assert_eq!(program.munlock(vm, BASE + 1, 1), Ok(()));
    assert_eq!(program.locked_bytes(), PAGE);
}
