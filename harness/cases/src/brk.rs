//! brk(2), as the kernel's call has it: the answer is always where the heap ends now.

use rumpvm::{CommitPolicy, Limits, LockAllFlags, Overcommit, Vm};
use rumpvm_arch::{Format, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{ANON, BASE, unmapped};
use crate::{PAGE, Program, cases};

cases! {
    the_heap_begins_empty_and_grows_byte_by_byte,
    shrinking_gives_pages_back_and_growing_again_gives_zeros,
    the_heap_does_not_grow_into_a_mapping_nor_up_to_it,
    the_heap_does_not_shrink_over_nothing_at_all,
    it_is_one_area_with_what_continues_it,
    what_the_heap_gains_is_brought_in_only_if_it_is_locked,
    the_limit_of_data_holds,
    a_request_out_of_reach_changes_nothing,
    the_heap_grows_nowhere_below_the_lowest_address,
    the_heap_may_reach_the_end_of_user_memory_and_not_beyond,
    a_child_has_its_own_end_of_the_heap,
}

fn with_heap<P: Platform>(vm: &Vm<P>) -> Program<'_, P> {
    let program = Program::new(vm);
    program.set_brk_base(BASE + 16);
    program
}

fn the_heap_begins_empty_and_grows_byte_by_byte<P: Platform>(vm: &Vm<P>) {
    let program = with_heap(vm);
    let start = BASE + 16;
    assert_eq!(program.brk(vm, VirtAddr(0)), start);
    assert_eq!(program.brk(vm, start + 10), start + 10);
    assert_eq!(program.pages(), [(1, 1); 0], "the first page begins below the heap's start");
    assert_eq!(program.brk(vm, BASE + 3 * PAGE + 5), BASE + 3 * PAGE + 5);
    assert_eq!(program.pages(), [(1, 4)]);
    program.set(BASE + 3 * PAGE + 4, 1);
    assert_eq!(program.brk_base(), start);
}

fn shrinking_gives_pages_back_and_growing_again_gives_zeros<P: Platform>(vm: &Vm<P>) {
    let program = with_heap(vm);
    program.brk(vm, BASE + 8 * PAGE);
    program.number(BASE + PAGE, 7);
    assert_eq!(program.brk(vm, BASE + 4 * PAGE + 1), BASE + 4 * PAGE + 1);
    assert_eq!(program.pages(), [(1, 5)]);
    assert_eq!(program.load(BASE + 5 * PAGE), unmapped(BASE + 5 * PAGE));
    program.brk(vm, BASE + 8 * PAGE);
    assert_eq!(program.numbers(BASE + PAGE, 7), [1, 2, 3, 4, 0, 0, 0]);
}

fn the_heap_does_not_grow_into_a_mapping_nor_up_to_it<P: Platform>(vm: &Vm<P>) {
    let program = with_heap(vm);
    program.map_at(BASE + 10 * PAGE, 1);
    let end = BASE + 2 * PAGE;
    assert_eq!(program.brk(vm, end), end);
    assert_eq!(program.brk(vm, BASE + 11 * PAGE), end);
    assert_eq!(program.brk(vm, BASE + 10 * PAGE), end);
    assert_eq!(program.brk(vm, BASE + 9 * PAGE), BASE + 9 * PAGE);
    assert_eq!(program.try_map(BASE + 9 * PAGE, 1, ANON), Ok(BASE + 9 * PAGE));
}

fn the_heap_does_not_shrink_over_nothing_at_all<P: Platform>(vm: &Vm<P>) {
    let program = with_heap(vm);
    let end = BASE + 8 * PAGE;
    program.brk(vm, end);
    program.unmap(BASE + 4 * PAGE, 4);
    assert_eq!(program.brk(vm, BASE + 5 * PAGE), end);
    assert_eq!(program.brk(vm, end - 1), end - 1, "in the same page");
    assert_eq!(program.brk(vm, BASE + 3 * PAGE), BASE + 3 * PAGE);
    assert_eq!(program.pages(), [(1, 3)]);
}

