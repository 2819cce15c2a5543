//! What mappings lose when their object becomes shorter, and what they get when it grows.

use rumpvm::{CallError, FaultError, MapFlags, Vm};
use rumpvm_arch::VirtAddr;
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, RamFile, cases};

cases! {
    private_copies_beyond_the_end_are_lost_and_growing_gives_zeros,
    private_copies_beyond_the_end_are_lost_on_both_sides_of_a_fork,
    copies_in_the_same_leaf_that_lie_inside_stay,
    the_copy_of_the_page_that_the_end_cuts_stays_as_it_is,
    a_copy_that_moved_is_lost_too,
    a_private_mapping_behind_an_offset_loses_what_lies_beyond,
    a_file_becomes_as_short_as_its_object,
    a_file_that_refuses_keeps_everything_as_it_was,
    what_a_file_gains_is_zeros,
    an_object_cannot_be_longer_than_an_offset_can_tell,
}

const PRIVATE: MapFlags = MapFlags::PRIVATE;

fn beyond<T>(at: VirtAddr) -> Result<T, FaultError> {
    Err(FaultError::BeyondEnd { at })
}

fn private_copies_beyond_the_end_are_lost_and_growing_gives_zeros<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(600 * PAGE).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 600, PRIVATE, &memory, 0);
    program.number(BASE, 600);
    vm.resize(&memory, 2 * PAGE).unwrap();
    for at in [BASE + 2 * PAGE, BASE + 599 * PAGE] {
        assert_eq!((program.load(at), program.store(at, 1)), (beyond(at), beyond(at)));
    }
    assert_eq!(program.numbers(BASE, 2), [1, 2]);
    assert_eq!(vm.check(), Ok(()));
    vm.resize(&memory, 600 * PAGE).unwrap();
    assert_eq!(
        (program.numbers(BASE, 3), program.get(BASE + 599 * PAGE)),
        (alloc::vec![1, 2, 0], 0)
    );
    vm.close(&memory).unwrap();
}

fn private_copies_beyond_the_end_are_lost_on_both_sides_of_a_fork<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(8 * PAGE).unwrap();
    let parent = Program::new(vm);
    parent.map_object(BASE, 8, PRIVATE, &memory, 0);
    parent.number(BASE, 8);
    let child = parent.fork();
    let third = child.fork();
    // The child has a leaf of its own from here on, the others share one.
    child.set(BASE, 77);
    assert_eq!((third.get(BASE + 6 * PAGE), child.get(BASE + 6 * PAGE)), (7, 7));
    vm.resize(&memory, 3 * PAGE).unwrap();
    assert_eq!(vm.check(), Ok(()));
    for program in [&parent, &child, &third] {
        assert_eq!(program.load(BASE + 3 * PAGE), beyond(BASE + 3 * PAGE));
        assert_eq!(program.load(BASE + 6 * PAGE), beyond(BASE + 6 * PAGE));
        assert_eq!(program.numbers(BASE + PAGE, 2), [2, 3]);
    }
    assert_eq!((parent.get(BASE), child.get(BASE), third.get(BASE)), (1, 77, 1));
    vm.resize(&memory, 8 * PAGE).unwrap();
    child.set(BASE + 6 * PAGE, 66);
    let seen = [&parent, &child, &third].map(|program| program.get(BASE + 6 * PAGE));
    assert_eq!(seen, [0, 66, 0]);
    vm.close(&memory).unwrap();
}

fn copies_in_the_same_leaf_that_lie_inside_stay<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(4 * PAGE).unwrap();
    let program = Program::new(vm);
    program.map_at(BASE + 8 * PAGE, 2);
    program.number(BASE + 8 * PAGE, 2);
    program.map_object(BASE, 4, PRIVATE, &memory, 0);
    program.number(BASE, 4);
    vm.resize(&memory, 0).unwrap();
    assert_eq!(program.numbers(BASE + 8 * PAGE, 2), [1, 2]);
    assert_eq!(program.load(BASE), beyond(BASE));
    vm.close(&memory).unwrap();
}

