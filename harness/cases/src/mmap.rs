//! mmap(2): what it refuses, and what it replaces.

use rumpvm::{AreaFlags, Backing, CallError, LockAllFlags, LockFlags, MapFlags, Vm};
use rumpvm_arch::{Format, Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{ANON, BASE, no_load, no_store};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    malformed_requests_get_the_error_numbers_of_linux,
    malformed_requests_for_objects_get_the_error_numbers_of_linux,
    a_fixed_mapping_replaces_the_part_that_it_covers,
    noreplace_refuses_what_overlaps_and_takes_what_is_free,
    neighbours_that_mean_the_same_are_one_area,
    populate_brings_every_page_in,
    locked_memory_is_brought_in_and_counted,
    rights_decide_which_accesses_pass,
    replacing_a_shared_file_mapping_writes_it,
    a_length_is_rounded_up_to_whole_pages,
    a_refused_request_changes_nothing,
    a_descriptor_decides_what_can_be_mapped,
    what_is_checked_first_is_told_first,
    memory_that_may_go_is_for_no_child_no_dump_and_no_lock,
}

const SHARED_ANON: MapFlags = MapFlags::SHARED.union(MapFlags::ANONYMOUS);

fn malformed_requests_get_the_error_numbers_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    let fixed = ANON | MapFlags::FIXED;
    let noreplace = ANON | MapFlags::FIXED_NOREPLACE;
    let end = P::Format::USER_END;
    let both = MapFlags::SHARED | MapFlags::PRIVATE | MapFlags::ANONYMOUS;
    let table = [
        (VirtAddr(0), 0, ANON, 0, 22),
        (VirtAddr(0), PAGE, MapFlags::ANONYMOUS, 0, 22),
        (VirtAddr(0), PAGE, both, 0, 22),
        (VirtAddr(0), PAGE, ANON, 1, 22),
        (VirtAddr(0), u64::MAX, ANON, 0, 12),
        (VirtAddr(0), u64::MAX - PAGE + 1, ANON, 0, 12),
        (VirtAddr(0), end.0, ANON, 0, 12),
        (BASE + 1, PAGE, fixed, 0, 22),
        (end, PAGE, fixed, 0, 12),
        (end - PAGE, 2 * PAGE, fixed, 0, 12),
        (end - PAGE + 1, PAGE, fixed, 0, 12),
        (BASE, u64::MAX - PAGE + 1, fixed, 0, 12),
        (VirtAddr(0), PAGE, SHARED_ANON | MapFlags::GROWSDOWN, 0, 22),
        (VirtAddr(0), PAGE, ANON | MapFlags::HUGETLB, 0, 12),
        (VirtAddr(0), PAGE, MapFlags::ANONYMOUS | MapFlags::HUGETLB, 0, 22),
        (BASE, PAGE, noreplace, 0, 17),
    ];
    for (hint, length, flags, offset, errno) in table {
        let answer = program.mmap(vm, hint, length, Prot::RW, flags, Backing::Anonymous, offset);
        let told = answer.map_err(CallError::errno);
        assert_eq!(told, Err(errno), "mmap({hint}, {length:#x}, {flags:?}, {offset})");
    }
    assert_eq!(program.pages(), [(0, 1)]);
}

