//! Limits of a space: what goes beyond one is refused and changes nothing.

use rumpvm::{
    Backing, CallError, CommitPolicy, Limits, MapFlags, Overcommit, RemapFlags, Reserve, Vm,
};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{ANON, BASE};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    the_address_space_limit_refuses_what_would_exceed_it,
    replacing_a_mapping_does_not_count_twice,
    the_area_limit_refuses_a_cut_but_not_a_removal,
    a_mapping_larger_than_memory_is_refused_unless_overcommit_is_allowed,
    promises_are_counted_and_kept_below_the_limit,
    a_private_mapping_of_a_file_stays_promised_without_its_rights,
    reserves_are_kept_from_who_may_not_use_them,
    the_data_limit_counts_private_memory_that_can_be_stored_to,
    the_data_limit_holds_for_what_moves_as_well,
    rights_change_up_to_the_area_that_would_be_too_much_data,
    the_data_limit_is_not_asked_where_the_address_space_leaves_no_room,
    a_move_stays_three_areas_below_their_limit,
    the_lowest_address_cannot_be_mapped,
    what_grows_may_reach_the_address_space_limit_and_not_pass_it,
    a_space_above_its_limits_may_still_replace_what_it_has,
    a_space_above_its_area_limit_may_still_change_an_area_as_a_whole,
    limits_are_inherited,
    a_parent_above_its_area_limit_can_still_fork,
}

fn the_address_space_limit_refuses_what_would_exceed_it<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.set_limits(Limits { address_space: 8 * PAGE, ..Limits::default() });
    program.map_at(BASE, 6);
    assert_eq!(program.try_map(VirtAddr(0), 3, ANON), Err(CallError::NoMemory));
    let grown = program.mremap(vm, BASE, 6 * PAGE, 9 * PAGE, RemapFlags::MAYMOVE, VirtAddr(0));
    assert_eq!(grown, Err(CallError::NoMemory));
    let at = program.map(2);
    assert_eq!(program.mapped_bytes(), 8 * PAGE);
    program.unmap(at, 1);
    program.map(1);
}

fn replacing_a_mapping_does_not_count_twice<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.set_limits(Limits { address_space: 8 * PAGE, ..Limits::default() });
    program.map_at(BASE, 8);
    program.map_at(BASE + 2 * PAGE, 6);
    assert_eq!(program.mapped_bytes(), 8 * PAGE);
}

fn the_area_limit_refuses_a_cut_but_not_a_removal<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 9);
    program.map_at(BASE + 20 * PAGE, 1);
    program.set_limits(Limits { areas: 2, ..Limits::default() });
    let table = program.table();
    let middle = BASE + 4 * PAGE;
    assert_eq!(program.munmap(vm, middle, PAGE), Err(CallError::NoMemory));
    assert_eq!(program.mprotect(vm, middle, PAGE, Prot::READ), Err(CallError::NoMemory));
    // Linux's word for it in advice.
    assert_eq!(program.madvise(vm, middle, PAGE, 1), Err(CallError::Again));
    assert_eq!(program.table(), table);
    program.set(middle, 1);
    let third = program.map(1);
    assert_eq!(program.try_map(VirtAddr(0), 1, ANON), Err(CallError::NoMemory), "one too many");
    program.unmap(third, 1);
    program.unmap(BASE, 1);
    program.unmap(BASE + 20 * PAGE, 1);
    program.unmap(middle, 1);
}

fn a_mapping_larger_than_memory_is_refused_unless_overcommit_is_allowed<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let pages = vm.statistics().frames_total + 1;
    let large = |flags| program.try_map(VirtAddr(0), pages, flags);
    assert_eq!(large(ANON), Err(CallError::NoMemory));
    large(ANON | MapFlags::NORESERVE).expect("a promise that is not kept in mind");
    vm.set_commit_policy(CommitPolicy { mode: Overcommit::Always, ..CommitPolicy::default() });
    large(ANON).expect("promises without end");
    vm.set_commit_policy(CommitPolicy::default());
}

