//! Leaf tables that fork shared: each side sees its own map through them, whoever changes what first.

use rumpvm::{AreaFlags, Backing, MapFlags, RemapFlags, Vm};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{ANON, BASE, no_load, unmapped};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    fork_shares_leaf_tables_and_the_first_store_below_ends_it,
    a_load_through_a_shared_table_is_seen_by_both_and_right_for_both,
    unmapping_a_part_under_a_shared_table_leaves_the_other_side_whole,
    protecting_a_part_under_a_shared_table_leaves_the_other_side_alone,
    throwing_pages_away_under_a_shared_table_leaves_the_other_side_its_own,
    the_last_sharer_takes_the_table_over,
    a_mapping_moved_under_a_shared_table_is_not_seen_by_the_other_side,
    a_stack_grown_under_a_shared_table_is_not_seen_by_the_other_side,
    a_mapping_grown_under_a_shared_table_is_not_seen_by_the_other_side,
    a_heap_grown_under_a_shared_table_is_not_seen_by_the_other_side,
    a_new_mapping_under_a_shared_table_is_not_seen_by_the_other_side,
    a_page_revoked_from_its_object_goes_from_a_shared_table_too,
}

/// A parent with 64 numbered pages of 128, and its child.
fn family<P: Platform>(vm: &Vm<P>) -> (Program<'_, P>, Program<'_, P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 128);
    parent.number(BASE, 64);
    let child = parent.fork();
    (parent, child)
}

#[track_caller]
fn is_whole<P: Platform>(program: &Program<'_, P>) {
    assert!((0..64).all(|page| program.load(BASE + page * PAGE) == Ok(page as u8 + 1)));
    assert!((64..128).all(|page| program.load(BASE + page * PAGE) == Ok(0)));
}

/// The map and the tables of either side agree: what `check` says of both.
#[track_caller]
fn is_sound<P: Platform>(vm: &Vm<P>) {
    assert_eq!(vm.check(), Ok(()));
}

fn fork_shares_leaf_tables_and_the_first_store_below_ends_it<P: Platform>(vm: &Vm<P>) {
    let before = vm.statistics();
    let (parent, child) = family(vm);
    assert_eq!(vm.statistics().tables_shared - before.tables_shared, 1);
    assert_eq!(child.resident_pages(vm), 64, "without a fault");
    is_sound(vm);

    child.set(BASE, 100);
    assert_eq!(vm.statistics().tables_unshared - before.tables_unshared, 1);
    is_whole(&parent);
    is_sound(vm);
}

fn a_load_through_a_shared_table_is_seen_by_both_and_right_for_both<P: Platform>(vm: &Vm<P>) {
    let (parent, child) = family(vm);
    assert_eq!(child.get(BASE + 100 * PAGE), 0);
    assert_eq!(parent.resident_pages(vm), child.resident_pages(vm));
    is_whole(&parent);
    is_whole(&child);
    is_sound(vm);
    child.set(BASE + 100 * PAGE, 5);
    is_whole(&parent);
    is_sound(vm);
}

fn unmapping_a_part_under_a_shared_table_leaves_the_other_side_whole<P: Platform>(vm: &Vm<P>) {
    let (parent, child) = family(vm);
    child.unmap(BASE + 10 * PAGE, 10);
    let hole = BASE + 12 * PAGE;
    assert_eq!(child.load(hole), unmapped(hole));
    is_sound(vm);
    is_whole(&parent);
    assert_eq!(child.get(BASE + 30 * PAGE), 31);
    parent.unmap(BASE, 128);
    assert_eq!(child.get(BASE + 30 * PAGE), 31);
    is_sound(vm);
}

fn protecting_a_part_under_a_shared_table_leaves_the_other_side_alone<P: Platform>(vm: &Vm<P>) {
    let (parent, child) = family(vm);
    parent.protect(BASE + 10 * PAGE, 10, Prot::empty());
    let shut = BASE + 12 * PAGE;
    assert_eq!(parent.load(shut), no_load(shut));
    is_whole(&child);
    is_sound(vm);
    parent.protect(BASE, 128, Prot::READ);
    child.set(shut, 1);
    assert_eq!(parent.get(shut), 13);
    is_sound(vm);
}

fn throwing_pages_away_under_a_shared_table_leaves_the_other_side_its_own<P: Platform>(vm: &Vm<P>) {
    const DONTNEED: i32 = 4;
    let (parent, child) = family(vm);
    child.madvise(vm, BASE, 32 * PAGE, DONTNEED).unwrap();
    assert_eq!((child.get(BASE), child.get(BASE + 32 * PAGE)), (0, 33));
    is_whole(&parent);
    is_sound(vm);
    parent.madvise(vm, BASE, 128 * PAGE, DONTNEED).unwrap();
    assert_eq!((parent.get(BASE + 40 * PAGE), child.get(BASE + 40 * PAGE)), (0, 41));
    is_sound(vm);
}

