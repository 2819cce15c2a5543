//! Processes: birth, exec, exit, wait, and who inherits whom. One thread only, so nobody sleeps here.

use rumpvm::{CallError, Hold, Pid, Process, State, Vm, WaitFor};
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