fn the_copy_of_the_page_that_the_end_cuts_stays_as_it_is<P: Platform>(vm: &Vm<P>) {
    let object = vm.open_file(RamFile::<P>::numbered(1, 2)).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, PRIVATE, &object, 0);
    program.map_object(BASE + 4 * PAGE, 2, MapFlags::SHARED, &object, 0);
    program.set(BASE + PAGE + 100, 9);
    vm.resize(&object, PAGE + 50).unwrap();
    assert_eq!((program.get(BASE + PAGE + 100), program.get(BASE + 5 * PAGE + 100)), (9, 0));
    vm.close(&object).unwrap();
}

fn a_copy_that_moved_is_lost_too<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(4 * PAGE).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 4, PRIVATE, &memory, 0);
    program.number(BASE, 4);
    let (to, flags) = (BASE + 700 * PAGE, rumpvm::RemapFlags::MAYMOVE | rumpvm::RemapFlags::FIXED);
    assert_eq!(program.mremap(vm, BASE + 2 * PAGE, 2 * PAGE, 2 * PAGE, flags, to), Ok(to));
    vm.resize(&memory, 3 * PAGE).unwrap();
    assert_eq!((program.get(to), program.load(to + PAGE)), (3, beyond(to + PAGE)));
    vm.close(&memory).unwrap();
}

fn a_private_mapping_behind_an_offset_loses_what_lies_beyond<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(8 * PAGE).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 4, PRIVATE, &memory, 4);
    program.number(BASE, 4);
    vm.resize(&memory, 5 * PAGE + 1).unwrap();
    assert_eq!(program.numbers(BASE, 2), [1, 2]);
    assert_eq!(program.load(BASE + 2 * PAGE), beyond(BASE + 2 * PAGE));
    vm.resize(&memory, PAGE).unwrap();
    assert_eq!(program.load(BASE), beyond(BASE));
    vm.close(&memory).unwrap();
}

fn a_file_becomes_as_short_as_its_object<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 4);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 4, MapFlags::SHARED, &object, 0);
    program.number(BASE, 4);
    vm.resize(&object, PAGE + 7).unwrap();
    let at = BASE + 2 * PAGE;
    assert_eq!((file.size(), program.load(at)), (PAGE + 7, beyond(at)));
    drop(program);
    vm.close(&object).unwrap();
    assert_eq!((file.size(), file.byte(0), file.byte(PAGE)), (PAGE + 7, 1, 2));
}

fn a_file_that_refuses_keeps_everything_as_it_was<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 4);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 4, PRIVATE, &object, 0);
    program.map_object(BASE + 8 * PAGE, 4, MapFlags::SHARED, &object, 0);
    program.set(BASE + 3 * PAGE, 44);
    program.set(BASE + 10 * PAGE, 33);
    file.fail_writes(true);
    for bytes in [PAGE, 9 * PAGE] {
        assert!(matches!(vm.resize(&object, bytes), Err(CallError::Io(_))));
    }
    file.fail_writes(false);
    assert_eq!(object.size(), 4 * PAGE);
    assert_eq!(program.numbers(BASE, 4), [1, 2, 33, 44]);
    vm.close(&object).unwrap();
}

fn what_a_file_gains_is_zeros<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::new(1, &[7; 10]);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 3, MapFlags::SHARED, &object, 0);
    assert_eq!(program.load(BASE + PAGE), beyond(BASE + PAGE));
    vm.resize(&object, 2 * PAGE + 1).unwrap();
    assert_eq!((program.get(BASE + 9), program.get(BASE + 10)), (7, 0));
    assert_eq!((program.get(BASE + PAGE), program.get(BASE + 3 * PAGE - 1)), (0, 0));
    program.set(BASE + 2 * PAGE, 5);
    drop(program);
    vm.close(&object).unwrap();
    assert_eq!((file.size(), file.byte(2 * PAGE)), (2 * PAGE + 1, 5));
}

fn an_object_cannot_be_longer_than_an_offset_can_tell<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(PAGE).unwrap();
    assert_eq!(vm.resize(&memory, 1 << 63), Err(CallError::Invalid));
    assert_eq!(vm.resize(&memory, (1 << 63) - 1), Ok(()));
    assert_eq!(vm.resize(&memory, PAGE), Ok(()));
    vm.close(&memory).unwrap();
}