fn malformed_requests_for_objects_get_the_error_numbers_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(8 * PAGE).unwrap();
    let validate = MapFlags::SHARED | MapFlags::PRIVATE;
    let unknown = MapFlags::from_bits_retain(0x80_0000);
    let table = [
        (PAGE, MapFlags::PRIVATE, 1, 22),
        (PAGE, MapFlags::PRIVATE | MapFlags::GROWSDOWN, 0, 22),
        (PAGE, MapFlags::PRIVATE, 1 << 63, 75),
        (PAGE, MapFlags::PRIVATE, (1 << 63) - PAGE, 75),
        (2 * PAGE, MapFlags::PRIVATE, u64::MAX - PAGE + 1, 75),
        (u64::MAX - PAGE + 1, MapFlags::PRIVATE, 0, 12),
        (PAGE, validate | MapFlags::SYNC, 0, 95),
        (PAGE, validate | unknown, 0, 95),
    ];
    for (length, flags, offset, errno) in table {
        let backing = Backing::Object(&memory);
        let answer = program.mmap(vm, VirtAddr(0), length, Prot::RW, flags, backing, offset);
        let told = answer.map_err(CallError::errno);
        assert_eq!(told, Err(errno), "mmap({length:#x}, {flags:?}, {offset:#x})");
    }
    assert_eq!(memory.users(), 1);
    for flags in [validate, MapFlags::SHARED | unknown] {
        let backing = Backing::Object(&memory);
        let at = program.mmap(vm, VirtAddr(0), PAGE, Prot::RW, flags, backing, 0).unwrap();
        assert!(program.table()[0].2.contains(AreaFlags::SHARED));
        program.unmap(at, 1);
    }
    vm.close(&memory).unwrap();
}

fn a_fixed_mapping_replaces_the_part_that_it_covers<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 10);
    program.number(BASE, 10);
    let object = vm.open_file(RamFile::<P>::numbered(1, 9)).unwrap();
    program.map_object(BASE + 3 * PAGE, 2, MapFlags::PRIVATE, &object, 6);
    assert_eq!(program.numbers(BASE, 10), [1, 2, 3, 7, 8, 6, 7, 8, 9, 10]);
    program.map_at(BASE + 4 * PAGE, 4);
    assert_eq!(program.numbers(BASE, 10), [1, 2, 3, 7, 0, 0, 0, 0, 9, 10]);
    assert_eq!(program.pages(), [(0, 3), (3, 4), (4, 10)]);
    vm.close(&object).unwrap();
}

fn noreplace_refuses_what_overlaps_and_takes_what_is_free<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE + 4 * PAGE, 2);
    let flags = ANON | MapFlags::FIXED_NOREPLACE;
    for (page, pages) in [(4, 2), (3, 2), (5, 2), (0, 20)] {
        let refused = program.try_map(BASE + page * PAGE, pages, flags);
        assert_eq!(refused, Err(CallError::Exists));
    }
    assert_eq!(program.try_map(BASE, 4, flags), Ok(BASE));
    assert_eq!(program.try_map(BASE + 6 * PAGE, 1, flags), Ok(BASE + 6 * PAGE));
    assert_eq!(program.pages(), [(0, 7)]);
}

fn neighbours_that_mean_the_same_are_one_area<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    program.map_at(BASE + 2 * PAGE, 1);
    assert_eq!(program.area_count(), 2);
    program.map_at(BASE + PAGE, 1);
    assert_eq!(program.pages(), [(0, 3)]);

    let object = vm.open_file(RamFile::<P>::numbered(1, 9)).unwrap();
    program.map_object(BASE + 10 * PAGE, 1, MapFlags::SHARED, &object, 0);
    program.map_object(BASE + 11 * PAGE, 1, MapFlags::SHARED, &object, 1);
    program.map_object(BASE + 12 * PAGE, 1, MapFlags::SHARED, &object, 5);
    assert_eq!(program.pages(), [(0, 3), (10, 12), (12, 13)]);
    assert_eq!(object.users(), 3);
    vm.close(&object).unwrap();
}

fn populate_brings_every_page_in<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let at = program.try_map(BASE, 20, ANON | MapFlags::POPULATE).unwrap();
    assert_eq!(program.resident_pages(vm), 20);
    let before = vm.statistics();
    program.number(at, 20);
    let now = vm.statistics();
    assert_eq!(now.faults_zero_fill, before.faults_zero_fill);

    let object = vm.open_file(RamFile::<P>::numbered(1, 4)).unwrap();
    program.map_object(BASE + 40 * PAGE, 6, MapFlags::SHARED | MapFlags::POPULATE, &object, 0);
    assert_eq!(object.resident_pages(&vm.mmu), 4);
    vm.close(&object).unwrap();
}

