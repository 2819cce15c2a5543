//! mremap(2) in place: shrinking, growing, and what it refuses.

use rumpvm::{CallError, Limits, MapFlags, RemapFlags, Vm};
use rumpvm_arch::{Format, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{BASE, unmapped};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    malformed_requests_get_the_error_numbers_of_linux,
    shrinking_keeps_the_front_and_unmaps_the_rest,
    shrinking_may_go_over_several_areas,
    growing_into_free_room_stays_in_place_and_adds_zeros,
    growing_without_room_fails_unless_it_may_move,
    growing_a_file_mapping_shows_more_of_the_file,
    growing_locked_memory_brings_the_new_pages_in,
    locked_memory_grows_as_far_as_the_limit_of_locked_memory,
    a_refused_request_changes_nothing,
}

const NONE: RemapFlags = RemapFlags::empty();
const MAYMOVE: RemapFlags = RemapFlags::MAYMOVE;
const FIXED: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::FIXED);
const KEEP: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::DONTUNMAP);

fn malformed_requests_get_the_error_numbers_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    program.map_at(BASE + 5 * PAGE, 4);
    let (hole, end) = (BASE + 4 * PAGE, P::Format::USER_END);
    let alone = |flags| RemapFlags::from_bits_retain(flags);
    let table = [
        (BASE + 1, PAGE, PAGE, NONE, VirtAddr(0), 22),
        (BASE, PAGE, 0, NONE, VirtAddr(0), 22),
        (BASE, PAGE, PAGE, alone(8), VirtAddr(0), 22),
        (BASE, PAGE, PAGE, alone(2), BASE + 100 * PAGE, 22),
        (BASE, PAGE, PAGE, alone(4), VirtAddr(0), 22),
        (BASE, PAGE, 2 * PAGE, KEEP, VirtAddr(0), 22),
        (BASE, 2 * PAGE, 2 * PAGE, FIXED, BASE + PAGE, 22),
        (BASE, 2 * PAGE, 2 * PAGE, FIXED, BASE + 100 * PAGE + 1, 22),
        (BASE, 2 * PAGE, 2 * PAGE, FIXED, end, 22),
        (BASE, 2 * PAGE, 2 * PAGE, KEEP, BASE + PAGE, 22),
        (BASE, 2 * PAGE, 2 * PAGE, KEEP, BASE + 100 * PAGE + 1, 22),
        (BASE, 2 * PAGE, 2 * PAGE, KEEP, end, 22),
        (BASE, end.0, PAGE, NONE, VirtAddr(0), 22),
        (BASE, u64::MAX, PAGE, MAYMOVE, VirtAddr(0), 22),
        (hole, end.0, PAGE, NONE, VirtAddr(0), 14),
        (BASE, PAGE, end.0 + PAGE, MAYMOVE, VirtAddr(0), 22),
        (BASE, PAGE, u64::MAX, MAYMOVE, VirtAddr(0), 22),
        (hole, PAGE, 0, MAYMOVE, VirtAddr(0), 22),
        (BASE, 0, PAGE, MAYMOVE, VirtAddr(0), 22),
        (hole, PAGE, PAGE, NONE, VirtAddr(0), 14),
        (hole, PAGE, 2 * PAGE, MAYMOVE, VirtAddr(0), 14),
        (BASE + 2 * PAGE, 4 * PAGE, 8 * PAGE, MAYMOVE, VirtAddr(0), 14),
        (BASE, PAGE, 2 * PAGE, NONE, VirtAddr(0), 12),
        (BASE, PAGE, end.0, MAYMOVE, VirtAddr(0), 12),
    ];
    for (old, old_length, new_length, flags, new, errno) in table {
        let answer = program.mremap(vm, old, old_length, new_length, flags, new);
        let told = answer.map_err(CallError::errno);
        let call = (old, old_length, new_length, flags, new);
        assert_eq!(told, Err(errno), "mremap{call:?}");
    }
    assert_eq!(program.pages(), [(0, 4), (5, 9)]);
    assert_eq!(program.mremap(vm, BASE, 3 * PAGE, 3 * PAGE, NONE, VirtAddr(0)), Ok(BASE));
    // Nothing is to be done, so nobody looks at what lies behind.
    assert_eq!(program.mremap(vm, BASE, end.0, end.0, NONE, VirtAddr(0)), Ok(BASE));
}

