//! Memory files: their seals, and reading and writing them beside mappings.

use rumpvm::{Backing, BeyondEnd, CallError, MapFlags, MemoryFlags, Seals, Vm};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, RamFile, cases};

cases! {
    the_flags_of_a_memory_file_decide_its_first_seals,
    a_sealed_size_cannot_change,
    stores_cannot_be_sealed_off_while_a_mapping_allows_them,
    where_stores_are_sealed_off_only_loads_can_be_mapped,
    a_mapping_from_before_a_seal_on_the_future_keeps_its_rights,
    seals_on_stores_forbid_holes_and_new_places_for_pages,
    sealing_is_sealed_last,
    the_seal_on_execution_of_an_executable_file_implies_the_others,
    what_is_written_is_seen_in_mappings_and_read_again,
    writing_makes_a_memory_file_longer_as_far_as_seals_allow,
    reading_a_hole_gives_zeros_and_makes_no_pages,
    a_hole_is_zeros_in_shared_mappings_and_leaves_private_copies,
    allocated_room_is_in_memory_and_makes_a_file_longer_if_it_may,
    a_file_is_read_and_written_through_its_pages,
}

const SHARED: MapFlags = MapFlags::SHARED;

fn the_flags_of_a_memory_file_decide_its_first_seals<P: Platform>(vm: &Vm<P>) {
    let table = [
        (MemoryFlags::empty(), Seals::SEAL),
        (MemoryFlags::ALLOW_SEALING | MemoryFlags::CLOEXEC, Seals::empty()),
        (MemoryFlags::EXEC, Seals::SEAL),
        (MemoryFlags::NOEXEC_SEAL, Seals::EXEC),
        (MemoryFlags::NOEXEC_SEAL | MemoryFlags::ALLOW_SEALING, Seals::EXEC),
    ];
    for (flags, seals) in table {
        let file = vm.memory_file(flags).unwrap();
        assert_eq!((file.seals(), file.size()), (Some(seals), 0), "{flags:?}");
        vm.close(&file).unwrap();
    }
    let unknown = MemoryFlags::from_bits_retain(0x100);
    for flags in [unknown, MemoryFlags::EXEC | MemoryFlags::NOEXEC_SEAL] {
        assert_eq!(vm.memory_file(flags).map(drop), Err(CallError::Invalid));
    }
    let file = vm.open_file(RamFile::<P>::numbered(1, 1)).unwrap();
    assert_eq!((file.seals(), vm.add_seals(&file, Seals::GROW)), (None, Err(CallError::Invalid)));
    vm.close(&file).unwrap();
}

fn a_sealed_size_cannot_change<P: Platform>(vm: &Vm<P>) {
    let file = vm.memory_file(MemoryFlags::ALLOW_SEALING).unwrap();
    vm.resize(&file, 4 * PAGE).unwrap();
    vm.add_seals(&file, Seals::SHRINK | Seals::GROW).unwrap();
    for bytes in [PAGE, 5 * PAGE, 0] {
        assert_eq!(vm.resize(&file, bytes), Err(CallError::NotPermitted));
    }
    assert_eq!((vm.resize(&file, 4 * PAGE), file.size()), (Ok(()), 4 * PAGE));
    vm.close(&file).unwrap();
}

fn stores_cannot_be_sealed_off_while_a_mapping_allows_them<P: Platform>(vm: &Vm<P>) {
    let file = vm.memory_file(MemoryFlags::ALLOW_SEALING).unwrap();
    vm.resize(&file, 4 * PAGE).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 4, SHARED, &file, 0);
    let both = Seals::WRITE | Seals::SHRINK;
    assert_eq!(vm.add_seals(&file, both), Err(CallError::Busy));
    program.protect(BASE, 4, Prot::READ);
    assert_eq!(vm.add_seals(&file, both), Err(CallError::Busy), "mprotect could allow them again");
    let child = program.fork();
    drop(program);
    assert_eq!(vm.add_seals(&file, both), Err(CallError::Busy), "the child has it too");
    assert_eq!(file.seals(), Some(Seals::empty()));
    child.unmap(BASE, 4);
    child.map_object(BASE, 4, MapFlags::PRIVATE, &file, 0);
    let mapped = child.mmap(
        vm,
        VirtAddr(0),
        PAGE,
        Prot::READ,
        SHARED,
        Backing::Opened(&file, Prot::READ | Prot::EXEC),
        0,
    );
    mapped.unwrap();
    assert_eq!(vm.add_seals(&file, both), Ok(()));
    assert_eq!(file.seals(), Some(both));
    vm.close(&file).unwrap();
}

