//! Stacks: areas that grow downwards when a program touches what is below them.

use rumpvm::{Backing, CallError, Limits, MapFlags, RemapFlags, Vm};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{ANON, BASE, unmapped};
use crate::{PAGE, Program, cases};

/// Pages kept free below a stack.
const GUARD: u64 = 256;
/// First page of the stack of these cases.
const TOP: VirtAddr = VirtAddr(0x5000_0000);
const NO_ROOM: Result<VirtAddr, CallError> = Err(CallError::NoMemory);

cases! {
    a_touch_below_grows_the_stack_to_the_page_touched,
    a_stack_keeps_its_guard_from_what_is_below,
    a_neighbour_without_rights_needs_no_guard,
    a_stack_does_not_grow_beyond_its_limit,
    a_stack_grows_by_any_access_its_rights_allow,
    a_stack_may_reach_the_limits_of_the_space,
    a_locked_stack_counts_what_it_gains,
    a_copy_of_the_kernel_grows_the_stack_too,
    nothing_grows_above_a_stack,
    what_is_below_a_stack_may_be_remapped_up_to_it,
    a_stack_that_was_split_is_one_area_again,
    a_stack_is_remapped_larger_as_a_whole,
}

fn with_stack<P: Platform>(vm: &Vm<P>) -> Program<'_, P> {
    let program = Program::new(vm);
    let flags = ANON | MapFlags::GROWSDOWN | MapFlags::FIXED;
    assert_eq!(program.try_map(TOP, 2, flags), Ok(TOP));
    program
}

fn pages<P: Platform>(program: &Program<'_, P>) -> u64 {
    program.table().iter().map(|(range, ..)| range.pages()).sum()
}

fn a_touch_below_grows_the_stack_to_the_page_touched<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    program.set(TOP, 1);
    program.set(TOP - 1, 2);
    assert_eq!(pages(&program), 3);
    program.set(TOP - 100 * PAGE, 3);
    assert_eq!((pages(&program), program.area_count()), (102, 1));
    assert_eq!((program.get(TOP), program.get(TOP - 1)), (1, 2));
    assert_eq!(program.get(TOP - 50 * PAGE), 0);
    assert_eq!(program.mapped_bytes(), 102 * PAGE);
}

fn a_stack_keeps_its_guard_from_what_is_below<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    program.map_at(TOP - 300 * PAGE, 1);
    let lowest = TOP - (300 - GUARD - 1) * PAGE;
    let refused = lowest - 1;
    assert_eq!(program.store(refused, 1), unmapped(refused));
    assert_eq!(pages(&program), 3);
    program.set(lowest, 1);
    assert_eq!(program.load(refused), unmapped(refused));
}

fn a_neighbour_without_rights_needs_no_guard<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    program.map_at(TOP - 10 * PAGE, 1);
    program.protect(TOP - 10 * PAGE, 1, Prot::empty());
    program.set(TOP - 9 * PAGE, 1);
    assert_eq!(pages(&program), 12);
}

fn a_stack_does_not_grow_beyond_its_limit<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    program.set_limits(Limits { stack: 10 * PAGE, ..Limits::default() });
    let refused = TOP - 8 * PAGE - 1;
    assert_eq!(program.load(refused), unmapped(refused));
    program.set(TOP - 8 * PAGE, 1);
    assert_eq!(pages(&program), 10);
    program.set_limits(Limits { address_space: 10 * PAGE, ..Limits::default() });
    assert_eq!(program.load(refused), unmapped(refused));
}

fn a_stack_grows_by_any_access_its_rights_allow<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    assert_eq!(program.load(TOP - 1), Ok(0));
    program.protect(TOP - PAGE, 3, Prot::READ);
    let below = TOP - 2 * PAGE;
    assert_eq!(program.store(below, 1), crate::program::no_store(below));
    assert_eq!(program.load(below), Ok(0));
}

fn a_stack_may_reach_the_limits_of_the_space<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    program.set_limits(Limits { address_space: 4 * PAGE, ..Limits::default() });
    assert_eq!(program.store(TOP - 2 * PAGE - 1, 1), unmapped(TOP - 2 * PAGE - 1));
    program.set(TOP - 2 * PAGE, 1);
    program.set_limits(Limits { lowest: TOP.0 - 3 * PAGE, ..Limits::default() });
    assert_eq!(program.store(TOP - 3 * PAGE - 1, 1), unmapped(TOP - 3 * PAGE - 1));
    program.set(TOP - 3 * PAGE, 1);
}

fn a_locked_stack_counts_what_it_gains<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    program.set_limits(Limits { locked: 4 * PAGE, ..Limits::default() });
    program.mlock(vm, TOP, 2 * PAGE).unwrap();
    program.set(TOP - 2 * PAGE, 1);
    assert_eq!(program.locked_bytes(), 4 * PAGE);
    let refused = TOP - 3 * PAGE;
    assert_eq!(program.store(refused, 1), unmapped(refused));
}

fn a_copy_of_the_kernel_grows_the_stack_too<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    assert_eq!(program.copy_out(vm, TOP - 3 * PAGE - 2, b"four"), Ok(()));
    let mut bytes = [0; 4];
    assert_eq!(program.copy_in(vm, TOP - 3 * PAGE - 2, &mut bytes), Ok(()));
    assert_eq!((&bytes, pages(&program)), (b"four", 6));
}

fn nothing_grows_above_a_stack<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    let above = TOP + 2 * PAGE;
    assert_eq!(program.load(above), unmapped(above));
    let flags = ANON | MapFlags::FIXED;
    let at = BASE + 7 * PAGE;
    assert_eq!(program.mmap(vm, at, PAGE, Prot::RW, flags, Backing::Anonymous, 0), Ok(at));
    assert_eq!(program.load(at - 1), unmapped(at - 1), "an ordinary area does not grow");
}

fn what_is_below_a_stack_may_be_remapped_up_to_it<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    let below = TOP - 8 * PAGE;
    program.map_at(below, 4);
    let none = RemapFlags::empty();
    assert_eq!(program.mremap(vm, below, 4 * PAGE, 8 * PAGE, none, VirtAddr(0)), Ok(below));
    assert_eq!(pages(&program), 10);
    assert_eq!(program.mremap(vm, below, 8 * PAGE, 9 * PAGE, none, VirtAddr(0)), NO_ROOM);
}

fn a_stack_that_was_split_is_one_area_again<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    program.set(TOP - 9 * PAGE, 1);
    program.protect(TOP - 4 * PAGE, 2, Prot::READ);
    assert_eq!(program.area_count(), 3);
    program.protect(TOP - 4 * PAGE, 2, Prot::RW);
    assert_eq!(program.area_count(), 1);
    program.set(TOP - 20 * PAGE, 2);
    assert_eq!((pages(&program), program.area_count()), (22, 1));
}

fn a_stack_is_remapped_larger_as_a_whole<P: Platform>(vm: &Vm<P>) {
    let program = with_stack(vm);
    let grow = |old: u64, new: u64| {
        program.mremap(vm, TOP, old * PAGE, new * PAGE, RemapFlags::empty(), VirtAddr(0))
    };
    assert_eq!((grow(2, 5), grow(5, 7)), (Ok(TOP), Ok(TOP)));
    assert_eq!((pages(&program), program.area_count()), (7, 1));
}
