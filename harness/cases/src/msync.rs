//! msync(2): what was stored reaches the file now.

use rumpvm::{CallError, MapFlags, SyncFlags, Vm};
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, RamFile, cases};

cases! {
    malformed_requests_get_the_error_numbers_of_linux,
    sync_writes_the_dirty_pages_of_the_range_and_only_those,
    sync_writes_what_another_space_stored,
    sync_makes_the_file_durable_once_for_each_area,
    the_sync_of_a_file_writes_what_was_stored_wherever_it_was,
    async_writes_nothing_and_loses_nothing,
    private_memory_is_not_written,
    a_hole_is_told_and_the_rest_is_written,
    invalidate_refuses_locked_memory,
}

fn malformed_requests_get_the_error_numbers_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    let unknown = SyncFlags::from_bits_retain(8);
    let table = [
        (BASE, PAGE, SyncFlags::SYNC | SyncFlags::ASYNC, 22),
        (BASE, PAGE, unknown, 22),
        (BASE + 1, PAGE, SyncFlags::SYNC, 22),
        (BASE + PAGE, 2 * PAGE, SyncFlags::SYNC, 12),
        (BASE + 2 * PAGE, PAGE, SyncFlags::ASYNC, 12),
    ];
    for (at, length, flags, errno) in table {
        let answer = program.msync(vm, at, length, flags).map_err(CallError::errno);
        assert_eq!(answer, Err(errno), "msync({at}, {length:#x}, {flags:?})");
    }
    assert_eq!(program.msync(vm, BASE, PAGE, SyncFlags::empty()), Ok(()));
    assert_eq!(program.msync(vm, BASE, 0, SyncFlags::SYNC), Ok(()));
}

fn sync_writes_the_dirty_pages_of_the_range_and_only_those<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let file = RamFile::<P>::numbered(1, 6);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE, 5, MapFlags::SHARED, &object, 1);
    for page in [0, 2, 4] {
        program.set(BASE + page * PAGE, 50);
    }
    program.get(BASE + PAGE);
    assert_eq!(program.msync(vm, BASE, 3 * PAGE, SyncFlags::SYNC), Ok(()));
    let written = [1, 3, 5].map(|page| file.byte(page * PAGE));
    assert_eq!((written, file.counts().1), ([50, 50, 6], 2));
    assert_eq!(program.msync(vm, BASE, 3 * PAGE, SyncFlags::SYNC), Ok(()));
    assert_eq!(file.counts().1, 2, "they are clean now");
    vm.close(&object).unwrap();
}

fn sync_writes_what_another_space_stored<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 3);
    let object = vm.open_file(file.clone()).unwrap();
    let parent = Program::new(vm);
    parent.map_object(BASE, 3, MapFlags::SHARED, &object, 0);
    parent.set(BASE, 50);
    let child = parent.fork();
    child.set(BASE + PAGE, 51);
    let other = Program::new(vm);
    other.map_object(BASE, 1, MapFlags::SHARED, &object, 2);
    other.set(BASE, 52);
    other.unmap(BASE, 1);
    assert_eq!(parent.msync(vm, BASE, 3 * PAGE, SyncFlags::SYNC), Ok(()));
    assert_eq!([0, 1, 2].map(|page| file.byte(page * PAGE)), [50, 51, 52]);
    vm.close(&object).unwrap();
}

fn sync_makes_the_file_durable_once_for_each_area<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let file = RamFile::<P>::numbered(1, 3);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE, 2, MapFlags::SHARED, &object, 0);
    program.msync(vm, BASE, 2 * PAGE, SyncFlags::SYNC).unwrap();
    assert_eq!(file.counts().2, 1);
    vm.close(&object).unwrap();
}

fn the_sync_of_a_file_writes_what_was_stored_wherever_it_was<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 4);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, MapFlags::SHARED, &object, 2);
    program.set(BASE + PAGE, 53);
    program.unmap(BASE, 2);
    assert_eq!(vm.write_object(&object, PAGE, &[51]), Ok(1));
    assert_eq!([1, 3].map(|page| file.byte(page * PAGE)), [2, 4]);
    assert_eq!(vm.sync_object(&object), Ok(()));
    assert_eq!([1, 3].map(|page| file.byte(page * PAGE)), [51, 53]);
    assert_eq!(file.counts().1, 2, "no other page");
    assert_eq!(vm.sync_object(&object), Ok(()));
    assert_eq!(file.counts().1, 2, "they are clean now");
    vm.close(&object).unwrap();
}

fn async_writes_nothing_and_loses_nothing<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let file = RamFile::<P>::numbered(1, 1);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE, 1, MapFlags::SHARED, &object, 0);
    program.set(BASE, 50);
    let flags = SyncFlags::ASYNC | SyncFlags::INVALIDATE;
    assert_eq!(program.msync(vm, BASE, PAGE, flags), Ok(()));
    assert_eq!((file.counts().1, program.get(BASE)), (0, 50));
    drop(program);
    vm.close(&object).unwrap();
    assert_eq!(file.byte(0), 50);
}

fn private_memory_is_not_written<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let file = RamFile::<P>::numbered(1, 1);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE, 1, MapFlags::PRIVATE, &object, 0);
    program.map_at(BASE + PAGE, 1);
    program.set(BASE, 50);
    program.set(BASE + PAGE, 50);
    assert_eq!(program.msync(vm, BASE, 2 * PAGE, SyncFlags::SYNC), Ok(()));
    assert_eq!((file.counts().1, file.byte(0)), (0, 1));
    vm.close(&object).unwrap();
}

fn a_hole_is_told_and_the_rest_is_written<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let file = RamFile::<P>::numbered(1, 4);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE, 4, MapFlags::SHARED, &object, 0);
    program.set(BASE, 50);
    program.set(BASE + 3 * PAGE, 53);
    program.unmap(BASE + PAGE, 2);
    assert_eq!(program.msync(vm, BASE, 4 * PAGE, SyncFlags::SYNC), Err(CallError::Unmapped));
    assert_eq!((file.byte(0), file.byte(3 * PAGE)), (50, 53));
    vm.close(&object).unwrap();
}

fn invalidate_refuses_locked_memory<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.mlock(vm, BASE + PAGE, PAGE).unwrap();
    let invalidate = SyncFlags::INVALIDATE;
    assert_eq!(program.msync(vm, BASE, PAGE, invalidate), Ok(()));
    assert_eq!(program.msync(vm, BASE, 2 * PAGE, invalidate), Err(CallError::Busy));
}