fn where_stores_are_sealed_off_only_loads_can_be_mapped<P: Platform>(vm: &Vm<P>) {
    for seal in [Seals::WRITE, Seals::FUTURE_WRITE] {
        let file = vm.memory_file(MemoryFlags::ALLOW_SEALING).unwrap();
        vm.write_object(&file, 0, &[5; 10]).unwrap();
        vm.add_seals(&file, seal).unwrap();
        let program = Program::new(vm);
        let map = |prot, flags| {
            program.mmap(vm, BASE, PAGE, prot, flags | MapFlags::FIXED, Backing::Object(&file), 0)
        };
        assert_eq!(map(Prot::RW, SHARED), Err(CallError::NotPermitted));
        assert_eq!(map(Prot::READ, SHARED), Ok(BASE));
        assert_eq!(program.mprotect(vm, BASE, PAGE, Prot::RW), Err(CallError::Denied));
        assert_eq!(map(Prot::RW, MapFlags::PRIVATE), Ok(BASE));
        program.set(BASE, 1);
        assert_eq!(vm.write_object(&file, 0, &[1]), Err(CallError::NotPermitted));
        assert_eq!(vm.write_object(&file, 0, &[]), Ok(0));
        assert_eq!(vm.punch_hole(&file, 0, PAGE), Err(CallError::NotPermitted));
        let mut bytes = [0; 12];
        assert_eq!((vm.read_object(&file, 0, &mut bytes), bytes[0]), (Ok(10), 5));
        vm.close(&file).unwrap();
    }
}

fn a_mapping_from_before_a_seal_on_the_future_keeps_its_rights<P: Platform>(vm: &Vm<P>) {
    let file = vm.memory_file(MemoryFlags::ALLOW_SEALING).unwrap();
    vm.resize(&file, PAGE).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 1, SHARED, &file, 0);
    program.protect(BASE, 1, Prot::READ);
    vm.add_seals(&file, Seals::FUTURE_WRITE).unwrap();
    program.protect(BASE, 1, Prot::RW);
    program.set(BASE, 3);
    assert_eq!(vm.add_seals(&file, Seals::WRITE), Err(CallError::Busy));
    vm.close(&file).unwrap();
}

fn seals_on_stores_forbid_holes_and_new_places_for_pages<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let file = vm.memory_file(MemoryFlags::ALLOW_SEALING).unwrap();
    vm.resize(&file, 4 * PAGE).unwrap();
    let (writer, reader) = (BASE, BASE + 16 * PAGE);
    for (at, prot) in [(writer, Prot::RW), (reader, Prot::READ)] {
        let (flags, backing) = (SHARED | MapFlags::FIXED, Backing::Object(&file));
        program.mmap(vm, at, 8 * PAGE, prot, flags, backing, 0).unwrap();
    }
    vm.add_seals(&file, Seals::FUTURE_WRITE).unwrap();
    // Beyond the end as well.
    for at in [writer, writer + 6 * PAGE, reader] {
        assert_eq!(program.madvise(vm, at, PAGE, 9), Err(CallError::NotPermitted));
    }
    let remap = |at| program.remap_file_pages(vm, at, PAGE, 0, 2, MapFlags::empty());
    assert_eq!((remap(writer), remap(reader)), (Err(CallError::NotPermitted), Ok(())));
    assert_eq!(program.mprotect(vm, reader, PAGE, Prot::RW), Err(CallError::Denied));
    vm.close(&file).unwrap();
}

