//! What a child gets: advice 18 of Linux, minherit and reservations of the BSDs.

use alloc::vec;
use alloc::vec::Vec;

use rumpvm::{AreaFlags, CallError, Inheritance, MapFlags, Vm};
use rumpvm_arch::Prot;
use rumpvm_platform::Platform;

use crate::program::{BASE, no_load, unmapped};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    memory_that_is_wiped_on_fork_is_zero_in_the_child,
    only_private_anonymous_memory_is_wiped_on_fork,
    private_memory_can_be_shared_with_a_child,
    shared_memory_can_be_copied_for_a_child,
    what_a_child_is_not_to_get_it_has_not,
    any_memory_can_be_zero_in_a_child,
    inheritance_that_cannot_be_is_refused_as_a_whole,
    reserved_addresses_can_be_replaced_but_not_used,
    reserved_addresses_stay_so_in_a_child_unless_it_gets_nothing,
}

fn memory_that_is_wiped_on_fork_is_zero_in_the_child<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 6);
    program.number(BASE, 6);
    assert_eq!(program.madvise(vm, BASE + PAGE, 4 * PAGE, 18), Ok(()));
    assert_eq!(program.madvise(vm, BASE + 2 * PAGE, PAGE, 19), Ok(()));
    let child = program.fork();
    assert_eq!(child.numbers(BASE, 6), [1, 0, 3, 0, 0, 6]);
    child.number(BASE, 6);
    assert_eq!(child.fork().numbers(BASE, 6), [1, 0, 3, 0, 0, 6], "and so in its children");
    assert_eq!(program.numbers(BASE, 6), [1, 2, 3, 4, 5, 6]);
}

fn only_private_anonymous_memory_is_wiped_on_fork<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(2 * PAGE).unwrap();
    program.map_at(BASE, 1);
    program.map_object(BASE + PAGE, 1, MapFlags::SHARED, &memory, 0);
    program.map_object(BASE + 2 * PAGE, 1, MapFlags::PRIVATE, &memory, 0);
    for page in [1, 2] {
        let answer = program.madvise(vm, BASE + page * PAGE, PAGE, 18);
        assert_eq!(answer, Err(CallError::Invalid));
    }
    assert_eq!(program.madvise(vm, BASE, 2 * PAGE, 18), Err(CallError::Invalid));
    program.set(BASE, 1);
    assert_eq!(program.fork().get(BASE), 0, "what comes before is done");
    assert_eq!(program.madvise(vm, BASE, 3 * PAGE, 19), Ok(()));
    vm.close(&memory).unwrap();
}

fn private_memory_can_be_shared_with_a_child<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 6);
    program.number(BASE, 4);
    let share = Inheritance::from_number(0).unwrap();
    assert_eq!(program.minherit(vm, BASE + PAGE + 5, 3 * PAGE, share), Ok(()));
    let child = program.fork();
    child.number(BASE, 6);
    program.set(BASE + 2 * PAGE, 77);
    assert_eq!(child.numbers(BASE, 6), [1, 2, 77, 4, 5, 6]);
    assert_eq!(program.numbers(BASE, 6), [1, 2, 77, 4, 5, 0]);
    drop(program);
    assert_eq!(child.get(BASE + 2 * PAGE), 77);
}

fn shared_memory_can_be_copied_for_a_child<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(3 * PAGE).unwrap();
    program.map_object(BASE, 3, MapFlags::SHARED, &memory, 0);
    program.number(BASE, 3);
    assert_eq!(program.minherit(vm, BASE, 2 * PAGE, Inheritance::Copy), Ok(()));
    let child = program.fork();
    (0..3).for_each(|page| child.set(BASE + page * PAGE, 9));
    assert_eq!(program.numbers(BASE, 3), [1, 2, 9]);
    program.set(BASE, 5);
    assert_eq!(child.numbers(BASE, 3), [9, 9, 9]);
    drop(child);
    assert_eq!(program.minherit(vm, BASE, 3 * PAGE, Inheritance::Share), Ok(()));
    program.fork().set(BASE, 6);
    assert_eq!(program.get(BASE), 6);
    vm.close(&memory).unwrap();
}