fn locked_memory_is_brought_in_and_counted<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let at = program.try_map(BASE, 5, ANON | MapFlags::LOCKED).unwrap();
    assert_eq!((program.resident_pages(vm), program.locked_bytes()), (5, 5 * PAGE));
    program.unmap(at, 2);
    assert_eq!(program.locked_bytes(), 3 * PAGE);
}

fn rights_decide_which_accesses_pass<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    for bits in 0..8 {
        let prot = Prot::from_bits_retain(bits);
        let fixed = ANON | MapFlags::FIXED;
        program.mmap(vm, BASE, PAGE, prot, fixed, Backing::Anonymous, 0).unwrap();
        let load = if prot.is_empty() { no_load(BASE) } else { Ok(0) };
        let store = if prot.contains(Prot::WRITE) { Ok(()) } else { no_store(BASE) };
        // Without an NX bit whatever can be read can be executed.
        let fetches = prot.contains(Prot::EXEC) || (!P::Format::HAS_NX && !prot.is_empty());
        assert_eq!(program.load(BASE), load, "{prot:?}");
        assert_eq!(program.fetch(BASE).is_ok(), fetches, "{prot:?}");
        assert_eq!(program.store(BASE, 1), store, "{prot:?}");
        assert_eq!(program.fetch(BASE).is_ok(), fetches, "{prot:?}");
    }
}

fn replacing_a_shared_file_mapping_writes_it<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, MapFlags::SHARED, &object, 0);
    vm.close(&object).unwrap();
    program.set(BASE, 50);
    program.map_at(BASE, 2);
    assert_eq!((file.byte(0), program.get(BASE)), (50, 0));
}

fn a_length_is_rounded_up_to_whole_pages<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let fixed = ANON | MapFlags::FIXED;
    program.mmap(vm, BASE, PAGE + 1, Prot::RW, fixed, Backing::Anonymous, 0).unwrap();
    program.set(BASE + 2 * PAGE - 1, 1);
    assert_eq!((program.pages(), program.mapped_bytes()), (alloc::vec![(0, 2)], 2 * PAGE));
}

fn a_refused_request_changes_nothing<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    program.number(BASE, 4);
    let table = program.table();
    let too_large = vm.statistics().frames_total + 1;
    assert_eq!(program.try_map(BASE, too_large, ANON | MapFlags::FIXED), Err(CallError::NoMemory));
    assert_eq!(program.table(), table);
    assert_eq!(program.numbers(BASE, 4), [1, 2, 3, 4]);
}

fn a_descriptor_decides_what_can_be_mapped<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 4)).unwrap();
    let (shared, private) = (MapFlags::SHARED, MapFlags::PRIVATE);
    let (load, store, exec) = (Prot::READ, Prot::WRITE, Prot::EXEC);
    let table = [
        (load | exec, Prot::RW, shared, Err(13)),
        (load | exec, load, shared, Ok(load | exec)),
        (load | exec, Prot::RW, private, Ok(Prot::ALL)),
        (store | exec, load, shared, Err(13)),
        (store | exec, load, private, Err(13)),
        (Prot::RW, load | exec, private, Err(1)),
        (Prot::RW, Prot::RW, shared, Ok(Prot::RW)),
        (load | exec, Prot::RW, shared | MapFlags::GROWSDOWN, Err(13)),
        (Prot::ALL, Prot::RW, private | MapFlags::GROWSDOWN, Err(22)),
        (Prot::ALL, load, private | MapFlags::SYNC, Err(95)),
        (Prot::ALL, load, shared | private | MapFlags::FIXED_NOREPLACE, Err(95)),
        (Prot::ALL, load, shared | MapFlags::from_bits_retain(4), Err(22)),
    ];
    for (rights, prot, flags, expected) in table {
        let backing = Backing::Opened(&object, rights);
        let mapped = program.mmap(vm, BASE, PAGE, prot, flags, backing, 0);
        let mut most = None;
        let _ = program.areas(vm, |area| {
            most = Some(area.max_prot);
            core::ops::ControlFlow::<()>::Continue(())
        });
        let answer = mapped.map(|_| most.unwrap()).map_err(CallError::errno);
        assert_eq!(answer, expected, "{rights:?} {prot:?} {flags:?}");
        program.unmap(BASE, 1);
    }
    vm.close(&object).unwrap();
}

