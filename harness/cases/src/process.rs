//! Processes: birth, exec, exit, wait, and who inherits whom. One thread only, so nobody sleeps here.

use rumpvm::{CallError, Hold, Orphans, Pid, Process, State, Vm, WaitFor};
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, cases};

cases! {
    a_child_is_waited_for_once_and_tells_its_status,
    without_children_there_is_nothing_to_wait_for,
    a_wait_for_one_child_leaves_the_others,
    a_child_of_the_dead_goes_to_the_oldest_living_ancestor,
    a_process_without_family_is_gone_at_once,
    exec_leaves_the_old_space_to_nobody,
    a_vforked_child_uses_its_parents_space_until_it_execs,
    a_vforked_child_that_exits_leaves_its_parents_space_alone,
    the_mappings_of_the_dead_go_at_exit_and_a_hold_is_harmless,
    whoever_enters_a_space_keeps_it_alive,
    a_space_without_users_cannot_be_entered,
    zombies_of_the_dead_are_reaped_by_the_heir,
    orphans_go_to_the_nearest_living_ancestor_that_adopts_them,
    an_ancestor_that_has_exited_adopts_nobody,
    whether_one_adopts_is_not_inherited,
    a_process_exits_once,
    the_dead_neither_fork_nor_exec,
    a_zombie_keeps_its_number_and_its_parent_until_it_is_reaped,
    a_vforked_child_outlives_its_parents_use_of_the_space,
    a_wait_that_does_not_hang_finds_what_has_ended_and_only_that,
}

type Held<P> = Hold<Process<P>, P>;

fn wait<P: Platform>(
    vm: &Vm<P>,
    parent: &Held<P>,
    whom: WaitFor,
) -> Result<Option<(Pid, i32)>, CallError> {
    parent.wait(vm, whom, true)
}

fn a_child_is_waited_for_once_and_tells_its_status<P: Platform>(vm: &Vm<P>) {
    let parent = vm.first_process().unwrap();
    let child = parent.fork(vm).unwrap();
    let pid = child.pid();
    assert_eq!((child.parent(), child.state()), (Some(parent.pid()), State::Running));
    assert_eq!(wait(vm, &parent, WaitFor::Any), Ok(None));

    child.exit(vm, 42);
    assert_eq!(child.state(), State::Zombie(42));
    assert!(child.space().is_none());
    assert_eq!(wait(vm, &parent, WaitFor::Any), Ok(Some((pid, 42))));
    assert_eq!(child.state(), State::Reaped);
    assert_eq!(wait(vm, &parent, WaitFor::Any), Err(CallError::NoChild));
    assert!(vm.find_process(pid).is_none());
    parent.exit(vm, 0);
}

fn without_children_there_is_nothing_to_wait_for<P: Platform>(vm: &Vm<P>) {
    let (parent, stranger) = (vm.first_process().unwrap(), vm.first_process().unwrap());
    assert_eq!(wait(vm, &parent, WaitFor::Any), Err(CallError::NoChild));
    let other = WaitFor::Pid(stranger.pid());
    assert_eq!(wait(vm, &parent, other).map_err(CallError::errno), Err(10));
    stranger.exit(vm, 0);
    parent.exit(vm, 0);
}

fn a_wait_for_one_child_leaves_the_others<P: Platform>(vm: &Vm<P>) {
    let parent = vm.first_process().unwrap();
    let children = [0, 1, 2].map(|_| parent.fork(vm).unwrap());
    let pids = children.each_ref().map(|child| child.pid());
    children[2].exit(vm, 2);
    children[1].exit(vm, 1);
    assert_eq!(wait(vm, &parent, WaitFor::Pid(pids[0])), Ok(None));
    assert_eq!(wait(vm, &parent, WaitFor::Pid(pids[1])), Ok(Some((pids[1], 1))));
    assert_eq!(wait(vm, &parent, WaitFor::Pid(pids[1])), Err(CallError::NoChild));
    assert_eq!(wait(vm, &parent, WaitFor::Any), Ok(Some((pids[2], 2))));
    children[0].exit(vm, 0);
    assert_eq!(wait(vm, &parent, WaitFor::Any), Ok(Some((pids[0], 0))));
    parent.exit(vm, 0);
}

