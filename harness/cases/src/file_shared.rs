//! Shared mappings of files: one file is one object, and what is stored reaches the file in the end.

use rumpvm::{MapFlags, Vm};
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, RamFile, cases};

cases! {
    two_opens_of_a_file_share_its_pages,
    what_was_stored_is_written_when_the_last_user_leaves,
    a_page_that_was_only_loaded_is_not_written,
    the_end_of_the_last_page_is_not_written_beyond_the_file,
    a_file_stays_in_memory_while_one_mapping_is_left,
    a_page_is_read_once_however_often_it_is_mapped,
    a_store_is_seen_at_every_address_and_in_every_space,
    a_store_before_fork_through_a_shared_mapping_is_written,
    closing_the_file_leaves_its_mappings_working,
    an_access_beyond_the_end_is_a_bus_error,
    a_shared_read_only_mapping_refuses_stores,
    a_store_dirties_once_more_after_it_was_written,
}

const SHARED: MapFlags = MapFlags::SHARED;

fn two_opens_of_a_file_share_its_pages<P: Platform>(vm: &Vm<P>) {
    let (one, two) = (RamFile::<P>::numbered(3, 2), RamFile::<P>::numbered(3, 2));
    let first = vm.open_file(one).unwrap();
    let second = vm.open_file(two.clone()).unwrap();
    assert!(first.is(&second));
    let (a, b) = (Program::new(vm), Program::new(vm));
    a.map_object(BASE, 2, SHARED, &first, 0);
    b.map_object(BASE, 2, SHARED, &second, 0);
    a.set(BASE, 50);
    assert_eq!(b.get(BASE), 50);
    assert_eq!(two.counts().0, 0, "the pages came through the first one");
    vm.close(&first).unwrap();
    vm.close(&second).unwrap();
}

fn what_was_stored_is_written_when_the_last_user_leaves<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 4);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 4, SHARED, &object, 0);
    program.set(BASE + PAGE, 20);
    program.set(BASE + 3 * PAGE + 5, 40);
    vm.close(&object).unwrap();
    assert_eq!(file.counts().1, 0);
    program.unmap(BASE, 2);
    assert_eq!(file.counts().1, 0, "the rest is still mapped");
    program.unmap(BASE, 4);
    assert_eq!((file.byte(PAGE), file.byte(3 * PAGE + 5), file.counts().1), (20, 40, 2));
}

fn a_page_that_was_only_loaded_is_not_written<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 4);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 4, SHARED, &object, 0);
    program.numbers(BASE, 4);
    drop(program);
    vm.close(&object).unwrap();
    assert_eq!(file.counts(), (4, 0, 0));
}

fn the_end_of_the_last_page_is_not_written_beyond_the_file<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::new(1, &[7; PAGE as usize + 10]);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, SHARED, &object, 0);
    program.set(BASE + PAGE + 9, 8);
    program.set(BASE + PAGE + 10, 9);
    drop(program);
    vm.close(&object).unwrap();
    assert_eq!((file.byte(PAGE + 9), file.size()), (8, PAGE + 10));
}

fn a_file_stays_in_memory_while_one_mapping_is_left<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let (one, two) = (Program::new(vm), Program::new(vm));
    one.map_object(BASE, 2, SHARED, &object, 0);
    two.map_object(BASE, 2, MapFlags::PRIVATE, &object, 0);
    one.numbers(BASE, 2);
    one.set(BASE, 50);
    vm.close(&object).unwrap();
    drop(one);
    assert_eq!(two.numbers(BASE, 2), [50, 2]);
    assert_eq!(file.counts(), (2, 0, 0));
    drop(two);
    assert_eq!(file.byte(0), 50);
}

fn a_page_is_read_once_however_often_it_is_mapped<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let programs: alloc::vec::Vec<_> = (0..5).map(|_| Program::new(vm)).collect();
    for program in &programs {
        program.map_object(BASE, 2, SHARED, &object, 0);
        program.map_object(BASE + 2 * PAGE, 2, MapFlags::PRIVATE, &object, 0);
        assert_eq!(program.numbers(BASE, 4), [1, 2, 1, 2]);
    }
    assert_eq!(file.counts().0, 2);
    assert_eq!(object.resident_pages(&vm.mmu), 2);
    vm.close(&object).unwrap();
}

fn a_store_is_seen_at_every_address_and_in_every_space<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::numbered(1, 2)).unwrap();
    let (one, two) = (Program::new(vm), Program::new(vm));
    one.map_object(BASE, 2, SHARED, &object, 0);
    one.map_object(BASE + 5 * PAGE, 1, SHARED, &object, 1);
    two.map_object(BASE, 1, SHARED, &object, 1);
    two.set(BASE, 90);
    assert_eq!((one.get(BASE + PAGE), one.get(BASE + 5 * PAGE)), (90, 90));
    vm.close(&object).unwrap();
}

fn a_store_before_fork_through_a_shared_mapping_is_written<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let parent = Program::new(vm);
    parent.map_object(BASE, 2, SHARED, &object, 0);
    parent.set(BASE, 50);
    let child = parent.fork();
    child.set(BASE + PAGE, 60);
    vm.close(&object).unwrap();
    drop(parent);
    drop(child);
    assert_eq!((file.byte(0), file.byte(PAGE)), (50, 60));
}

fn closing_the_file_leaves_its_mappings_working<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, SHARED, &object, 0);
    vm.close(&object).unwrap();
    assert_eq!(program.numbers(BASE, 2), [1, 2]);
    program.set(BASE, 3);
    drop(program);
    assert_eq!(file.byte(0), 3);
    let again = vm.open_file(file).unwrap();
    assert!(!again.is(&object), "the old object is gone");
    vm.close(&again).unwrap();
}

fn an_access_beyond_the_end_is_a_bus_error<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::numbered(1, 1)).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, SHARED, &object, 0);
    let at = BASE + PAGE;
    assert_eq!(program.load(at), Err(rumpvm::FaultError::BeyondEnd { at }));
    assert_eq!(program.store(at, 1), Err(rumpvm::FaultError::BeyondEnd { at }));
    vm.close(&object).unwrap();
}

fn a_shared_read_only_mapping_refuses_stores<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 1);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 1, SHARED, &object, 0);
    program.set(BASE, 5);
    program.protect(BASE, 1, rumpvm_arch::Prot::READ);
    assert_eq!(program.store(BASE, 6), crate::program::no_store(BASE));
    drop(program);
    vm.close(&object).unwrap();
    assert_eq!(file.byte(0), 5, "what was stored before is written");
}

fn a_store_dirties_once_more_after_it_was_written<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 1);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 1, SHARED, &object, 0);
    for round in 10..13 {
        program.set(BASE, round);
        program.msync(vm, BASE, PAGE, rumpvm::SyncFlags::SYNC).unwrap();
        assert_eq!((file.byte(0), file.counts().1), (round, u64::from(round) - 9));
    }
    vm.close(&object).unwrap();
}
