//! Shared anonymous memory, as `MAP_SHARED | MAP_ANONYMOUS` and memfd_create(2) make it.

use rumpvm::{FaultError, MapFlags, Vm};
use rumpvm_arch::VirtAddr;
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, cases};

cases! {
    spaces_that_map_one_object_see_each_others_stores,
    a_private_mapping_of_it_keeps_its_own_copies,
    contents_stay_while_there_is_a_handle_or_a_mapping,
    shrinking_takes_pages_from_every_mapping_and_growing_gives_zeros,
    shrinking_inside_a_page_zeroes_its_rest,
    an_anonymous_shared_mapping_ends_with_its_last_area,
    shrinking_an_object_that_has_private_copies_keeps_everything_sound,
    one_object_can_be_mapped_at_several_places,
}

const SHARED: MapFlags = MapFlags::SHARED;

fn spaces_that_map_one_object_see_each_others_stores<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(3 * PAGE).unwrap();
    let (one, two) = (Program::new(vm), Program::new(vm));
    one.map_object(BASE, 3, SHARED, &memory, 0);
    two.map_object(BASE + 8 * PAGE, 2, SHARED, &memory, 1);
    one.number(BASE, 3);
    assert_eq!(two.numbers(BASE + 8 * PAGE, 2), [2, 3]);
    two.set(BASE + 8 * PAGE, 22);
    assert_eq!(one.numbers(BASE, 3), [1, 22, 3]);
    vm.close(&memory).unwrap();
}

fn a_private_mapping_of_it_keeps_its_own_copies<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(2 * PAGE).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, SHARED, &memory, 0);
    program.map_object(BASE + 4 * PAGE, 2, MapFlags::PRIVATE, &memory, 0);
    program.set(BASE, 1);
    assert_eq!(program.get(BASE + 4 * PAGE), 1);
    program.set(BASE + 4 * PAGE, 9);
    program.set(BASE, 2);
    program.set(BASE + PAGE, 3);
    assert_eq!(program.numbers(BASE + 4 * PAGE, 2), [9, 3]);
    vm.close(&memory).unwrap();
}

fn contents_stay_while_there_is_a_handle_or_a_mapping<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(PAGE).unwrap();
    let one = Program::new(vm);
    one.map_object(BASE, 1, SHARED, &memory, 0);
    one.set(BASE, 5);
    drop(one);
    let two = Program::new(vm);
    two.map_object(BASE, 1, SHARED, &memory, 0);
    vm.close(&memory).unwrap();
    assert_eq!((two.get(BASE), memory.users()), (5, 1));
}

fn shrinking_takes_pages_from_every_mapping_and_growing_gives_zeros<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(600 * PAGE).unwrap();
    let (one, two) = (Program::new(vm), Program::new(vm));
    for program in [&one, &two] {
        program.map_object(BASE, 600, SHARED, &memory, 0);
        program.number(BASE, 600);
    }
    vm.resize(&memory, 2 * PAGE).unwrap();
    for at in [BASE + 2 * PAGE, BASE + 599 * PAGE] {
        let beyond = FaultError::BeyondEnd { at };
        assert_eq!((one.load(at), two.store(at, 1)), (Err(beyond), Err(beyond)));
    }
    assert_eq!((one.resident_pages(vm), memory.resident_pages(&vm.mmu)), (2, 2));
    assert_eq!(vm.check(), Ok(()));

    vm.resize(&memory, 600 * PAGE).unwrap();
    assert_eq!((one.numbers(BASE, 3), two.get(BASE + 599 * PAGE)), (alloc::vec![1, 2, 0], 0));
    vm.close(&memory).unwrap();
}

fn shrinking_inside_a_page_zeroes_its_rest<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(PAGE).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 1, SHARED, &memory, 0);
    program.copy_out(vm, BASE, &[7; 100]).unwrap();
    vm.resize(&memory, 10).unwrap();
    assert_eq!((program.get(BASE + 9), program.get(BASE + 10)), (7, 0));
    vm.resize(&memory, PAGE).unwrap();
    assert_eq!((program.get(BASE + 9), program.get(BASE + 10)), (7, 0));
    vm.close(&memory).unwrap();
}

fn an_anonymous_shared_mapping_ends_with_its_last_area<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let at = program.try_map(VirtAddr(0), 4, SHARED | MapFlags::ANONYMOUS).unwrap();
    program.number(at, 4);
    program.unmap(at + PAGE, 2);
    assert_eq!((program.get(at), program.get(at + 3 * PAGE)), (1, 4));
    program.unmap(at, 1);
    program.unmap(at + 3 * PAGE, 1);
    let mut left = 0;
    vm.objects.for_each(|_| left += 1);
    assert_eq!(left, 0);
}

fn shrinking_an_object_that_has_private_copies_keeps_everything_sound<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(2 * PAGE).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, MapFlags::PRIVATE, &memory, 0);
    program.set(BASE + PAGE, 9);
    vm.resize(&memory, 0).unwrap();
    assert_eq!(program.load(BASE), Err(FaultError::BeyondEnd { at: BASE }));

    assert_eq!(vm.check(), Ok(()));
    vm.close(&memory).unwrap();
}

fn one_object_can_be_mapped_at_several_places<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(PAGE).unwrap();
    let program = Program::new(vm);
    for place in 0..20 {
        program.map_object(BASE + place * 2 * PAGE, 1, SHARED, &memory, 0);
    }
    program.set(BASE, 1);
    for place in 0..20 {
        let at = BASE + place * 2 * PAGE;
        assert_eq!(program.get(at), place as u8 + 1);
        program.set(at, place as u8 + 2);
    }
    vm.close(&memory).unwrap();
}
