//! Fork: both sides have what the parent had, and neither sees what the other stores afterwards.

use rumpvm::{AreaFlags, MapFlags, Vm};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{ANON, BASE, no_store, unmapped};
use crate::{PAGE, Program, cases};

/// `MADV_DONTFORK` and `MADV_DOFORK`.
const DONTFORK: i32 = 10;
const DOFORK: i32 = 11;

cases! {
    a_child_has_what_its_parent_stored_before,
    a_store_of_the_child_is_not_seen_by_the_parent,
    a_store_of_the_parent_is_not_seen_by_the_child,
    a_page_that_neither_had_touched_is_zero_for_both_and_then_their_own,
    the_last_owner_of_a_page_stores_without_a_copy,
    a_store_copies_one_page_however_many_are_shared,
    every_generation_of_a_family_keeps_its_own_contents,
    a_child_outlives_its_parent,
    shared_memory_stays_shared_between_parent_and_child,
    a_child_does_not_get_what_is_marked_dontfork,
    a_child_has_no_locked_memory,
    rights_are_inherited_and_changed_apart,
    shared_memory_that_may_only_be_stored_to_can_be_loaded_after_a_fork,
    many_children_of_one_parent_are_independent,
    a_fork_without_contents_is_an_empty_space,
}

fn a_child_has_what_its_parent_stored_before<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 20);
    parent.number(BASE, 10);
    let child = parent.fork();
    assert_eq!(child.numbers(BASE, 12), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0]);
    assert_eq!(child.table(), parent.table());
}

fn a_store_of_the_child_is_not_seen_by_the_parent<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 3);
    parent.number(BASE, 3);
    let child = parent.fork();
    child.set(BASE + PAGE, 22);
    assert_eq!(parent.numbers(BASE, 3), [1, 2, 3]);
    assert_eq!(child.numbers(BASE, 3), [1, 22, 3]);
}

fn a_store_of_the_parent_is_not_seen_by_the_child<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 3);
    parent.number(BASE, 3);
    let child = parent.fork();
    parent.set(BASE + PAGE, 22);
    assert_eq!(parent.numbers(BASE, 3), [1, 22, 3]);
    assert_eq!(child.numbers(BASE, 3), [1, 2, 3]);
}

fn a_page_that_neither_had_touched_is_zero_for_both_and_then_their_own<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 2);
    parent.set(BASE, 1);
    let child = parent.fork();
    assert_eq!((parent.get(BASE + PAGE), child.get(BASE + PAGE)), (0, 0));
    child.set(BASE + PAGE, 2);
    assert_eq!((parent.get(BASE + PAGE), child.get(BASE + PAGE)), (0, 2));
    parent.set(BASE + PAGE, 3);
    assert_eq!((parent.get(BASE + PAGE), child.get(BASE + PAGE)), (3, 2));
}

fn the_last_owner_of_a_page_stores_without_a_copy<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 5);
    parent.number(BASE, 5);
    drop(parent.fork());
    let child = parent.fork();
    child.set(BASE, 9);
    drop(child);

    let before = vm.statistics();
    parent.number(BASE, 5);
    let now = vm.statistics();
    assert_eq!(now.faults_copy, before.faults_copy);
    assert!(now.faults_reuse + now.faults_soft > before.faults_reuse + before.faults_soft);
}

fn a_store_copies_one_page_however_many_are_shared<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 600);
    parent.number(BASE, 600);
    let child = parent.fork();

    let before = vm.statistics().faults_copy;
    child.set(BASE + 7 * PAGE, 1);
    child.set(BASE + 7 * PAGE + 1, 1);
    assert_eq!(vm.statistics().faults_copy - before, 1);
}

fn every_generation_of_a_family_keeps_its_own_contents<P: Platform>(vm: &Vm<P>) {
    let oldest = Program::new(vm);
    oldest.map_at(BASE, 6);
    let mut family = alloc::vec![oldest];
    for generation in 1..6 {
        let child = family[family.len() - 1].fork();
        child.set(BASE, generation);
        child.set(BASE + u64::from(generation) * PAGE, generation);
        family.push(child);
    }
    // The middle one goes first: what it shared with both sides stays theirs.
    family.remove(2);
    for (program, generation) in family.iter().zip([0, 1, 3, 4, 5]) {
        let kept = |page: u8| if page <= generation { page } else { 0 };
        let expected: alloc::vec::Vec<_> =
            (0..6).map(|page| if page == 0 { generation } else { kept(page) }).collect();
        assert_eq!(program.numbers(BASE, 6), expected);
    }
}