fn promises_are_counted_and_kept_below_the_limit<P: Platform>(vm: &Vm<P>) {
    let before = vm.committed();
    let policy = CommitPolicy {
        mode: Overcommit::Never,
        bytes: before + 100 * PAGE,
        user_reserve: 0,
        ..CommitPolicy::default()
    };
    vm.set_commit_policy(policy);
    assert_eq!(vm.commit_limit(), before + 100 * PAGE);
    let committed = || (vm.committed() - before) / PAGE;
    let program = Program::new(vm);
    program.map_at(BASE, 40);
    let shared = MapFlags::SHARED | MapFlags::ANONYMOUS;
    let object = program.try_map(VirtAddr(0), 20, shared).unwrap();
    assert_eq!(committed(), 60);
    let flags = ANON | MapFlags::NORESERVE;
    assert_eq!(program.try_map(VirtAddr(0), 40, flags), Err(CallError::NoMemory));
    let fork = vm.fork_space(&program.hold());
    assert_eq!((fork.map(drop), committed()), (Err(rumpvm::NoMemory), 60));
    program.protect(BASE, 20, Prot::READ);
    assert_eq!(committed(), 40, "nobody has touched it");
    program.protect(BASE, 20, Prot::RW);
    program.set(BASE, 1);
    program.protect(BASE, 20, Prot::READ);
    assert_eq!(committed(), 60, "what was touched stays promised");
    program.unmap(BASE, 20);
    program.unmap(object, 10);
    assert_eq!(committed(), 40, "shared memory stays promised as a whole");
    let child = program.fork();
    assert_eq!(committed(), 60);
    drop(child);
    program.unmap(object + 10 * PAGE, 10);
    assert_eq!(committed(), 20);
    let text =
        program.mmap(vm, VirtAddr(0), 90 * PAGE, Prot::READ, ANON, Backing::Anonymous, 0).unwrap();
    assert_eq!(committed(), 20);
    let rights = Prot::RW;
    assert_eq!(program.mprotect(vm, text, 90 * PAGE, rights), Err(CallError::NoMemory));
    assert_eq!((program.mprotect(vm, text, 50 * PAGE, rights), committed()), (Ok(()), 70));
    vm.set_commit_policy(CommitPolicy { bytes: before + PAGE, ..policy });
    assert_eq!(program.mprotect(vm, text, 51 * PAGE, rights), Err(CallError::NoMemory));
    assert_eq!(program.mprotect(vm, text, 50 * PAGE, rights), Ok(()), "nothing more is promised");
    vm.set_commit_policy(CommitPolicy::default());
    drop(program);
    assert_eq!(vm.committed(), before);
}

fn a_private_mapping_of_a_file_stays_promised_without_its_rights<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 4)).unwrap();
    program.map_object(BASE, 4, MapFlags::PRIVATE, &object, 0);
    vm.close(&object).unwrap();
    assert_eq!(program.promised_bytes(), 4 * PAGE);
    program.protect(BASE, 4, Prot::READ);
    assert_eq!(program.promised_bytes(), 4 * PAGE);
}

fn reserves_are_kept_from_who_may_not_use_them<P: Platform>(vm: &Vm<P>) {
    let policy = CommitPolicy {
        mode: Overcommit::Never,
        bytes: 100 * PAGE,
        admin_reserve: 50 * PAGE,
        ..CommitPolicy::default()
    };
    vm.set_commit_policy(policy);
    let program = Program::new(vm);
    program.set_limits(Limits { reserve: Reserve::Kept, ..Limits::default() });
    assert_eq!(program.try_map(VirtAddr(0), 60, ANON), Err(CallError::NoMemory));
    program.map(40);
    program.set_limits(Limits::default());
    program.map(50);
    vm.set_commit_policy(CommitPolicy::default());
}

fn the_data_limit_counts_private_memory_that_can_be_stored_to<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    let limits = Limits { data: 4 * PAGE, ..Limits::default() };
    program.set_limits(limits);
    assert_eq!(program.data_bytes(), 4 * PAGE);
    assert_eq!(program.try_map(VirtAddr(0), 1, ANON), Err(CallError::NoMemory));
    program.map_at(BASE, 1);
    program.try_map(VirtAddr(0), 1, ANON | MapFlags::GROWSDOWN).unwrap();
    program.try_map(VirtAddr(0), 1, MapFlags::SHARED | MapFlags::ANONYMOUS).unwrap();
    let text =
        program.mmap(vm, VirtAddr(0), PAGE, Prot::READ, ANON, Backing::Anonymous, 0).unwrap();
    let refused = program.mprotect(vm, text, PAGE, Prot::RW);
    assert_eq!(refused, Err(CallError::NoMemory));
    program.unmap(BASE, 1);
    program.protect(text, 1, Prot::RW);
}

fn the_data_limit_holds_for_what_moves_as_well<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    program.map_at(BASE + 4 * PAGE, 4);
    program.set_limits(Limits { data: 9 * PAGE, ..Limits::default() });
    let moves = RemapFlags::MAYMOVE;
    let remap = |length, flags| program.mremap(vm, BASE, 4 * PAGE, length, flags, VirtAddr(0));
    assert_eq!(remap(6 * PAGE, moves), Err(CallError::NoMemory));
    assert_eq!(remap(4 * PAGE, moves | RemapFlags::DONTUNMAP), Err(CallError::NoMemory));
    assert_eq!(program.data_bytes(), 8 * PAGE);
    remap(5 * PAGE, moves).unwrap();
}

/// Areas of 1, 2 and 1 pages that can be loaded from, each with its neighbour at a distance in rights.
fn three_texts<P: Platform>(vm: &Vm<P>) -> Program<'_, P> {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    program.protect(BASE, 4, Prot::READ);
    program.protect(BASE + PAGE, 2, Prot::empty());
    program
}

fn rights_change_up_to_the_area_that_would_be_too_much_data<P: Platform>(vm: &Vm<P>) {
    let program = three_texts(vm);
    program.set_limits(Limits { data: 2 * PAGE, ..Limits::default() });
    let all = program.mprotect(vm, BASE, 4 * PAGE, Prot::RW);
    assert_eq!(all, Err(CallError::NoMemory));
    let rights = program.table().into_iter().map(|(range, prot, _)| (range.pages(), prot));
    let expected = [(1, Prot::RW), (2, Prot::empty()), (1, Prot::READ)];
    assert!(rights.eq(expected), "{:?}", program.table());
    assert_eq!(program.data_bytes(), PAGE);
    program.protect(BASE + 3 * PAGE, 1, Prot::RW);
}