fn sealing_is_sealed_last<P: Platform>(vm: &Vm<P>) {
    let file = vm.memory_file(MemoryFlags::ALLOW_SEALING).unwrap();
    let unknown = Seals::from_bits_retain(0x100);
    assert_eq!(vm.add_seals(&file, unknown), Err(CallError::Invalid));
    assert_eq!(vm.add_seals(&file, Seals::empty()), Ok(()));
    assert_eq!(vm.add_seals(&file, Seals::SEAL | Seals::GROW), Ok(()));
    for seals in [Seals::SHRINK, Seals::empty()] {
        assert_eq!(vm.add_seals(&file, seals), Err(CallError::NotPermitted));
    }
    assert_eq!(vm.add_seals(&file, unknown), Err(CallError::Invalid));
    assert_eq!(file.seals(), Some(Seals::SEAL | Seals::GROW));
    vm.close(&file).unwrap();
}

fn the_seal_on_execution_of_an_executable_file_implies_the_others<P: Platform>(vm: &Vm<P>) {
    let all = Seals::EXEC | Seals::SHRINK | Seals::GROW | Seals::WRITE | Seals::FUTURE_WRITE;
    let file = vm.memory_file(MemoryFlags::ALLOW_SEALING).unwrap();
    vm.resize(&file, PAGE).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 1, SHARED, &file, 0);
    assert_eq!(vm.add_seals(&file, Seals::EXEC), Err(CallError::Busy));
    program.unmap(BASE, 1);
    assert_eq!((vm.add_seals(&file, Seals::EXEC), file.seals()), (Ok(()), Some(all)));
    vm.close(&file).unwrap();
    let plain = vm.memory_file(MemoryFlags::NOEXEC_SEAL).unwrap();
    assert_eq!((vm.add_seals(&plain, Seals::EXEC), plain.seals()), (Ok(()), Some(Seals::EXEC)));
    vm.close(&plain).unwrap();
}

fn what_is_written_is_seen_in_mappings_and_read_again<P: Platform>(vm: &Vm<P>) {
    let file = vm.memory_file(MemoryFlags::empty()).unwrap();
    assert_eq!(vm.write_object(&file, PAGE - 2, &[1, 2, 3, 4]), Ok(4));
    let program = Program::new(vm);
    program.map_object(BASE, 2, SHARED, &file, 0);
    let seen = [PAGE - 3, PAGE - 2, PAGE - 1, PAGE, PAGE + 1].map(|at| program.get(BASE + at));
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    program.set(BASE + PAGE, 33);
    let mut bytes = [9; 8];
    assert_eq!(vm.read_object(&file, PAGE - 1, &mut bytes), Ok(3));
    assert_eq!(bytes, [2, 33, 4, 9, 9, 9, 9, 9]);
    assert_eq!(vm.read_object(&file, 5 * PAGE, &mut bytes), Ok(0));
    vm.close(&file).unwrap();
}

fn writing_makes_a_memory_file_longer_as_far_as_seals_allow<P: Platform>(vm: &Vm<P>) {
    let file = vm.memory_file(MemoryFlags::ALLOW_SEALING).unwrap();
    assert_eq!(vm.write_object(&file, 2 * PAGE, &[7]), Ok(1));
    assert_eq!(file.size(), 2 * PAGE + 1);
    vm.resize(&file, 4 * PAGE).unwrap();
    vm.add_seals(&file, Seals::GROW).unwrap();
    assert_eq!(vm.write_object(&file, 4 * PAGE - 1, &[1, 2]), Ok(1));
    assert_eq!(vm.write_object(&file, 4 * PAGE, &[1, 2]), Err(CallError::NotPermitted));
    assert_eq!((vm.write_object(&file, 9 * PAGE, &[]), file.size()), (Ok(0), 4 * PAGE));
    vm.close(&file).unwrap();
}

fn reading_a_hole_gives_zeros_and_makes_no_pages<P: Platform>(vm: &Vm<P>) {
    let file = vm.memory_file(MemoryFlags::empty()).unwrap();
    vm.resize(&file, 8 * PAGE).unwrap();
    vm.write_object(&file, 3 * PAGE, &[1]).unwrap();
    let mut bytes = [9; 3];
    assert_eq!((vm.read_object(&file, 3 * PAGE - 1, &mut bytes), bytes), (Ok(3), [0, 1, 0]));
    assert_eq!(file.resident_pages(&vm.mmu), 1);
    vm.close(&file).unwrap();
}