fn a_child_outlives_its_parent<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 4);
    parent.number(BASE, 4);
    let child = parent.fork();
    parent.set(BASE + PAGE, 99);
    drop(parent);
    assert_eq!(child.numbers(BASE, 4), [1, 2, 3, 4]);
    child.number(BASE, 4);
}

fn shared_memory_stays_shared_between_parent_and_child<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    let flags = MapFlags::SHARED | MapFlags::ANONYMOUS;
    let at = parent.try_map(VirtAddr(0), 3, flags).unwrap();
    parent.set(at, 1);
    let child = parent.fork();
    assert_eq!(child.get(at), 1);
    child.set(at, 2);
    child.set(at + PAGE, 3);
    parent.set(at + 2 * PAGE, 4);
    assert_eq!(parent.numbers(at, 3), [2, 3, 4]);
    assert_eq!(child.numbers(at, 3), [2, 3, 4]);
    drop(parent);
    assert_eq!(child.numbers(at, 3), [2, 3, 4]);
}

fn a_child_does_not_get_what_is_marked_dontfork<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 8);
    parent.number(BASE, 8);
    parent.madvise(vm, BASE + 2 * PAGE, 4 * PAGE, DONTFORK).unwrap();
    parent.madvise(vm, BASE + 3 * PAGE, PAGE, DOFORK).unwrap();

    let child = parent.fork();

    assert_eq!(child.pages(), [(0, 2), (3, 4), (6, 8)]);
    assert_eq!((child.get(BASE + PAGE), child.get(BASE + 3 * PAGE)), (2, 4));
    let missing = BASE + 2 * PAGE;
    assert_eq!(child.load(missing), unmapped(missing));
    child.map_at(missing, 1);
    assert_eq!(child.get(missing), 0);
    child.set(missing, 33);
    child.set(BASE, 34);
    assert_eq!(parent.numbers(BASE, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    parent.number(BASE, 8);
}

fn a_child_has_no_locked_memory<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 4);
    parent.mlock(vm, BASE + PAGE, PAGE).unwrap();
    let child = parent.fork();
    assert_eq!((parent.locked_bytes(), child.locked_bytes()), (PAGE, 0));
    assert!(child.table().iter().all(|(.., flags)| !flags.contains(AreaFlags::LOCKED)));
}

fn rights_are_inherited_and_changed_apart<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 4);
    parent.number(BASE, 4);
    parent.protect(BASE, 1, Prot::READ);
    let child = parent.fork();
    assert_eq!(child.store(BASE, 9), no_store(BASE));

    child.protect(BASE, 2, Prot::RW);
    parent.protect(BASE + 3 * PAGE, 1, Prot::empty());
    child.set(BASE, 9);
    child.set(BASE + 3 * PAGE, 8);
    assert_eq!(parent.store(BASE, 7), no_store(BASE));
    assert_eq!(parent.numbers(BASE, 3), [1, 2, 3]);
    assert_eq!(child.numbers(BASE, 4), [9, 2, 3, 8]);
}

fn many_children_of_one_parent_are_independent<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 3);
    parent.number(BASE, 3);
    let children: alloc::vec::Vec<_> = (0..12)
        .map(|number| {
            let child = parent.fork();
            child.set(BASE + PAGE, 100 + number);
            child
        })
        .collect();
    parent.set(BASE, 50);
    for (number, child) in children.iter().enumerate() {
        assert_eq!(child.numbers(BASE, 3), [1, 100 + number as u8, 3]);
    }
    drop(children);
    assert_eq!(parent.numbers(BASE, 3), [50, 2, 3]);
}

fn a_fork_without_contents_is_an_empty_space<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    let child = parent.fork();
    assert!(child.table().is_empty());
    child.try_map(BASE, 1, ANON).unwrap();
    assert!(parent.table().is_empty());
}

/// x86 has no such page: what may be stored to may be loaded, also where a fork has taken the right to store
/// from the table.
fn shared_memory_that_may_only_be_stored_to_can_be_loaded_after_a_fork<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 1);
    parent.set(BASE, 1);
    let shared = MapFlags::SHARED | MapFlags::ANONYMOUS | MapFlags::FIXED;
    let at = BASE + PAGE;
    parent.try_map(at, 1, shared).unwrap();
    parent.protect(at, 1, Prot::WRITE);
    let child = parent.fork();
    assert_eq!((parent.get(at), child.get(at)), (0, 0));
    child.set(at, 5);
    assert_eq!(parent.get(at), 5);
}