fn what_a_child_is_not_to_get_it_has_not<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 3);
    assert_eq!(program.minherit(vm, BASE + PAGE, 8 * PAGE, Inheritance::None), Ok(()));
    let child = program.fork();
    assert_eq!(child.pages(), [(0, 1)]);
    assert_eq!(child.load(BASE + PAGE), unmapped(BASE + PAGE));
}

fn any_memory_can_be_zero_in_a_child<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 4)).unwrap();
    program.map_object(BASE, 2, MapFlags::SHARED, &object, 0);
    program.map_object(BASE + 2 * PAGE, 2, MapFlags::PRIVATE, &object, 2);
    program.set(BASE + 3 * PAGE, 50);
    assert_eq!(program.minherit(vm, BASE, 4 * PAGE, Inheritance::Zero), Ok(()));
    let child = program.fork();
    assert_eq!(child.numbers(BASE, 4), [0, 0, 0, 0]);
    child.number(BASE, 4);
    assert_eq!(program.numbers(BASE, 4), [1, 2, 3, 50]);
    vm.close(&object).unwrap();
}

fn inheritance_that_cannot_be_is_refused_as_a_whole<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 1)).unwrap();
    program.map_at(BASE, 1);
    program.map_object(BASE + PAGE, 1, MapFlags::PRIVATE, &object, 0);
    let share = program.minherit(vm, BASE, 2 * PAGE, Inheritance::Share);
    assert_eq!(share, Err(CallError::Unsupported));
    program.fork().set(BASE, 1);
    assert_eq!(program.get(BASE), 0, "nothing is shared");
    assert_eq!(Inheritance::from_number(4), Err(CallError::Invalid));
    assert_eq!(program.minherit(vm, BASE, u64::MAX, Inheritance::None), Err(CallError::Invalid));
    vm.close(&object).unwrap();
}

fn reserved_addresses_can_be_replaced_but_not_used<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    assert_eq!(program.reserve(vm, BASE, 4 * PAGE, MapFlags::FIXED), Ok(BASE));
    assert_eq!(program.load(BASE), no_load(BASE));
    program.protect(BASE, 4, Prot::RW);
    assert_eq!(program.load(BASE), no_load(BASE), "there are no rights to have");
    let taken = program.reserve(vm, BASE, PAGE, MapFlags::FIXED_NOREPLACE);
    assert_eq!(taken, Err(CallError::Exists));
    assert_eq!(program.reserve(vm, BASE, PAGE, MapFlags::SHARED), Err(CallError::Invalid));
    let elsewhere = program.try_map(BASE, 1, crate::program::ANON).unwrap();
    assert_ne!(elsewhere, BASE, "nothing goes there unasked");
    program.unmap(elsewhere, 1);
    assert_eq!(program.fork().pages(), [(0, 4)]);
    program.map_at(BASE + PAGE, 1);
    program.set(BASE + PAGE, 1);
    assert_eq!(program.pages(), [(0, 1), (1, 2), (2, 4)]);
    program.unmap(BASE, 4);
    assert_eq!(program.pages(), []);
}

fn reserved_addresses_stay_so_in_a_child_unless_it_gets_nothing<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.reserve(vm, BASE, 4 * PAGE, MapFlags::FIXED).unwrap();
    let inherits = |inheritance| {
        program.minherit(vm, BASE, 4 * PAGE, inheritance).unwrap();
        let child = program.fork();
        let allowed = child.mprotect(vm, BASE, 4 * PAGE, Prot::RW);
        let areas: Vec<_> = child.table().iter().map(|(_, prot, flags)| (*prot, *flags)).collect();
        (allowed, areas)
    };
    let reserved = (Prot::empty(), AreaFlags::RESERVED | AreaFlags::NORESERVE);
    assert_eq!(inherits(Inheritance::Zero), (Ok(()), vec![reserved]));
    assert_eq!(inherits(Inheritance::None), (Err(CallError::Unmapped), vec![]));
}
