//! Guards, advice 102 and 103: pages that nothing may touch.

use rumpvm::{CallError, FaultError, MapFlags, RemapFlags, Signal, Vm};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{BASE, no_load};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    a_guard_stops_every_access_and_cuts_no_area,
    what_was_behind_a_guard_is_gone,
    guards_outlive_rights_and_other_advice,
    guards_of_shared_memory_are_ones_own,
    a_child_inherits_guards_but_not_where_it_is_wiped,
    guards_move_with_their_pages,
    unmapping_and_mapping_over_end_a_guard,
    guards_that_a_child_takes_away_stay_with_its_parent,
    a_node_without_guards_goes_beside_one_that_has_some,
    locked_memory_takes_no_guards_but_gives_them_up,
    populating_stops_at_a_guard,
    guarded_pages_are_not_in_memory_unless_a_file_is,
    holes_between_guarded_areas_are_told,
    a_guard_in_a_page_table_that_a_fork_shares_is_the_parents_alone,
}

const INSTALL: i32 = 102;
const REMOVE: i32 = 103;

fn guarded<T>(at: VirtAddr) -> Result<T, FaultError> {
    Err(FaultError::Guarded { at })
}

/// `pages` numbered pages of private memory.
fn numbered<P: Platform>(vm: &Vm<P>, pages: u64) -> Program<'_, P> {
    let program = Program::new(vm);
    program.map_at(BASE, pages);
    program.number(BASE, pages);
    program
}

fn advise<P: Platform>(on: &Program<'_, P>, page: u64, pages: u64, advice: i32) {
    assert_eq!(on.madvise(on.vm, BASE + page * PAGE, pages * PAGE, advice), Ok(()));
}

fn a_guard_stops_every_access_and_cuts_no_area<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm, 8);
    advise(&program, 2, 2, INSTALL);
    let at = BASE + 2 * PAGE;
    assert_eq!(program.load(at), guarded(at));
    assert_eq!(program.store(at + PAGE, 1), guarded(at + PAGE));
    assert_eq!(program.numbers(BASE, 2), [1, 2]);
    assert_eq!(program.numbers(BASE + 4 * PAGE, 4), [5, 6, 7, 8]);
    assert_eq!(program.pages(), [(0, 8)]);
    let signal = program.load(at).unwrap_err().signal();
    assert_eq!(signal, Signal::Segv { code: 1 });
}

fn what_was_behind_a_guard_is_gone<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm, 4);
    advise(&program, 1, 2, INSTALL);
    advise(&program, 0, 4, INSTALL);
    advise(&program, 1, 3, REMOVE);
    assert_eq!(program.load(BASE), guarded(BASE));
    assert_eq!(program.numbers(BASE + PAGE, 3), [0, 0, 0]);
    advise(&program, 0, 4, REMOVE);
    program.number(BASE, 4);
    assert_eq!(program.numbers(BASE, 4), [1, 2, 3, 4]);
}

fn guards_outlive_rights_and_other_advice<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm, 6);
    advise(&program, 2, 1, INSTALL);
    let at = BASE + 2 * PAGE;
    program.protect(BASE, 6, Prot::empty());
    assert_eq!(program.load(at), no_load(at), "rights are looked at first");
    program.protect(BASE, 6, Prot::RW);
    assert_eq!(program.load(at), guarded(at));
    for advice in [4, 8, 20, 21, 24] {
        advise(&program, 0, 6, advice);
        assert_eq!(program.load(at), guarded(at), "advice {advice}");
    }
    assert_eq!(program.numbers(BASE, 2), [0, 0]);
    assert_eq!(program.numbers(BASE + 3 * PAGE, 3), [0, 0, 0]);
}

fn guards_of_shared_memory_are_ones_own<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(4 * PAGE).unwrap();
    program.map_object(BASE, 4, MapFlags::SHARED, &memory, 0);
    program.map_object(BASE + 8 * PAGE, 4, MapFlags::SHARED, &memory, 0);
    program.number(BASE, 4);
    advise(&program, 1, 2, INSTALL);
    let at = BASE + PAGE;
    assert_eq!((program.load(at), program.store(at, 9)), (guarded(at), guarded(at)));
    assert_eq!(program.numbers(BASE + 8 * PAGE, 4), [1, 2, 3, 4]);
    // Nor does a neighbour's fault map what is behind.
    advise(&program, 0, 4, 4);
    assert_eq!((program.get(BASE), program.get(BASE + 3 * PAGE)), (1, 4));
    assert_eq!(program.load(at), guarded(at));
    advise(&program, 0, 4, REMOVE);
    assert_eq!(program.numbers(BASE, 4), [1, 2, 3, 4], "only the way to it was barred");
    vm.close(&memory).unwrap();
}

fn a_child_inherits_guards_but_not_where_it_is_wiped<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm, 6);
    advise(&program, 1, 1, INSTALL);
    advise(&program, 4, 1, INSTALL);
    advise(&program, 3, 3, 18);
    let child = program.fork();
    assert_eq!(child.load(BASE + PAGE), guarded(BASE + PAGE));
    assert_eq!(child.numbers(BASE + 3 * PAGE, 3), [0, 0, 0]);
    advise(&child, 0, 6, REMOVE);
    child.number(BASE, 6);
    for page in [1, 4] {
        let at = BASE + page * PAGE;
        assert_eq!(program.load(at), guarded(at));
    }
    assert_eq!((program.get(BASE), program.get(BASE + 3 * PAGE)), (1, 4));
}

