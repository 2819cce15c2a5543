//! mlock(2) and munlock(2): pages that are brought in and counted.

use rumpvm::{CallError, Limits, LockAllFlags, LockFlags, MapFlags, RemapFlags, SyncFlags, Vm};
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
    even_nothing_is_not_locked_without_a_limit,
    memory_can_be_locked_as_it_comes_in,
    everything_is_locked_now_or_from_now_on,
    locking_everything_has_the_error_numbers_of_linux,
    what_is_mapped_under_a_lock_on_the_future_obeys_the_limit,
    a_child_and_a_moved_mapping_inherit_no_lock_on_the_future,
    what_a_locked_mapping_leaves_behind_is_not_locked,
    the_range_is_widened_to_whole_pages,
    who_has_locked_more_than_the_limit_may_map_what_is_not_locked,
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

fn even_nothing_is_not_locked_without_a_limit<P: Platform>(vm: &Vm<P>) {
    let program = limited(vm, 0);
    assert_eq!(program.mlock(vm, BASE, 0), Err(CallError::NotPermitted));
    assert_eq!(program.munlock(vm, BASE, 0), Ok(()));
    let unknown = LockFlags::from_bits_retain(2);
    assert_eq!(program.mlock2(vm, BASE, 0, unknown), Err(CallError::Invalid));
}

fn memory_can_be_locked_as_it_comes_in<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    assert_eq!(program.mlock2(vm, BASE, 4 * PAGE, LockFlags::ONFAULT), Ok(()));
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (4 * PAGE, 0));
    program.set(BASE, 1);
    assert_eq!(program.madvise(vm, BASE, PAGE, 4), Err(CallError::Invalid));
    assert_eq!(program.mlock(vm, BASE, 2 * PAGE), Ok(()));
    assert_eq!(program.resident_pages(vm), 2);
    assert_eq!(program.pages(), [(0, 2), (2, 4)]);
    assert_eq!(program.munlock(vm, BASE, 4 * PAGE), Ok(()));
    assert_eq!((program.locked_bytes(), program.pages()), (0, alloc::vec![(0, 4)]));
}

fn everything_is_locked_now_or_from_now_on<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let (now, future) = (LockAllFlags::CURRENT, LockAllFlags::FUTURE);
    program.map_at(BASE, 2);
    program.map_at(BASE + 4 * PAGE, 2);
    program.protect(BASE, 1, Prot::empty());
    assert_eq!(program.mlockall(vm, now), Ok(()));
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (4 * PAGE, 3));
    program.map_at(BASE + 8 * PAGE, 1);
    assert_eq!(program.locked_bytes(), 4 * PAGE);
    assert_eq!(program.mlockall(vm, future), Ok(()));
    program.map_at(BASE + 9 * PAGE, 2);
    program.set_brk_base(BASE + 64 * PAGE);
    assert_eq!(program.brk(vm, BASE + 65 * PAGE + 1), BASE + 65 * PAGE + 1);
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (8 * PAGE, 7));
    assert_eq!(program.mlockall(vm, future | LockAllFlags::ONFAULT), Ok(()));
    let flags = ANON | MapFlags::FIXED | MapFlags::POPULATE;
    program.try_map(BASE + 16 * PAGE, 2, flags).unwrap();
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (10 * PAGE, 7));
    assert_eq!(program.munlockall(vm), Ok(()));
    program.map_at(BASE + 20 * PAGE, 2);
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (0, 7));
}

fn locking_everything_has_the_error_numbers_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = limited(vm, 4);
    let lock = |bits| {
        let locked = program.mlockall(vm, LockAllFlags::from_bits_retain(bits));
        locked.map_err(CallError::errno)
    };
    for bits in [0, 4, 8, 9] {
        assert_eq!(lock(bits), Err(22));
    }
    assert_eq!((lock(1), lock(3), lock(2)), (Err(12), Err(12), Ok(())));
    assert_eq!(program.locked_bytes(), 0);
    let all = program.mapped_bytes();
    program.set_limits(Limits { locked: all, ..Limits::default() });
    assert_eq!((lock(1), program.locked_bytes()), (Ok(()), all));
    program.set_limits(Limits { locked: 0, ..Limits::default() });
    assert_eq!((lock(1), lock(2), lock(8)), (Err(1), Err(1), Err(22)));
    assert_eq!(program.munlockall(vm), Ok(()));
}

fn what_is_mapped_under_a_lock_on_the_future_obeys_the_limit<P: Platform>(vm: &Vm<P>) {
    let program = limited(vm, 4);
    program.mlockall(vm, LockAllFlags::FUTURE).unwrap();
    assert_eq!(program.try_map(BASE + 16 * PAGE, 5, ANON), Err(CallError::Again));
    program.map_at(BASE + 16 * PAGE, 3);
    let base = BASE + 64 * PAGE;
    program.set_brk_base(base);
    assert_eq!(program.brk(vm, base + 2 * PAGE), base);
    assert_eq!(program.brk(vm, base + PAGE), base + PAGE);
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (4 * PAGE, 4));
}

fn a_child_and_a_moved_mapping_inherit_no_lock_on_the_future<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.mlockall(vm, LockAllFlags::FUTURE).unwrap();
    let (old, new) = (2 * PAGE, 4 * PAGE);
    let moved = program.mremap(vm, BASE, old, new, RemapFlags::MAYMOVE, BASE);
    assert_eq!((moved, program.locked_bytes()), (Ok(BASE), 0));
    let child = program.fork();
    child.map_at(BASE + 8 * PAGE, 1);
    assert_eq!((child.locked_bytes(), child.resident_pages(vm)), (0, 0));
}

fn what_a_locked_mapping_leaves_behind_is_not_locked<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 8);
    program.mlock(vm, BASE, 8 * PAGE).unwrap();
    let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED | RemapFlags::DONTUNMAP;
    let away = BASE + 100 * PAGE;
    assert_eq!(program.mremap(vm, BASE + 3 * PAGE, PAGE, PAGE, flags, away), Ok(away));
    assert_eq!((program.locked_bytes(), program.pages()), (PAGE, alloc::vec![(0, 8), (100, 101)]));
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

fn who_has_locked_more_than_the_limit_may_map_what_is_not_locked<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    program.mlock(vm, BASE, 4 * PAGE).unwrap();
    program.set_limits(Limits { locked: 2 * PAGE, ..Limits::default() });
    program.map_at(BASE + 4 * PAGE, 1);
    assert_eq!((program.locked_bytes(), program.mapped_bytes()), (4 * PAGE, 5 * PAGE));
}
