//! madvise(2): what is thrown away, what is brought in, and what is only noted.

use rumpvm::{AreaFlags, CallError, Limits, MapFlags, Vm};
use rumpvm_arch::{Format, Prot};
use rumpvm_platform::Platform;

use crate::program::{ANON, BASE};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    malformed_requests_get_the_error_numbers_of_linux,
    private_memory_that_is_not_needed_reads_as_zeros_again,
    a_private_file_mapping_that_is_not_needed_shows_the_file_again,
    shared_memory_that_is_not_needed_keeps_its_contents,
    a_part_that_is_not_needed_leaves_its_neighbours,
    locked_memory_cannot_be_thrown_away,
    locked_memory_can_be_thrown_away_by_name,
    superpages_are_never_made_and_bad_memory_never_told,
    equal_pages_are_looked_for_in_private_memory_only,
    want_of_areas_for_a_mark_is_temporary,
    free_is_for_private_anonymous_memory_only,
    advice_on_a_hole_is_taken_for_the_rest,
    hints_are_noted_and_merge_away_again,
    each_hint_has_its_own_mark_and_another_takes_it_off,
    willneed_reads_the_file,
    populate_makes_pages_ready_or_says_why_not,
    populate_takes_rights_by_their_word,
    populate_grows_no_stack,
}

const NORMAL: i32 = 0;
const RANDOM: i32 = 1;
const WILLNEED: i32 = 3;
const DONTNEED: i32 = 4;
const FREE: i32 = 8;
const HUGEPAGE: i32 = 14;
const NOHUGEPAGE: i32 = 15;
const COLD: i32 = 20;
const PAGEOUT: i32 = 21;
const DONTNEED_LOCKED: i32 = 24;
const COLLAPSE: i32 = 25;
const POPULATE_READ: i32 = 22;
const POPULATE_WRITE: i32 = 23;

fn malformed_requests_get_the_error_numbers_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    let end = P::Format::USER_END;
    let table = [
        (BASE, PAGE, 77, 22),
        (BASE, 0, 77, 22),
        (BASE + 1, PAGE, NORMAL, 22),
        (BASE + 1, 0, NORMAL, 22),
        (BASE, u64::MAX, NORMAL, 22),
        (end - PAGE, 8 * PAGE, NORMAL, 12),
        (end, PAGE, NORMAL, 12),
        (BASE + PAGE, 2 * PAGE, NORMAL, 12),
    ];
    for (at, length, advice, errno) in table {
        let answer = program.madvise(vm, at, length, advice).map_err(CallError::errno);
        assert_eq!(answer, Err(errno), "madvise({at}, {length:#x}, {advice})");
    }
    assert_eq!(program.madvise(vm, BASE, 0, NORMAL), Ok(()));
}

fn private_memory_that_is_not_needed_reads_as_zeros_again<P: Platform>(vm: &Vm<P>) {
    for advice in [DONTNEED, FREE] {
        let program = Program::new(vm);
        program.map_at(BASE, 600);
        program.number(BASE, 600);
        assert_eq!(program.madvise(vm, BASE, 600 * PAGE, advice), Ok(()));
        assert_eq!(program.resident_pages(vm), 0);
        assert_eq!((program.get(BASE), program.get(BASE + 599 * PAGE)), (0, 0));
        program.set(BASE, 1);
        assert_eq!(program.get(BASE), 1);
    }
}

fn a_private_file_mapping_that_is_not_needed_shows_the_file_again<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 4)).unwrap();
    program.map_object(BASE, 4, MapFlags::PRIVATE, &object, 0);
    program.set(BASE + PAGE, 50);
    program.set(BASE + 2 * PAGE, 60);
    assert_eq!(program.madvise(vm, BASE, 2 * PAGE, DONTNEED), Ok(()));
    assert_eq!(program.numbers(BASE, 4), [1, 2, 60, 4]);
    vm.close(&object).unwrap();
}

fn shared_memory_that_is_not_needed_keeps_its_contents<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE, 2, MapFlags::SHARED, &object, 0);
    program.set(BASE, 50);
    assert_eq!(program.madvise(vm, BASE, 2 * PAGE, DONTNEED), Ok(()));
    assert_eq!(program.resident_pages(vm), 0);
    assert_eq!(program.numbers(BASE, 2), [50, 2]);
    drop(program);
    vm.close(&object).unwrap();
    assert_eq!(file.byte(0), 50, "the page was dirty although nobody mapped it");
}