fn the_last_sharer_takes_the_table_over<P: Platform>(vm: &Vm<P>) {
    let (parent, child) = family(vm);
    drop(parent);
    let before = vm.statistics();
    child.set(BASE + 3 * PAGE, 9);
    let now = vm.statistics();
    assert_eq!(now.tables_made, before.tables_made);
    assert_eq!(now.faults_copy, before.faults_copy);
    assert_eq!(child.get(BASE + 4 * PAGE), 5);
    assert_eq!(vm.statistics().faults_soft, now.faults_soft, "the entries are still there");
    is_sound(vm);
}

fn a_mapping_moved_under_a_shared_table_is_not_seen_by_the_other_side<P: Platform>(vm: &Vm<P>) {
    const AWAY: VirtAddr = VirtAddr(0x6000_0000);
    let parent = Program::new(vm);
    parent.map_at(BASE, 8);
    parent.number(BASE, 8);
    parent.map_at(AWAY, 4);
    parent.number(AWAY, 4);
    let child = parent.fork();
    let (new, flags) = (BASE + 100 * PAGE, RemapFlags::MAYMOVE | RemapFlags::FIXED);
    assert_eq!(child.mremap(vm, AWAY, 4 * PAGE, 6 * PAGE, flags, new), Ok(new));
    assert_eq!(child.numbers(new, 6), [1, 2, 3, 4, 0, 0]);
    is_sound(vm);
    assert_eq!(parent.load(new), unmapped(new));
    assert_eq!(parent.numbers(AWAY, 4), [1, 2, 3, 4]);
    is_sound(vm);
}

fn a_stack_grown_under_a_shared_table_is_not_seen_by_the_other_side<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    let top = BASE + 512 * PAGE;
    parent.try_map(top - PAGE, 1, ANON | MapFlags::GROWSDOWN | MapFlags::FIXED).unwrap();
    parent.set(top - PAGE, 1);
    let child = parent.fork();

    let below = top - 8 * PAGE;
    assert_eq!(child.get(below), 0);
    is_sound(vm);
    assert_eq!(parent.pages(), [(511, 512)]);
    child.set(below, 2);
    assert_eq!(parent.get(below), 0);
    is_sound(vm);
}

fn a_mapping_grown_under_a_shared_table_is_not_seen_by_the_other_side<P: Platform>(vm: &Vm<P>) {
    let (parent, child) = family(vm);
    let end = BASE + 128 * PAGE;
    let grown = child.mremap(vm, BASE, 128 * PAGE, 130 * PAGE, RemapFlags::empty(), VirtAddr(0));
    assert_eq!(grown, Ok(BASE));
    assert_eq!(child.get(end), 0);
    is_sound(vm);
    assert_eq!(parent.load(end), unmapped(end));
}

fn a_heap_grown_under_a_shared_table_is_not_seen_by_the_other_side<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.set_brk_base(BASE);
    assert_eq!(parent.brk(vm, BASE + PAGE), BASE + PAGE);
    parent.set(BASE, 1);
    let child = parent.fork();
    assert_eq!(child.brk(vm, BASE + 5 * PAGE), BASE + 5 * PAGE);
    assert_eq!(child.get(BASE + 4 * PAGE), 0);
    is_sound(vm);
    let beyond = BASE + 4 * PAGE;
    assert_eq!(parent.load(beyond), unmapped(beyond));
    assert_eq!(parent.brk(vm, VirtAddr(0)), BASE + PAGE);
}

fn a_new_mapping_under_a_shared_table_is_not_seen_by_the_other_side<P: Platform>(vm: &Vm<P>) {
    let (parent, child) = family(vm);
    let file = RamFile::<P>::numbered(1, 4);
    let object = vm.open_file(file).unwrap();
    let backing = Backing::Object(&object);
    let free = BASE + 200 * PAGE;
    let mapped = child.mmap(vm, free, 4 * PAGE, Prot::READ, MapFlags::PRIVATE, backing, 0);
    assert_eq!(mapped, Ok(free));
    assert_eq!(child.numbers(free, 4), [1, 2, 3, 4]);
    is_sound(vm);
    assert_eq!(parent.load(free), unmapped(free));
    assert!(child.table().iter().all(|(.., flags)| !flags.contains(AreaFlags::SHARED)));
    vm.close(&object).unwrap();
}

fn a_page_revoked_from_its_object_goes_from_a_shared_table_too<P: Platform>(vm: &Vm<P>) {
    let memory = vm.shared_memory(4 * PAGE).unwrap();
    let parent = Program::new(vm);
    parent.map_object(BASE, 4, MapFlags::SHARED, &memory, 0);
    parent.number(BASE, 4);
    let child = parent.fork();
    assert_eq!(child.resident_pages(vm), 4);

    vm.resize(&memory, 2 * PAGE).unwrap();

    let gone = BASE + 2 * PAGE;
    let expected = Err(rumpvm::FaultError::BeyondEnd { at: gone });
    assert_eq!((parent.load(gone), child.load(gone)), (expected, expected));
    assert_eq!((parent.resident_pages(vm), child.resident_pages(vm)), (2, 2));
    is_sound(vm);
    vm.close(&memory).unwrap();
}