fn it_is_one_area_with_what_continues_it<P: Platform>(vm: &Vm<P>) {
    let program = with_heap(vm);
    program.brk(vm, BASE + 4 * PAGE);
    program.map_at(BASE + 4 * PAGE, 2);
    assert_eq!(program.pages(), [(1, 6)]);
}

fn what_the_heap_gains_is_brought_in_only_if_it_is_locked<P: Platform>(vm: &Vm<P>) {
    let program = with_heap(vm);
    program.brk(vm, BASE + 4 * PAGE);
    assert_eq!(program.resident_pages(vm), 0);
    program.mlockall(vm, LockAllFlags::FUTURE).unwrap();
    program.brk(vm, BASE + 6 * PAGE);
    assert_eq!((program.resident_pages(vm), program.locked_bytes()), (2, 2 * PAGE));
}

fn the_limit_of_data_holds<P: Platform>(vm: &Vm<P>) {
    let program = with_heap(vm);
    program.set_limits(Limits { data: 4 * PAGE, ..Limits::default() });
    let (start, end) = (BASE + 16, BASE + 16 + 4 * PAGE);
    assert_eq!(program.brk(vm, end + 1), start);
    assert_eq!(program.brk(vm, end), end);
}

fn a_request_out_of_reach_changes_nothing<P: Platform>(vm: &Vm<P>) {
    let program = with_heap(vm);
    let end = program.brk(vm, BASE + 2 * PAGE);
    for at in [P::Format::USER_END + PAGE, VirtAddr(u64::MAX), BASE, BASE + 15] {
        assert_eq!(program.brk(vm, at), end);
    }
    assert_eq!(program.pages(), [(1, 2)]);
}

fn the_heap_grows_nowhere_below_the_lowest_address<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let lowest = VirtAddr(Limits::default().lowest);
    assert_eq!(program.brk(vm, VirtAddr(0)), VirtAddr(0), "nobody has said where it begins");
    assert_eq!(program.brk(vm, VirtAddr(PAGE)), VirtAddr(0));
    assert_eq!(program.brk(vm, lowest + PAGE), VirtAddr(0));
    program.set_brk_base(lowest - PAGE);
    assert_eq!(program.brk(vm, lowest + PAGE), lowest - PAGE);
    assert_eq!(program.pages(), [(1, 0); 0]);
    assert_eq!(program.load(VirtAddr(0)), unmapped(VirtAddr(0)));
    program.set_brk_base(lowest);
    assert_eq!(program.brk(vm, lowest + PAGE), lowest + PAGE);
    program.set(lowest, 1);
    assert_eq!(program.get(lowest), 1);
}

fn the_heap_may_reach_the_end_of_user_memory_and_not_beyond<P: Platform>(vm: &Vm<P>) {
    let program = with_heap(vm);
    vm.set_commit_policy(CommitPolicy { mode: Overcommit::Always, ..CommitPolicy::default() });
    let (start, end) = (BASE + 16, P::Format::USER_END);
    assert_eq!(program.brk(vm, end + PAGE), start);
    assert_eq!(program.brk(vm, end), end);
    assert_eq!(program.brk(vm, end + 1), end);
    assert_eq!(program.brk(vm, start), start);
    vm.set_commit_policy(CommitPolicy::default());
}

fn a_child_has_its_own_end_of_the_heap<P: Platform>(vm: &Vm<P>) {
    let parent = with_heap(vm);
    parent.brk(vm, BASE + 4 * PAGE);
    parent.number(BASE + PAGE, 3);
    let child = parent.fork();
    child.brk(vm, BASE + 2 * PAGE);
    parent.brk(vm, BASE + 6 * PAGE);
    assert_eq!(parent.numbers(BASE + PAGE, 4), [1, 2, 3, 0]);
    assert_eq!((child.pages(), child.get(BASE + PAGE)), (alloc::vec![(1, 2)], 1));
}
