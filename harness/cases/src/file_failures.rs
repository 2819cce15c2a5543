//! Files that fail: the error is told, nothing is lost, and the next attempt works.

use rumpvm::{CallError, FaultError, MapFlags, Signal, SyncFlags, Vm};
use rumpvm_platform::Platform;

use crate::file::EIO;
use crate::program::BASE;
use crate::{PAGE, Program, RamFile, cases};

cases! {
    a_read_that_fails_is_a_bus_error_and_the_page_stays_absent,
    a_write_that_fails_at_msync_keeps_the_page_and_the_next_one_writes_it,
    a_write_that_fails_at_close_keeps_the_pages_for_the_next_open,
    a_write_that_fails_at_unmap_keeps_the_pages_for_the_next_open,
    populating_a_file_that_fails_maps_it_all_the_same,
}

const SHARED: MapFlags = MapFlags::SHARED;

fn a_read_that_fails_is_a_bus_error_and_the_page_stays_absent<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, SHARED, &object, 0);
    program.map_object(BASE + 4 * PAGE, 2, MapFlags::PRIVATE, &object, 0);
    file.fail_reads(true);
    for at in [BASE, BASE + PAGE, BASE + 4 * PAGE] {
        let failed = FaultError::Pager { at, error: EIO };
        assert_eq!(program.load(at), Err(failed));
        assert_eq!(program.store(at, 1), Err(failed));
        assert_eq!(failed.signal(), Signal::Bus);
    }
    assert_eq!((program.resident_pages(vm), object.resident_pages(&vm.mmu)), (0, 0));
    assert_eq!(vm.check(), Ok(()));

    file.fail_reads(false);
    assert_eq!((program.numbers(BASE, 2), program.get(BASE + 4 * PAGE)), (alloc::vec![1, 2], 1));
    vm.close(&object).unwrap();
}

fn a_write_that_fails_at_msync_keeps_the_page_and_the_next_one_writes_it<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, SHARED, &object, 0);
    program.set(BASE, 50);
    program.set(BASE + PAGE, 60);
    file.fail_writes(true);
    let sync = || program.msync(vm, BASE, 2 * PAGE, SyncFlags::SYNC);
    assert_eq!(sync(), Err(CallError::Io(EIO)));
    assert_eq!((file.byte(0), program.get(BASE)), (1, 50));
    assert_eq!(file.counts().1, 2, "the second page is tried although the first one failed");

    file.fail_writes(false);
    assert_eq!(sync(), Ok(()));
    assert_eq!((file.byte(0), file.byte(PAGE)), (50, 60));
    vm.close(&object).unwrap();
}

fn a_write_that_fails_at_close_keeps_the_pages_for_the_next_open<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, SHARED, &object, 0);
    program.set(BASE, 50);
    drop(program);
    file.fail_writes(true);
    assert_eq!(vm.close(&object), Err(CallError::Io(EIO)));
    assert_eq!(vm.check(), Ok(()));

    file.fail_writes(false);
    let again = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, SHARED, &again, 0);
    assert_eq!(program.numbers(BASE, 2), [50, 2]);
    drop(program);
    assert_eq!(vm.close(&again), Ok(()));
    assert_eq!(file.byte(0), 50);
}

fn a_write_that_fails_at_unmap_keeps_the_pages_for_the_next_open<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 1);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 1, SHARED, &object, 0);
    vm.close(&object).unwrap();
    program.set(BASE, 50);
    file.fail_writes(true);
    program.unmap(BASE, 1);
    assert_eq!(file.byte(0), 1);
    assert_eq!(vm.check(), Ok(()));

    file.fail_writes(false);
    let again = vm.open_file(file.clone()).unwrap();
    assert_eq!(vm.close(&again), Ok(()));
    assert_eq!(file.byte(0), 50);
}

fn populating_a_file_that_fails_maps_it_all_the_same<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    file.fail_reads(true);
    program.map_object(BASE, 2, SHARED | MapFlags::POPULATE, &object, 0);
    file.fail_reads(false);
    assert_eq!(program.numbers(BASE, 2), [1, 2]);
    vm.close(&object).unwrap();
}