fn a_hole_is_zeros_in_shared_mappings_and_leaves_private_copies<P: Platform>(vm: &Vm<P>) {
    let file = vm.memory_file(MemoryFlags::empty()).unwrap();
    vm.resize(&file, 4 * PAGE).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 4, SHARED, &file, 0);
    program.map_object(BASE + 8 * PAGE, 4, MapFlags::PRIVATE, &file, 0);
    program.number(BASE, 4);
    program.set(BASE + 10, 1);
    program.set(BASE + 9 * PAGE, 99);
    assert_eq!(vm.punch_hole(&file, 5, 2 * PAGE), Ok(()));
    assert_eq!(program.numbers(BASE, 4), [1, 0, 0, 4]);
    assert_eq!(
        (program.get(BASE + 10), program.numbers(BASE + 8 * PAGE, 4)),
        (0, alloc::vec![1, 99, 0, 4])
    );
    assert_eq!(vm.punch_hole(&file, PAGE - 1, 0), Err(CallError::Invalid));
    assert_eq!(vm.punch_hole(&file, u64::MAX, 2), Err(CallError::Invalid));
    assert_eq!(vm.punch_hole(&file, i64::MAX as u64, 2), Err(CallError::TooLarge));
    program.set(BASE + 20, 8);
    program.set(BASE + 30, 9);
    vm.punch_hole(&file, 15, 10).unwrap();
    assert_eq!((program.get(BASE), program.get(BASE + 20), program.get(BASE + 30)), (1, 0, 9));
    assert_eq!(vm.check(), Ok(()));
    vm.close(&file).unwrap();
}

fn allocated_room_is_in_memory_and_makes_a_file_longer_if_it_may<P: Platform>(vm: &Vm<P>) {
    let file = vm.memory_file(MemoryFlags::ALLOW_SEALING).unwrap();
    vm.resize(&file, 4 * PAGE).unwrap();
    vm.write_object(&file, PAGE, &[7]).unwrap();
    let room = |at, length, beyond| {
        let made = vm.allocate(&file, at, length, beyond);
        (made, file.size() / PAGE, file.resident_pages(&vm.mmu))
    };
    let (grow, keep) = (BeyondEnd::Grow, BeyondEnd::Keep);
    assert_eq!(room(2 * PAGE - 1, 2, grow), (Ok(()), 4, 2), "both pages that it touches");
    assert_eq!(room(3 * PAGE, 2 * PAGE, keep), (Ok(()), 4, 3), "nothing beyond the end");
    assert_eq!(room(3 * PAGE, 2 * PAGE, grow), (Ok(()), 5, 4));
    let mut bytes = [9; 1];
    assert_eq!((vm.read_object(&file, PAGE, &mut bytes), bytes), (Ok(1), [7]), "contents stay");
    for (at, length, error) in [
        (0, 0, CallError::Invalid),
        (u64::MAX, 1, CallError::Invalid),
        (1, i64::MAX as u64, CallError::TooLarge),
    ] {
        assert_eq!(room(at, length, grow), (Err(error), 5, 4));
    }
    vm.add_seals(&file, Seals::GROW | Seals::WRITE).unwrap();
    assert_eq!(room(4 * PAGE, PAGE + 1, keep), (Err(CallError::NotPermitted), 5, 4));
    assert_eq!(room(0, 5 * PAGE, keep), (Ok(()), 5, 5), "it is not written");
    vm.close(&file).unwrap();
    let other = vm.open_file(RamFile::<P>::numbered(1, 2)).unwrap();
    assert_eq!(vm.allocate(&other, 0, PAGE, grow), Err(CallError::Unsupported));
    vm.close(&other).unwrap();
}

fn a_file_is_read_and_written_through_its_pages<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 3, SHARED, &object, 0);
    let mut bytes = [0; 2];
    assert_eq!((vm.read_object(&object, PAGE - 1, &mut bytes), bytes), (Ok(2), [1, 2]));
    assert_eq!(vm.write_object(&object, 2 * PAGE - 1, &[8, 9]), Ok(2));
    assert_eq!((program.get(BASE + 2 * PAGE - 1), program.get(BASE + 2 * PAGE)), (8, 9));
    drop(program);
    vm.close(&object).unwrap();
    assert_eq!((file.size(), file.byte(2 * PAGE - 1), file.byte(2 * PAGE)), (2 * PAGE + 1, 8, 9));
}
