//! remap_file_pages(2): other pages of the same object.

use rumpvm::{Backing, CallError, Limits, LockAllFlags, MapFlags, Seals, Vm};
use rumpvm_arch::Prot;
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, RamFile, cases};

cases! {
    part_of_a_shared_mapping_shows_other_pages,
    what_is_not_mapped_alike_is_refused,
    offsets_have_the_limits_of_linux,
    rights_and_locks_stay_and_guards_go,
    the_pages_are_brought_in_unless_nobody_is_to_wait_or_all_is_locked_on_fault,
    what_is_mapped_anew_is_locked_anew_and_has_to_fit_under_the_limit,
    what_can_never_be_stored_to_is_shared_in_name_only,
}

fn program<P: Platform>(vm: &Vm<P>) -> Program<'_, P> {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 16)).unwrap();
    program.map_object(BASE, 8, MapFlags::SHARED, &object, 0);
    vm.close(&object).unwrap();
    program
}

fn remap<P: Platform>(on: &Program<'_, P>, at: u64, size: u64, page: u64) -> Result<(), CallError> {
    on.remap_file_pages(on.vm, BASE + at, size, 0, page, MapFlags::empty())
}

fn part_of_a_shared_mapping_shows_other_pages<P: Platform>(vm: &Vm<P>) {
    let program = program(vm);
    assert_eq!(remap(&program, PAGE, PAGE, 5), Ok(()));
    assert_eq!(program.numbers(BASE, 4), [1, 6, 3, 4]);
    assert_eq!(program.pages(), [(0, 1), (1, 2), (2, 8)]);
    assert_eq!(remap(&program, 7, 2 * PAGE - 1, 9), Ok(()), "both are rounded down");
    assert_eq!(program.numbers(BASE, 4), [10, 6, 3, 4]);
    assert_eq!(remap(&program, 0, 8 * PAGE, 2), Ok(()), "over pieces");
    assert_eq!(program.numbers(BASE, 8), [3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(remap(&program, 3 * PAGE, PAGE, 100), Ok(()));
    assert!(program.load(BASE + 3 * PAGE).is_err());
}

fn what_is_not_mapped_alike_is_refused<P: Platform>(vm: &Vm<P>) {
    let program = program(vm);
    program.map_at(BASE + 16 * PAGE, 1);
    let invalid = Err(CallError::Invalid);
    for (at, size) in [(0, 0), (0, PAGE - 1), (0, 9 * PAGE), (16 * PAGE, PAGE), (20 * PAGE, PAGE)] {
        assert_eq!(remap(&program, at, size, 0), invalid, "{at:#x} {size:#x}");
    }
    assert_eq!(remap(&program, 0, 0_u64.wrapping_sub(PAGE), 0), invalid);
    let with_rights = program.remap_file_pages(vm, BASE, PAGE, 1, 0, MapFlags::empty());
    assert_eq!(with_rights, invalid);
    program.protect(BASE + 2 * PAGE, 1, Prot::READ);
    assert_eq!(remap(&program, PAGE, 2 * PAGE, 0), invalid);
    program.protect(BASE + 2 * PAGE, 1, Prot::RW);
    assert_eq!(remap(&program, PAGE, 2 * PAGE, 0), Ok(()));
    program.unmap(BASE + 6 * PAGE, 1);
    assert_eq!(remap(&program, 5 * PAGE, 3 * PAGE, 0), invalid);
}

fn offsets_have_the_limits_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = program(vm);
    let errno = |page| remap(&program, 0, PAGE, page).map_err(CallError::errno);
    let last = i64::MAX as u64 / PAGE;
    assert_eq!(errno(u64::MAX), Err(22));
    assert_eq!(errno(u64::MAX - 2), Err(75));
    assert_eq!(errno(last), Err(75));
    assert_eq!(errno(last - 1), Ok(()));
}

fn rights_and_locks_stay_and_guards_go<P: Platform>(vm: &Vm<P>) {
    let program = program(vm);
    program.protect(BASE, 1, Prot::READ);
    assert_eq!(remap(&program, 0, PAGE, 4), Ok(()));
    assert_eq!((program.get(BASE), program.store(BASE, 1).is_err()), (5, true));
    program.mlock(vm, BASE + PAGE, PAGE).unwrap();
    assert_eq!(remap(&program, PAGE, PAGE, 4), Ok(()));
    assert_eq!(program.locked_bytes(), PAGE);
    program.madvise(vm, BASE + 2 * PAGE, PAGE, 102).unwrap();
    assert_eq!(remap(&program, 2 * PAGE, PAGE, 4), Ok(()));
    assert_eq!(program.get(BASE + 2 * PAGE), 5);
}

fn the_pages_are_brought_in_unless_nobody_is_to_wait_or_all_is_locked_on_fault<P: Platform>(
    vm: &Vm<P>,
) {
    let on_fault = LockAllFlags::FUTURE | LockAllFlags::ONFAULT;
    let table = [
        (MapFlags::empty(), None, 4),
        (MapFlags::NONBLOCK, None, 0),
        (MapFlags::empty(), Some(on_fault), 0),
        (MapFlags::NONBLOCK, Some(LockAllFlags::FUTURE), 4),
    ];
    for (flags, locks, resident) in table {
        let program = program(vm);
        if let Some(locks) = locks {
            program.mlockall(vm, locks).unwrap();
        }
        program.remap_file_pages(vm, BASE, 4 * PAGE, 0, 8, flags).unwrap();
        assert_eq!(program.resident_pages(vm), resident, "{flags:?} {locks:?}");
    }
}

fn what_is_mapped_anew_is_locked_anew_and_has_to_fit_under_the_limit<P: Platform>(vm: &Vm<P>) {
    let program = program(vm);
    program.mlock(vm, BASE, 4 * PAGE).unwrap();
    // Four pages are locked, and as long as the new mapping is made they count beside it.
    for (limit, pages, answer) in [
        (0, 1, Err(CallError::NotPermitted)),
        (4, 1, Err(CallError::Again)),
        (5, 1, Ok(())),
        (5, 2, Err(CallError::Again)),
        (5, 4, Err(CallError::Again)),
        (7, 4, Err(CallError::Again)),
        (8, 4, Ok(())),
    ] {
        program.set_limits(Limits { locked: limit * PAGE, ..Limits::default() });
        assert_eq!(remap(&program, 0, pages * PAGE, 5), answer, "{pages} pages of {limit}");
        assert_eq!(program.locked_bytes(), 4 * PAGE);
    }
    assert_eq!(remap(&program, 4 * PAGE, 4 * PAGE, 5), Ok(()), "what is not locked");
}

fn what_can_never_be_stored_to_is_shared_in_name_only<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let map = |object: &_, rights| {
        let (prot, opened) = (Prot::READ, Backing::Opened(object, rights));
        program.mmap(vm, BASE, 2 * PAGE, prot, MapFlags::SHARED | MapFlags::FIXED, opened, 0)
    };
    let file = vm.open_file(RamFile::<P>::numbered(1, 2)).unwrap();
    map(&file, Prot::READ).unwrap();
    assert_eq!(remap(&program, 0, PAGE, 1), Err(CallError::Invalid));
    vm.close(&file).unwrap();
    let sealed = vm.shared_memory(2 * PAGE).unwrap();
    vm.add_seals(&sealed, Seals::WRITE).unwrap();
    map(&sealed, Prot::ALL).unwrap();
    assert_eq!(remap(&program, 0, PAGE, 1), Ok(()));
    vm.close(&sealed).unwrap();
}