fn a_part_that_is_not_needed_leaves_its_neighbours<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 5);
    program.number(BASE, 5);
    assert_eq!(program.madvise(vm, BASE + PAGE, 2 * PAGE + 1, DONTNEED), Ok(()));
    assert_eq!(program.numbers(BASE, 5), [1, 0, 0, 0, 5]);
}

fn locked_memory_cannot_be_thrown_away<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 3);
    program.number(BASE, 3);
    program.mlock(vm, BASE + PAGE, PAGE).unwrap();
    assert_eq!(program.madvise(vm, BASE + PAGE, PAGE, DONTNEED), Err(CallError::Invalid));
    for advice in [COLD, PAGEOUT, DONTNEED] {
        assert_eq!(program.madvise(vm, BASE, 3 * PAGE, advice), Err(CallError::Invalid));
    }
    assert_eq!(program.numbers(BASE, 3), [0, 2, 3], "areas before the locked one are done");
}

fn locked_memory_can_be_thrown_away_by_name<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 3);
    program.number(BASE, 3);
    program.mlock(vm, BASE + PAGE, PAGE).unwrap();
    assert_eq!(program.madvise(vm, BASE, 2 * PAGE, DONTNEED_LOCKED), Ok(()));
    assert_eq!(program.locked_bytes(), PAGE);
    assert_eq!(program.numbers(BASE, 3), [0, 0, 3]);
}

fn superpages_are_never_made_and_bad_memory_never_told<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    let advise = |at, length, advice| program.madvise(vm, at, length, advice);
    assert_eq!(advise(BASE, PAGE, COLLAPSE), Err(CallError::Invalid));
    assert_eq!(advise(BASE, 0, COLLAPSE), Ok(()));
    assert_eq!(advise(BASE + 2 * PAGE, PAGE, COLLAPSE), Err(CallError::Unmapped));
    for advice in [100, 101] {
        assert_eq!(advise(BASE, 0, advice), Err(CallError::Invalid));
    }
}

fn equal_pages_are_looked_for_in_private_memory_only<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(PAGE).unwrap();
    program.map_object(BASE, 1, MapFlags::SHARED, &memory, 0);
    program.map_object(BASE + PAGE, 1, MapFlags::PRIVATE, &memory, 0);
    assert_eq!(program.madvise(vm, BASE, 2 * PAGE, 12), Ok(()));
    let marked = program
        .table()
        .iter()
        .map(|(_, _, flags)| flags.contains(AreaFlags::MERGEABLE))
        .collect::<alloc::vec::Vec<_>>();
    assert_eq!(marked, [false, true]);
    vm.close(&memory).unwrap();
}

fn want_of_areas_for_a_mark_is_temporary<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    program.set_limits(Limits { areas: 2, ..Limits::default() });
    assert_eq!(program.madvise(vm, BASE + PAGE, PAGE, RANDOM), Err(CallError::Again));
    assert_eq!(program.pages(), [(0, 4)]);
}

fn free_is_for_private_anonymous_memory_only<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(PAGE).unwrap();
    program.map_object(BASE, 1, MapFlags::SHARED, &memory, 0);
    program.map_object(BASE + PAGE, 1, MapFlags::PRIVATE, &memory, 0);
    for page in 0..2 {
        let answer = program.madvise(vm, BASE + page * PAGE, PAGE, FREE);
        assert_eq!(answer, Err(CallError::Invalid));
    }
    vm.close(&memory).unwrap();
}

fn advice_on_a_hole_is_taken_for_the_rest<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.map_at(BASE + 4 * PAGE, 2);
    program.number(BASE, 2);
    program.number(BASE + 4 * PAGE, 2);
    assert_eq!(program.madvise(vm, BASE + PAGE, 4 * PAGE, DONTNEED), Err(CallError::Unmapped));
    assert_eq!(program.numbers(BASE, 2), [1, 0]);
    assert_eq!(program.numbers(BASE + 4 * PAGE, 2), [0, 2]);
}