fn shrinking_keeps_the_front_and_unmaps_the_rest<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 6);
    program.number(BASE, 6);
    let shrunk = program.mremap(vm, BASE + PAGE, 3 * PAGE, PAGE, NONE, VirtAddr(0));
    assert_eq!(shrunk, Ok(BASE + PAGE));
    assert_eq!(program.pages(), [(0, 2), (4, 6)]);
    assert_eq!(program.numbers(BASE, 2), [1, 2]);
    assert_eq!(program.load(BASE + 2 * PAGE), unmapped(BASE + 2 * PAGE));
    assert_eq!(program.numbers(BASE + 4 * PAGE, 2), [5, 6]);
}

fn shrinking_may_go_over_several_areas<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    program.protect(BASE + 2 * PAGE, 1, rumpvm_arch::Prot::READ);
    let shrunk = program.mremap(vm, BASE, 8 * PAGE, PAGE, NONE, VirtAddr(0));
    assert_eq!((shrunk, program.pages()), (Ok(BASE), alloc::vec![(0, 1)]));
}

fn growing_into_free_room_stays_in_place_and_adds_zeros<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.number(BASE, 2);
    // What was there before must not come back.
    program.map_at(BASE + 2 * PAGE, 4);
    program.number(BASE + 2 * PAGE, 4);
    program.unmap(BASE + 2 * PAGE, 4);
    assert_eq!(program.mremap(vm, BASE, 2 * PAGE, 5 * PAGE, MAYMOVE, VirtAddr(0)), Ok(BASE));
    assert_eq!(program.numbers(BASE, 5), [1, 2, 0, 0, 0]);
    assert_eq!((program.pages(), program.mapped_bytes()), (alloc::vec![(0, 5)], 5 * PAGE));
    // The tail of an area grows as well as the whole.
    let tail = BASE + 4 * PAGE;
    assert_eq!(program.mremap(vm, tail, PAGE, 2 * PAGE, NONE, VirtAddr(0)), Ok(tail));
}

fn growing_without_room_fails_unless_it_may_move<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    program.number(BASE, 4);
    let refused = program.mremap(vm, BASE, 2 * PAGE, 3 * PAGE, NONE, VirtAddr(0));
    assert_eq!(refused, Err(CallError::NoMemory));
    let moved = program.mremap(vm, BASE, 2 * PAGE, 3 * PAGE, MAYMOVE, VirtAddr(0)).unwrap();
    assert_eq!(program.numbers(moved, 3), [1, 2, 0]);
    assert_eq!(program.load(BASE), unmapped(BASE));
    assert_eq!(program.numbers(BASE + 2 * PAGE, 2), [3, 4]);
}

fn growing_a_file_mapping_shows_more_of_the_file<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 9)).unwrap();
    program.map_object(BASE, 3, MapFlags::SHARED, &object, 2);
    let grown = program.mremap(vm, BASE + PAGE, 2 * PAGE, 4 * PAGE, NONE, VirtAddr(0));
    assert_eq!(grown, Ok(BASE + PAGE));
    assert_eq!(program.numbers(BASE, 5), [3, 4, 5, 6, 7]);
    assert_eq!((program.area_count(), object.users()), (1, 2));
    vm.close(&object).unwrap();
}

fn growing_locked_memory_brings_the_new_pages_in<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.mlock(vm, BASE, 2 * PAGE).unwrap();
    program.mremap(vm, BASE, 2 * PAGE, 6 * PAGE, NONE, VirtAddr(0)).unwrap();
    assert_eq!((program.resident_pages(vm), program.locked_bytes()), (6, 6 * PAGE));
}

fn locked_memory_grows_as_far_as_the_limit_of_locked_memory<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.set_limits(Limits { locked: 4 * PAGE, ..Limits::default() });
    program.map_at(BASE, 2);
    program.mlock(vm, BASE, 2 * PAGE).unwrap();
    for flags in [NONE, MAYMOVE] {
        let refused = program.mremap(vm, BASE, 2 * PAGE, 6 * PAGE, flags, VirtAddr(0));
        assert_eq!(refused.map_err(CallError::errno), Err(11));
    }
    assert_eq!((program.pages(), program.locked_bytes()), (alloc::vec![(0, 2)], 2 * PAGE));
    assert_eq!(program.mremap(vm, BASE, 2 * PAGE, 4 * PAGE, NONE, VirtAddr(0)), Ok(BASE));
    assert_eq!(program.locked_bytes(), 4 * PAGE);
}

fn a_refused_request_changes_nothing<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.number(BASE, 2);
    let pages = vm.statistics().frames_total + 3;
    let refused = program.mremap(vm, BASE, 2 * PAGE, pages * PAGE, MAYMOVE, VirtAddr(0));
    assert_eq!(refused, Err(CallError::NoMemory));
    assert_eq!(
        (program.pages(), program.numbers(BASE, 2)),
        (alloc::vec![(0, 2)], alloc::vec![1, 2])
    );
}