fn the_data_limit_is_not_asked_where_the_address_space_leaves_no_room<P: Platform>(vm: &Vm<P>) {
    let program = three_texts(vm);
    program.set_limits(Limits { data: 0, address_space: 5 * PAGE, ..Limits::default() });
    let mprotect = |page: u64, pages: u64| {
        program.mprotect(vm, BASE + page * PAGE, pages * PAGE, Prot::RW).map_err(CallError::errno)
    };
    assert_eq!(mprotect(0, 1), Err(12));
    assert_eq!(mprotect(1, 2), Ok(()), "of two pages there cannot be as much again");
    assert_eq!(mprotect(1, 3), Err(12), "the last one is small enough");
    assert_eq!(program.data_bytes(), 2 * PAGE);
}

fn a_move_stays_three_areas_below_their_limit<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    let to = BASE + 20 * PAGE;
    let moves = RemapFlags::MAYMOVE;
    let table = program.table();
    for (flags, enough) in
        [(moves, 5), (moves | RemapFlags::FIXED, 7), (moves | RemapFlags::DONTUNMAP, 7)]
    {
        let room = |areas| Limits { areas, ..Limits::default() };
        let length = if flags.contains(RemapFlags::DONTUNMAP) { PAGE } else { 2 * PAGE };
        program.set_limits(room(enough - 1));
        let moved = program.mremap(vm, BASE, PAGE, length, flags, to);
        let grows_here = flags == moves;
        assert_eq!(moved, if grows_here { Ok(BASE) } else { Err(CallError::NoMemory) });
        program.set_limits(Limits::default());
        if grows_here {
            program.unmap(BASE + PAGE, 1);
        }
        assert_eq!(program.table(), table);
    }
    program.map_at(BASE + PAGE, 1);
    program.protect(BASE + PAGE, 1, Prot::READ);
    for (areas, fits) in [(5, false), (6, true)] {
        program.set_limits(Limits { areas, ..Limits::default() });
        let moved = program.mremap(vm, BASE, PAGE, 2 * PAGE, moves, VirtAddr(0));
        let refused = moved.err();
        assert_eq!(refused, (!fits).then_some(CallError::NoMemory), "{areas}");
    }
}

fn the_lowest_address_cannot_be_mapped<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let lowest = VirtAddr(Limits::default().lowest);
    let fixed = ANON | MapFlags::FIXED;
    assert_eq!(program.try_map(lowest - PAGE, 1, fixed), Err(CallError::NotPermitted));
    assert_eq!(program.try_map(lowest - PAGE, 1, ANON), Ok(lowest), "a hint is moved up");
    assert_eq!(program.try_map(lowest, 1, fixed), Ok(lowest));
}

fn what_grows_may_reach_the_address_space_limit_and_not_pass_it<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.set_limits(Limits { address_space: 5 * PAGE, ..Limits::default() });
    let grow = |from: u64, to: u64| {
        let flags = RemapFlags::MAYMOVE;
        program.mremap(vm, BASE, from * PAGE, to * PAGE, flags, VirtAddr(0)).map(|_| ())
    };
    assert_eq!(grow(2, 4), Ok(()));
    // It would have to move.
    program.map_at(BASE + 4 * PAGE, 1);
    assert_eq!(grow(4, 5), Err(CallError::NoMemory));
    program.unmap(BASE + 4 * PAGE, 1);
    assert_eq!(grow(4, 5), Ok(()));
}

fn a_space_above_its_limits_may_still_replace_what_it_has<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let flags = ANON | MapFlags::FIXED;
    program.try_map(BASE, 4, flags).unwrap();
    program.set_limits(Limits { address_space: PAGE, ..Limits::default() });
    assert_eq!(program.try_map(BASE, 4, flags), Ok(BASE));
    assert_eq!(program.try_map(BASE, 5, flags), Err(CallError::NoMemory));
}

fn a_space_above_its_area_limit_may_still_change_an_area_as_a_whole<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    (0..3).for_each(|number| program.map_at(BASE + 4 * number * PAGE, 2));
    program.set_limits(Limits { areas: 2, ..Limits::default() });
    program.protect(BASE, 2, Prot::READ);
    assert_eq!(program.table()[0].1, Prot::READ);
}

fn limits_are_inherited<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    let limits = Limits { stack: 5 * PAGE, data: 6 * PAGE, ..Limits::default() };
    parent.set_limits(limits);
    assert_eq!(parent.fork().limits(), limits);
}

fn a_parent_above_its_area_limit_can_still_fork<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    for page in 0..5 {
        parent.map_at(BASE + 2 * page * PAGE, 1);
    }
    parent.set_limits(Limits { areas: 2, ..Limits::default() });
    assert_eq!(parent.fork().table(), parent.table());
}