fn a_child_of_the_dead_goes_to_the_oldest_living_ancestor<P: Platform>(vm: &Vm<P>) {
    let oldest = vm.first_process().unwrap();
    let middle = oldest.fork(vm).unwrap();
    let parent = middle.fork(vm).unwrap();
    let child = parent.fork(vm).unwrap();
    parent.exit(vm, 3);
    assert_eq!(child.parent(), Some(oldest.pid()));
    child.exit(vm, 4);
    assert_eq!(wait(vm, &oldest, WaitFor::Any), Ok(Some((child.pid(), 4))));
    assert_eq!(wait(vm, &middle, WaitFor::Any), Ok(Some((parent.pid(), 3))));
    middle.exit(vm, 0);
    oldest.exit(vm, 0);
    assert!(vm.find_process(middle.pid()).is_none());
}

fn a_process_without_family_is_gone_at_once<P: Platform>(vm: &Vm<P>) {
    let first = vm.first_process().unwrap();
    let child = first.fork(vm).unwrap();
    first.exit(vm, 1);
    assert_eq!(first.state(), State::Reaped);
    assert_eq!((child.parent(), child.state()), (None, State::Running));
    child.exit(vm, 2);
    assert_eq!(child.state(), State::Reaped);
    let mut left = 0;
    vm.for_each_process(|_| left += 1);
    assert_eq!(left, 0);
}

fn exec_leaves_the_old_space_to_nobody<P: Platform>(vm: &Vm<P>) {
    let process = vm.first_process().unwrap();
    let old = process.space().unwrap();
    map(vm, &old);
    process.exec(vm).unwrap();
    let new = process.space().unwrap();
    assert!(!new.is(&old));
    assert_eq!((old.users(), new.users(), new.area_count()), (0, 1, 0));
    process.exit(vm, 0);
}

/// Maps a page at [`BASE`] and stores to it.
fn map<P: Platform>(vm: &Vm<P>, space: &rumpvm::Space<P>) {
    let flags = crate::program::ANON | rumpvm::MapFlags::FIXED;
    let prot = rumpvm_arch::Prot::RW;
    space.mmap(vm, BASE, PAGE, prot, flags, rumpvm::Backing::Anonymous, 0).unwrap();
    space.copy_out(vm, BASE, b"old").unwrap();
}

fn read<P: Platform>(vm: &Vm<P>, space: &rumpvm::Space<P>) -> [u8; 3] {
    let mut bytes = [0; 3];
    space.copy_in(vm, BASE, &mut bytes).unwrap();
    bytes
}

fn a_vforked_child_uses_its_parents_space_until_it_execs<P: Platform>(vm: &Vm<P>) {
    let parent = vm.first_process().unwrap();
    let space = parent.space().unwrap();
    map(vm, &space);
    let child = parent.vfork(vm).unwrap();
    let childs = child.space().unwrap();
    assert!(childs.is(&space));
    assert_eq!(space.users(), 2);
    childs.copy_out(vm, BASE, b"new").unwrap();
    child.exec(vm).unwrap();
    child.await_release();
    assert_eq!((space.users(), read(vm, &space)), (1, *b"new"));
    child.exit(vm, 0);
    assert!(wait(vm, &parent, WaitFor::Any).unwrap().is_some());
    parent.exit(vm, 0);
}

fn a_vforked_child_that_exits_leaves_its_parents_space_alone<P: Platform>(vm: &Vm<P>) {
    let parent = vm.first_process().unwrap();
    let space = parent.space().unwrap();
    map(vm, &space);
    let child = parent.vfork(vm).unwrap();
    child.exit(vm, 9);
    child.await_release();
    assert_eq!((space.users(), read(vm, &space)), (1, *b"old"));
    assert_eq!(wait(vm, &parent, WaitFor::Any), Ok(Some((child.pid(), 9))));
    parent.exit(vm, 0);
}