fn what_is_checked_first_is_told_first<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 4)).unwrap();
    program.map_at(BASE, 1);
    program.set_limits(rumpvm::Limits { locked: 4 * PAGE, ..Default::default() });
    let noreplace = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
    let locked = MapFlags::SHARED | MapFlags::LOCKED;
    let too_far = (1 << 63) - PAGE;
    // A place first, then locked memory, then the offset, then the descriptor's rights.
    let table = [
        (BASE, PAGE, noreplace, too_far, 17),
        (BASE + 1, PAGE, noreplace, 1, 22),
        (VirtAddr(0), 5 * PAGE, locked, too_far, 11),
        (VirtAddr(0), 4 * PAGE, locked, too_far, 75),
        (VirtAddr(0), 4 * PAGE, locked, 0, 13),
        (VirtAddr(0), u64::MAX, MapFlags::SHARED, 0, 12),
        (VirtAddr(0), 0, MapFlags::SHARED, 0, 22),
        (VirtAddr(0), PAGE, MapFlags::SHARED | MapFlags::HUGETLB, 0, 22),
    ];
    for (hint, length, flags, offset, errno) in table {
        let backing = Backing::Opened(&object, Prot::READ);
        let answer = program.mmap(vm, hint, length, Prot::RW, flags, backing, offset);
        assert_eq!(answer.map_err(CallError::errno), Err(errno), "{hint} {length:#x} {flags:?}");
    }
    program.set_limits(rumpvm::Limits { locked: 0, ..Default::default() });
    let flags = ANON | MapFlags::LOCKED;
    assert_eq!(program.try_map(VirtAddr(0), 1, flags), Err(CallError::NotPermitted));
    vm.close(&object).unwrap();
}

fn memory_that_may_go_is_for_no_child_no_dump_and_no_lock<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let droppable = MapFlags::DROPPABLE | MapFlags::ANONYMOUS;
    for wrong in [MapFlags::LOCKED, MapFlags::GROWSDOWN, MapFlags::SHARED, MapFlags::PRIVATE] {
        let refused = program.try_map(BASE, 2, droppable | wrong);
        assert_eq!(refused, Err(CallError::Invalid), "{wrong:?}");
    }
    let file = vm.open_file(RamFile::<P>::numbered(1, 1)).unwrap();
    let (prot, of_file) = (Prot::READ, Backing::Object(&file));
    let refused = program.mmap(vm, BASE, PAGE, prot, MapFlags::DROPPABLE, of_file, 0);
    assert_eq!(refused, Err(CallError::Invalid));
    vm.close(&file).unwrap();
    assert_eq!(program.try_map(BASE, 2, droppable), Ok(BASE));
    let marks = AreaFlags::DROPPABLE | AreaFlags::NORESERVE;
    let marks = marks | AreaFlags::WIPEONFORK | AreaFlags::DONTDUMP;
    let is_marked = || program.table().iter().all(|(_, _, flags)| *flags == marks);
    program.set(BASE, 7);
    for kept in [17, 19] {
        assert_eq!(program.madvise(vm, BASE, PAGE, kept), Err(CallError::Invalid));
    }
    assert_eq!(program.madvise(vm, BASE, PAGE, 12), Ok(()), "ignored");
    let on_fault = LockFlags::ONFAULT;
    assert_eq!(program.mlock2(vm, BASE, 2 * PAGE, on_fault), Ok(()), "brought in, not locked");
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (0, 2));
    assert!(is_marked());
    program.mlockall(vm, LockAllFlags::FUTURE | LockAllFlags::ONFAULT).unwrap();
    assert_eq!(program.try_map(BASE, 2, droppable | MapFlags::FIXED), Ok(BASE));
    assert_eq!((program.locked_bytes(), program.resident_pages(vm)), (0, 2));
    assert!(is_marked());
    program.set(BASE, 8);
    let child = program.fork();
    assert_eq!((program.get(BASE), child.get(BASE)), (8, 0));
}
