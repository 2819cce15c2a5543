//! Private mappings of files: the file's contents until one stores, then one's own; the file never changes.

use rumpvm::{MapFlags, Vm};
use rumpvm_arch::Prot;
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, RamFile, cases};

cases! {
    loads_see_the_file_and_stores_do_not_reach_it,
    a_store_without_a_load_before_copies_the_file_page,
    a_page_copied_stays_when_the_file_page_is_mapped_elsewhere,
    the_tail_of_the_last_page_is_zero,
    an_access_beyond_the_end_is_a_bus_error_and_changes_nothing,
    an_offset_selects_the_pages,
    parent_and_child_share_the_file_page_until_one_stores,
    neighbours_that_are_in_memory_come_with_one_fault,
    a_sole_private_page_of_a_file_is_stored_to_without_another_copy,
    a_writable_private_mapping_may_be_read_only_for_a_while,
}

const PRIVATE: MapFlags = MapFlags::PRIVATE;

fn loads_see_the_file_and_stores_do_not_reach_it<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 4);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 4, PRIVATE, &object, 0);
    assert_eq!(program.numbers(BASE, 4), [1, 2, 3, 4]);
    program.set(BASE + PAGE, 99);
    assert_eq!(program.numbers(BASE, 4), [1, 99, 3, 4]);
    assert_eq!(program.get(BASE + PAGE + 1), 2);
    drop(program);
    vm.close(&object).unwrap();
    assert_eq!((file.byte(PAGE), file.counts().1), (2, 0));
}

fn a_store_without_a_load_before_copies_the_file_page<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::numbered(1, 2)).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, PRIVATE, &object, 0);
    program.set(BASE + PAGE + 1, 99);
    assert_eq!((program.get(BASE + PAGE), program.get(BASE + PAGE + 1)), (2, 99));
    vm.close(&object).unwrap();
}

fn a_page_copied_stays_when_the_file_page_is_mapped_elsewhere<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::numbered(1, 2)).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, PRIVATE, &object, 0);
    program.map_object(BASE + 8 * PAGE, 2, MapFlags::SHARED, &object, 0);
    program.set(BASE, 50);
    program.set(BASE + 8 * PAGE, 60);
    program.set(BASE + 9 * PAGE, 70);
    assert_eq!(program.numbers(BASE, 2), [50, 70], "an uncopied page shows the file as it is");
    vm.close(&object).unwrap();
}

fn the_tail_of_the_last_page_is_zero<P: Platform>(vm: &Vm<P>) {
    crate::frames::soil(vm);
    let object = vm.open_file(RamFile::<P>::new(1, &[7; PAGE as usize + 10])).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, PRIVATE, &object, 0);
    let last = BASE + PAGE;
    assert_eq!(
        (program.get(last + 9), program.get(last + 10), program.get(last + PAGE - 1)),
        (7, 0, 0)
    );
    program.set(last + 10, 1);
    assert_eq!((program.get(last + 9), program.get(last + 10), program.get(last + 11)), (7, 1, 0));
    vm.close(&object).unwrap();
}

fn an_access_beyond_the_end_is_a_bus_error_and_changes_nothing<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::new(1, &[7; 10])).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 3, PRIVATE, &object, 0);
    for at in [BASE + PAGE, BASE + 3 * PAGE - 1] {
        let beyond = rumpvm::FaultError::BeyondEnd { at };
        assert_eq!(program.store(at, 1), Err(beyond));
        assert_eq!(program.load(at), Err(beyond));
        assert_eq!(beyond.signal(), rumpvm::Signal::Bus);
    }
    assert_eq!(vm.check(), Ok(()));
    assert_eq!(program.get(BASE), 7);
    vm.close(&object).unwrap();
}

fn an_offset_selects_the_pages<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::numbered(1, 6)).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 3, PRIVATE, &object, 2);
    program.unmap(BASE, 1);
    assert_eq!(program.numbers(BASE + PAGE, 2), [4, 5]);
    vm.close(&object).unwrap();
}

fn parent_and_child_share_the_file_page_until_one_stores<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::numbered(1, 3)).unwrap();
    let parent = Program::new(vm);
    parent.map_object(BASE, 3, PRIVATE, &object, 0);
    parent.set(BASE, 10);
    let child = parent.fork();
    child.set(BASE + PAGE, 20);
    parent.set(BASE + 2 * PAGE, 30);
    child.set(BASE, 40);
    assert_eq!(parent.numbers(BASE, 3), [10, 2, 30]);
    assert_eq!(child.numbers(BASE, 3), [40, 20, 3]);
    vm.close(&object).unwrap();
}

fn neighbours_that_are_in_memory_come_with_one_fault<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::numbered(1, 8)).unwrap();
    let first = Program::new(vm);
    first.map_object(BASE, 8, PRIVATE, &object, 0);
    first.numbers(BASE, 8);
    let second = Program::new(vm);
    second.map_object(BASE, 8, PRIVATE, &object, 0);
    second.get(BASE + 3 * PAGE);
    assert_eq!(second.resident_pages(vm), 8);
    second.set(BASE + 4 * PAGE, 99);
    assert_eq!(first.numbers(BASE, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    vm.close(&object).unwrap();
}

fn a_sole_private_page_of_a_file_is_stored_to_without_another_copy<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::numbered(1, 1)).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 1, PRIVATE, &object, 0);
    program.set(BASE, 1);
    drop(program.fork());
    let before = vm.statistics().faults_copy;
    program.set(BASE, 2);
    assert_eq!(vm.statistics().faults_copy, before);
    vm.close(&object).unwrap();
}

fn a_writable_private_mapping_may_be_read_only_for_a_while<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::numbered(1, 2)).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, PRIVATE, &object, 0);
    program.set(BASE, 50);
    program.protect(BASE, 2, Prot::READ);
    assert_eq!(program.store(BASE, 1), crate::program::no_store(BASE));
    assert_eq!(program.numbers(BASE, 2), [50, 2]);
    program.protect(BASE, 2, Prot::RW);
    program.set(BASE + PAGE, 51);
    assert_eq!(program.numbers(BASE, 2), [50, 51]);
    vm.close(&object).unwrap();
}