fn guards_move_with_their_pages<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm, 4);
    advise(&program, 1, 1, INSTALL);
    let away = BASE + 600 * PAGE;
    let fixed = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    assert_eq!(program.mremap(vm, BASE, 4 * PAGE, 4 * PAGE, fixed, away), Ok(away));
    assert_eq!(program.load(away + PAGE), guarded(away + PAGE));
    assert_eq!((program.get(away), program.get(away + 3 * PAGE)), (1, 4));
    let leave = fixed | RemapFlags::DONTUNMAP;
    assert_eq!(program.mremap(vm, away, 4 * PAGE, 4 * PAGE, leave, BASE), Ok(BASE));
    assert_eq!(program.load(BASE + PAGE), guarded(BASE + PAGE));
    assert_eq!(program.numbers(away, 4), [0, 0, 0, 0]);

    let memory = vm.shared_memory(4 * PAGE).unwrap();
    program.map_object(BASE, 4, MapFlags::SHARED, &memory, 0);
    program.number(BASE, 4);
    advise(&program, 2, 1, INSTALL);
    assert_eq!(program.mremap(vm, BASE, 4 * PAGE, 4 * PAGE, fixed, away), Ok(away));
    assert_eq!(program.load(away + 2 * PAGE), guarded(away + 2 * PAGE));
    assert_eq!(program.numbers(away, 2), [1, 2]);
    // What is mapped once more begins without.
    assert_eq!(program.mremap(vm, away, 0, 4 * PAGE, fixed, BASE), Ok(BASE));
    assert_eq!(program.numbers(BASE, 4), [1, 2, 3, 4]);
    vm.close(&memory).unwrap();
}

fn unmapping_and_mapping_over_end_a_guard<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm, 6);
    advise(&program, 0, 6, INSTALL);
    program.map_at(BASE + PAGE, 2);
    program.unmap(BASE + 4 * PAGE, 1);
    program.map_at(BASE + 4 * PAGE, 1);
    assert_eq!(program.numbers(BASE + PAGE, 2), [0, 0]);
    assert_eq!(program.get(BASE + 4 * PAGE), 0);
    for page in [0, 3, 5] {
        let at = BASE + page * PAGE;
        assert_eq!(program.load(at), guarded(at));
    }
}

fn guards_that_a_child_takes_away_stay_with_its_parent<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm, 4);
    advise(&program, 1, 2, INSTALL);
    let child = program.fork();
    advise(&child, 0, 4, REMOVE);
    assert_eq!(child.numbers(BASE, 4), [1, 0, 0, 4]);
    for at in [BASE + PAGE, BASE + 2 * PAGE] {
        assert_eq!(program.load(at), guarded(at));
    }
    assert_eq!((program.get(BASE), program.get(BASE + 3 * PAGE)), (1, 4));
}

fn a_node_without_guards_goes_beside_one_that_has_some<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1024);
    let nodes = || vm.statistics().nodes_made - vm.statistics().nodes_freed;
    advise(&program, 511, 1, INSTALL);
    let before = nodes();
    advise(&program, 512, 1, INSTALL);
    assert_eq!(nodes(), before + 1);
    advise(&program, 512, 1, REMOVE);
    assert_eq!(nodes(), before);
    advise(&program, 0, 512, INSTALL);
    assert_eq!(nodes(), before, "none behind the last guard");
}

fn locked_memory_takes_no_guards_but_gives_them_up<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm, 4);
    advise(&program, 1, 1, INSTALL);
    assert_eq!(program.mlock(vm, BASE, 4 * PAGE), Err(CallError::Unmapped));
    assert_eq!(program.locked_bytes(), 4 * PAGE);
    let install = |page| program.madvise(vm, BASE + page * PAGE, PAGE, INSTALL);
    assert_eq!(install(0), Err(CallError::Invalid));
    advise(&program, 0, 4, REMOVE);
    assert_eq!(program.numbers(BASE, 4), [1, 0, 3, 4]);
}

fn populating_stops_at_a_guard<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    advise(&program, 2, 1, INSTALL);
    for advice in [22, 23] {
        let answer = program.madvise(vm, BASE, 4 * PAGE, advice);
        assert_eq!(answer, Err(CallError::BadAddress));
        assert_eq!(program.resident_pages(vm), 2);
    }
}

fn guarded_pages_are_not_in_memory_unless_a_file_is<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm, 2);
    let object = vm.open_file(RamFile::<P>::numbered(1, 2)).unwrap();
    program.map_object(BASE + 2 * PAGE, 2, MapFlags::PRIVATE, &object, 0);
    program.number(BASE + 2 * PAGE, 1);
    advise(&program, 1, 2, INSTALL);
    let mut resident = [9; 4];
    assert_eq!(program.mincore(vm, BASE, 4 * PAGE, &mut resident), Ok(()));
    assert_eq!(resident, [1, 0, 1, 0]);
    vm.close(&object).unwrap();
}

fn holes_between_guarded_areas_are_told<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.map_at(BASE + 4 * PAGE, 2);
    for advice in [INSTALL, REMOVE] {
        let answer = program.madvise(vm, BASE, 6 * PAGE, advice);
        assert_eq!(answer, Err(CallError::Unmapped));
        let barred = program.load(BASE + 5 * PAGE).is_err();
        assert_eq!(barred, advice == INSTALL);
    }
}

fn a_guard_in_a_page_table_that_a_fork_shares_is_the_parents_alone<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm, 600);
    let child = program.fork();
    advise(&program, 100, 450, INSTALL);
    assert_eq!(child.get(BASE + 300 * PAGE), 46);
    let at = BASE + 300 * PAGE;
    assert_eq!(program.load(at), guarded(at));
    assert_eq!(
        (program.get(BASE), program.get(BASE + 599 * PAGE)),
        (1, child.get(BASE + 599 * PAGE))
    );
}