fn the_mappings_of_the_dead_go_at_exit_and_a_hold_is_harmless<P: Platform>(vm: &Vm<P>) {
    let process = vm.first_process().unwrap();
    let hold = process.space().unwrap();
    map(vm, &hold);
    let before = vm.statistics().nodes_freed;
    process.exit(vm, 0);
    assert!(vm.statistics().nodes_freed > before);
    assert_eq!(hold.users(), 0);
    assert_eq!(vm.check(), Ok(()));
    let again = hold.clone();
    drop(hold);
    assert!(!again.try_enter());
}

fn whoever_enters_a_space_keeps_it_alive<P: Platform>(vm: &Vm<P>) {
    let process = vm.first_process().unwrap();
    let space = process.space().unwrap();
    map(vm, &space);
    assert!(space.try_enter());
    process.exit(vm, 0);
    assert_eq!(read(vm, &space), *b"old");
    vm.leave_space(&space);
    assert_eq!(space.users(), 0);
}

fn a_space_without_users_cannot_be_entered<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let hold = program.hold();
    assert!(hold.try_enter());
    vm.leave_space(&hold);
    drop(program);
    assert!(!hold.try_enter());
    assert_eq!(hold.users(), 0);
}

fn zombies_of_the_dead_are_reaped_by_the_heir<P: Platform>(vm: &Vm<P>) {
    let oldest = vm.first_process().unwrap();
    let parent = oldest.fork(vm).unwrap();
    let child = parent.fork(vm).unwrap();
    child.exit(vm, 5);
    parent.exit(vm, 6);
    let mut reaped = [0, 0].map(|_| wait(vm, &oldest, WaitFor::Any).unwrap().unwrap().1);
    reaped.sort_unstable();
    assert_eq!(reaped, [5, 6]);
    assert_eq!(wait(vm, &oldest, WaitFor::Any), Err(CallError::NoChild));
    oldest.exit(vm, 0);
}

fn orphans_go_to_the_nearest_living_ancestor_that_adopts_them<P: Platform>(vm: &Vm<P>) {
    let oldest = vm.first_process().unwrap();
    let far = oldest.fork(vm).unwrap();
    let near = far.fork(vm).unwrap();
    let parent = near.fork(vm).unwrap();
    let children = [parent.fork(vm).unwrap(), parent.fork(vm).unwrap()];
    far.set_orphans(Orphans::Adopt);
    children[0].exit(vm, 7);
    parent.exit(vm, 3);
    assert!(children.iter().all(|child| child.parent() == Some(far.pid())));
    // A zombie that was inherited is there to be waited for.
    assert_eq!(wait(vm, &far, WaitFor::Any), Ok(Some((children[0].pid(), 7))));
    assert_eq!(wait(vm, &near, WaitFor::Any), Ok(Some((parent.pid(), 3))));
    far.set_orphans(Orphans::PassOn);
    near.exit(vm, 2);
    assert_eq!(near.state(), State::Zombie(2));
    far.exit(vm, 1);
    assert_eq!(children[1].parent(), Some(oldest.pid()));
    children[1].exit(vm, 8);
    let mut statuses = [0; 3].map(|_| wait(vm, &oldest, WaitFor::Any).unwrap().unwrap().1);
    statuses.sort_unstable();
    assert_eq!(statuses, [1, 2, 8]);
    oldest.exit(vm, 0);
}

fn an_ancestor_that_has_exited_adopts_nobody<P: Platform>(vm: &Vm<P>) {
    let oldest = vm.first_process().unwrap();
    let adopter = oldest.fork(vm).unwrap();
    let parent = adopter.fork(vm).unwrap();
    let child = parent.fork(vm).unwrap();
    adopter.set_orphans(Orphans::Adopt);
    adopter.exit(vm, 1);
    parent.exit(vm, 2);
    assert_eq!(child.parent(), Some(oldest.pid()));
    child.exit(vm, 3);
    (0..3).for_each(|_| assert!(wait(vm, &oldest, WaitFor::Any).unwrap().is_some()));
    oldest.exit(vm, 0);
}