fn hints_are_noted_and_merge_away_again<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 5);
    let advise = |advice| program.madvise(vm, BASE + PAGE, 2 * PAGE, advice).unwrap();
    advise(RANDOM);
    advise(HUGEPAGE);
    assert_eq!(program.pages(), [(0, 1), (1, 3), (3, 5)]);
    assert_eq!(program.table()[1].2, AreaFlags::RANDOM | AreaFlags::HUGEPAGE);
    advise(NOHUGEPAGE);
    assert_eq!(program.table()[1].2, AreaFlags::RANDOM | AreaFlags::NOHUGEPAGE);
    advise(NORMAL);
    program.madvise(vm, BASE, 5 * PAGE, NOHUGEPAGE).unwrap();
    assert_eq!(program.pages(), [(0, 5)]);
}

fn each_hint_has_its_own_mark_and_another_takes_it_off<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    let none = AreaFlags::empty();
    // Values of `asm-generic/mman-common.h`, in the order in which they are given.
    let table = [
        (1, AreaFlags::RANDOM),
        (2, AreaFlags::SEQUENTIAL),
        (20, AreaFlags::SEQUENTIAL),
        (21, AreaFlags::SEQUENTIAL),
        (0, none),
        (10, AreaFlags::DONTFORK),
        (11, none),
        (12, AreaFlags::MERGEABLE),
        (13, none),
        (14, AreaFlags::HUGEPAGE),
        (15, AreaFlags::NOHUGEPAGE),
        (16, AreaFlags::NOHUGEPAGE | AreaFlags::DONTDUMP),
        (17, AreaFlags::NOHUGEPAGE),
    ];
    for (advice, marks) in table {
        assert_eq!(program.madvise(vm, BASE, PAGE, advice), Ok(()), "advice {advice}");
        assert_eq!(program.table()[0].2, marks, "advice {advice}");
    }
}

fn willneed_reads_the_file<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let file = RamFile::<P>::numbered(1, 6);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE, 8, MapFlags::SHARED, &object, 1);
    assert_eq!(program.madvise(vm, BASE + PAGE, 7 * PAGE, WILLNEED), Ok(()));
    assert_eq!((file.counts().0, program.resident_pages(vm)), (4, 0));
    assert_eq!(program.numbers(BASE + PAGE, 4), [3, 4, 5, 6]);
    assert_eq!(file.counts().0, 4);
    vm.close(&object).unwrap();
}

fn populate_makes_pages_ready_or_says_why_not<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 6);
    let advise =
        |page: u64, pages, advice| program.madvise(vm, BASE + page * PAGE, pages * PAGE, advice);
    assert_eq!(advise(0, 3, POPULATE_WRITE), Ok(()));
    assert_eq!(advise(3, 2, POPULATE_READ), Ok(()));
    assert_eq!(program.resident_pages(vm), 5);
    program.protect(BASE, 1, Prot::READ);
    assert_eq!(advise(0, 1, POPULATE_WRITE), Err(CallError::Invalid));
    program.protect(BASE, 1, Prot::empty());
    assert_eq!(advise(0, 1, POPULATE_READ), Err(CallError::Invalid));
    assert_eq!(advise(4, 4, POPULATE_READ), Err(CallError::Unmapped));
    assert_eq!(program.resident_pages(vm), 5);

    let memory = vm.shared_memory(PAGE).unwrap();
    program.map_object(BASE, 2, MapFlags::SHARED, &memory, 0);
    assert_eq!(advise(0, 2, POPULATE_READ), Err(CallError::BadAddress));
    vm.close(&memory).unwrap();
}

fn populate_takes_rights_by_their_word<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    let advise = |advice| program.madvise(vm, BASE, PAGE, advice);
    // A machine that stores there can load there too, but nobody said so.
    program.protect(BASE, 1, Prot::WRITE);
    assert_eq!(advise(POPULATE_READ), Err(CallError::Invalid));
    assert_eq!(advise(POPULATE_WRITE), Ok(()));
    program.protect(BASE, 1, Prot::EXEC);
    assert_eq!(advise(POPULATE_READ), Err(CallError::Invalid));
}

fn populate_grows_no_stack<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.try_map(BASE, 1, ANON | MapFlags::GROWSDOWN | MapFlags::FIXED).unwrap();
    for advice in [POPULATE_READ, POPULATE_WRITE] {
        let advised = program.madvise(vm, BASE - PAGE, PAGE, advice);
        assert_eq!(advised, Err(CallError::Unmapped));
    }
    assert_eq!(program.pages(), [(0, 1)]);
}
