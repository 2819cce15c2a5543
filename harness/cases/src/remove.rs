//! `MADV_REMOVE`: holes in what is shared.

use rumpvm::{CallError, MapFlags, Vm};
use rumpvm_arch::Prot;
use rumpvm_platform::{File, FileId, IoError, Platform};

use crate::program::BASE;
use crate::{PAGE, Program, RamFile, cases};

cases! {
    a_hole_in_shared_memory_is_zero_for_all,
    a_hole_in_a_file_is_one_in_its_contents_too,
    private_copies_stay_over_a_hole,
    only_shared_memory_that_is_not_locked_has_holes_made,
    no_right_to_store_is_needed_now,
    a_hole_beyond_the_end_is_nothing,
    a_file_that_cannot_or_fails_says_so,
}

const REMOVE: i32 = 9;

fn a_hole_in_shared_memory_is_zero_for_all<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(4 * PAGE).unwrap();
    program.map_object(BASE, 4, MapFlags::SHARED, &memory, 0);
    program.map_object(BASE + 8 * PAGE, 4, MapFlags::SHARED, &memory, 0);
    program.number(BASE, 4);
    let child = program.fork();
    assert_eq!(child.numbers(BASE + 8 * PAGE, 4), [1, 2, 3, 4]);
    assert_eq!(program.madvise(vm, BASE + PAGE, PAGE + 1, REMOVE), Ok(()));
    assert_eq!(memory.resident_pages(&vm.mmu), 2);
    for program in [&program, &child] {
        assert_eq!(program.numbers(BASE, 4), [1, 0, 0, 4]);
        assert_eq!(program.numbers(BASE + 8 * PAGE, 4), [1, 0, 0, 4]);
    }
    child.set(BASE + PAGE, 9);
    assert_eq!(program.get(BASE + 9 * PAGE), 9);
    vm.close(&memory).unwrap();
}

fn a_hole_in_a_file_is_one_in_its_contents_too<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let file = RamFile::<P>::numbered(1, 4);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE, 3, MapFlags::SHARED, &object, 1);
    program.set(BASE, 50);
    assert_eq!(program.madvise(vm, BASE, 2 * PAGE, REMOVE), Ok(()));
    assert_eq!(program.numbers(BASE, 3), [0, 0, 4]);
    let bytes = [0, 1, 2, 3].map(|page| file.byte(page * PAGE));
    assert_eq!((bytes, file.size()), ([1, 0, 0, 4], 4 * PAGE));
    vm.close(&object).unwrap();
}

fn private_copies_stay_over_a_hole<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(2 * PAGE).unwrap();
    program.map_object(BASE, 2, MapFlags::SHARED, &memory, 0);
    program.map_object(BASE + 2 * PAGE, 2, MapFlags::PRIVATE, &memory, 0);
    program.number(BASE, 2);
    program.set(BASE + 2 * PAGE, 7);
    assert_eq!(program.madvise(vm, BASE, 2 * PAGE, REMOVE), Ok(()));
    assert_eq!(program.numbers(BASE, 4), [0, 0, 7, 0]);
    vm.close(&memory).unwrap();
}

fn only_shared_memory_that_is_not_locked_has_holes_made<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(4 * PAGE).unwrap();
    program.map_object(BASE, 4, MapFlags::SHARED, &memory, 0);
    program.number(BASE, 4);
    program.map_object(BASE + 8 * PAGE, 1, MapFlags::PRIVATE, &memory, 0);
    program.map_at(BASE + 9 * PAGE, 1);
    program.mlock(vm, BASE + 2 * PAGE, PAGE).unwrap();
    let remove = |page, pages| program.madvise(vm, BASE + page * PAGE, pages * PAGE, REMOVE);
    assert_eq!(remove(8, 1), Err(CallError::Denied));
    assert_eq!(remove(9, 1), Err(CallError::Invalid));
    assert_eq!(remove(1, 3), Err(CallError::Invalid));
    assert_eq!(program.numbers(BASE, 4), [1, 0, 3, 4], "what comes before is done");
    assert_eq!(remove(3, 4), Err(CallError::Unmapped));
    assert_eq!(program.get(BASE + 3 * PAGE), 0);
    vm.close(&memory).unwrap();
}

fn no_right_to_store_is_needed_now<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(PAGE).unwrap();
    program.map_object(BASE, 1, MapFlags::SHARED, &memory, 0);
    program.set(BASE, 1);
    program.protect(BASE, 1, Prot::READ);
    assert_eq!(program.madvise(vm, BASE, PAGE, REMOVE), Ok(()));
    assert_eq!(program.get(BASE), 0);
    vm.close(&memory).unwrap();
}

fn a_hole_beyond_the_end_is_nothing<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let file = RamFile::<P>::new(1, &[7; 5000]);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE, 4, MapFlags::SHARED, &object, 0);
    assert_eq!(program.madvise(vm, BASE + 2 * PAGE, 2 * PAGE, REMOVE), Ok(()));
    assert_eq!(program.numbers(BASE, 2), [7, 7]);
    assert_eq!(program.madvise(vm, BASE + PAGE, 3 * PAGE, REMOVE), Ok(()));
    assert_eq!(program.numbers(BASE, 2), [7, 0]);
    assert_eq!(file.size(), 5000);
    vm.close(&object).unwrap();
}

/// A file on a file system without holes.
struct Solid;

impl File for Solid {
    fn id(&self) -> FileId {
        FileId { device: 78, inode: 1 }
    }

    fn length(&self) -> u64 {
        PAGE
    }

    fn read(&self, _offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        into.fill(7);
        Ok(into.len())
    }

    fn write(&self, _offset: u64, _from: &[u8]) -> Result<(), IoError> {
        Ok(())
    }

    fn set_length(&self, _length: u64) -> Result<(), IoError> {
        Ok(())
    }

    fn sync(&self) -> Result<(), IoError> {
        Ok(())
    }
}

fn a_file_that_cannot_or_fails_says_so<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let solid = vm.open_file(Solid).unwrap();
    program.map_object(BASE, 1, MapFlags::SHARED, &solid, 0);
    assert_eq!(program.get(BASE), 7);
    assert_eq!(program.madvise(vm, BASE, PAGE, REMOVE), Err(CallError::Unsupported));
    assert_eq!((program.get(BASE), program.get(BASE + 1)), (7, 7), "nothing has changed");
    let file = RamFile::<P>::numbered(1, 1);
    let object = vm.open_file(file.clone()).unwrap();
    program.map_object(BASE + PAGE, 1, MapFlags::SHARED, &object, 0);
    file.fail_writes(true);
    let answer = program.madvise(vm, BASE + PAGE, PAGE, REMOVE);
    assert_eq!(answer, Err(CallError::Io(IoError(5))));
    file.fail_writes(false);
    drop(program);
    vm.close(&object).unwrap();
    vm.close(&solid).unwrap();
}