fn whether_one_adopts_is_not_inherited<P: Platform>(vm: &Vm<P>) {
    let oldest = vm.first_process().unwrap();
    oldest.set_orphans(Orphans::Adopt);
    let middle = oldest.fork(vm).unwrap();
    let parent = middle.fork(vm).unwrap();
    let child = parent.fork(vm).unwrap();
    parent.exit(vm, 0);
    assert_eq!(child.parent(), Some(oldest.pid()));
    child.exit(vm, 0);
    middle.exit(vm, 0);
    (0..3).for_each(|_| assert!(wait(vm, &oldest, WaitFor::Any).unwrap().is_some()));
    oldest.exit(vm, 0);
}

fn a_process_exits_once<P: Platform>(vm: &Vm<P>) {
    let parent = vm.first_process().unwrap();
    let child = parent.fork(vm).unwrap();
    child.exit(vm, 1);
    child.exit(vm, 2);
    assert_eq!(wait(vm, &parent, WaitFor::Any), Ok(Some((child.pid(), 1))));
    child.exit(vm, 3);
    assert_eq!(child.state(), State::Reaped);
    parent.exit(vm, 0);
}

fn the_dead_neither_fork_nor_exec<P: Platform>(vm: &Vm<P>) {
    let parent = vm.first_process().unwrap();
    let child = parent.fork(vm).unwrap();
    let spaces = |vm: &Vm<P>| {
        let mut spaces = 0;
        vm.for_each_space(|_| spaces += 1);
        spaces
    };
    child.exit(vm, 0);
    let before = spaces(vm);
    assert_eq!(child.fork(vm).err(), Some(CallError::Invalid));
    assert_eq!(child.vfork(vm).err(), Some(CallError::Invalid));
    assert_eq!(child.exec(vm), Err(CallError::Invalid));
    assert_eq!((child.state(), spaces(vm)), (State::Zombie(0), before));
    assert!(wait(vm, &parent, WaitFor::Any).unwrap().is_some());
    parent.exit(vm, 0);
}

fn a_zombie_keeps_its_number_and_its_parent_until_it_is_reaped<P: Platform>(vm: &Vm<P>) {
    let parent = vm.first_process().unwrap();
    let child = parent.fork(vm).unwrap();
    let pid = child.pid();
    child.exit(vm, 5);
    drop(child);
    let zombie = vm.find_process(pid).unwrap();
    assert_eq!((zombie.parent(), zombie.state()), (Some(parent.pid()), State::Zombie(5)));
    assert_eq!(zombie.count(), 2);
    assert!(wait(vm, &parent, WaitFor::Any).unwrap().is_some());
    // Stage two: the last hold keeps the memory, and nothing else.
    assert_eq!((zombie.count(), zombie.state()), (1, State::Reaped));
    assert!(vm.find_process(pid).is_none());
    parent.exit(vm, 0);
}

fn a_vforked_child_outlives_its_parents_use_of_the_space<P: Platform>(vm: &Vm<P>) {
    let parent = vm.first_process().unwrap();
    let space = parent.space().unwrap();
    map(vm, &space);
    let children = [parent.vfork(vm).unwrap(), parent.vfork(vm).unwrap()];
    parent.exec(vm).unwrap();
    assert_eq!((space.users(), read(vm, &space)), (2, *b"old"));
    children[0].exec(vm).unwrap();
    children[0].await_release();
    assert_eq!((space.users(), read(vm, &space)), (1, *b"old"));
    parent.exit(vm, 0);
    children[1].exit(vm, 0);
    assert_eq!(space.users(), 0);
    children[0].exit(vm, 0);
}

fn a_wait_that_does_not_hang_finds_what_has_ended_and_only_that<P: Platform>(vm: &Vm<P>) {
    let parent = vm.first_process().unwrap();
    let (first, second) = (parent.fork(vm).unwrap(), parent.fork(vm).unwrap());
    assert_eq!(wait(vm, &parent, WaitFor::Any), Ok(None));
    second.exit(vm, 2);
    assert_eq!(wait(vm, &parent, WaitFor::Pid(first.pid())), Ok(None));
    assert_eq!(wait(vm, &parent, WaitFor::Any), Ok(Some((second.pid(), 2))));
    assert_eq!(wait(vm, &parent, WaitFor::Any), Ok(None));
    first.exit(vm, 1);
    assert_eq!(wait(vm, &parent, WaitFor::Any), Ok(Some((first.pid(), 1))));
    parent.exit(vm, 0);
}
