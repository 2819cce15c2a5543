//! RAM that the component does not have: mapped as a device, or given to it while programs run.

use rumpvm::{AddMemoryError, Backing, FaultError, MapFlags, Vm, WaitFor};
use rumpvm_arch::{I386, PAGE_SIZE, PhysAddr, Prot, VirtAddr};
use rumpvm_harness::machine::{Machine, User};
use rumpvm_hosted::Hosted;
use rumpvm_platform::CpuId;

const BASE: VirtAddr = VirtAddr(0x4000_0000);
const HELD_BACK: u64 = 4 << 20;

#[test]
fn frames_without_a_record_are_mapped_as_they_are_and_never_freed() {
    let machine = Machine::builder().memory(16 << 20).held_back(HELD_BACK).build();
    let end = machine.hosted().memory().1;
    let first = PhysAddr(end.0 - HELD_BACK).frame();
    let before = machine.vm().statistics().frames_total;
    machine.run(move |user| {
        let device = user.vm().device(first, 3).unwrap();
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let map = |pages: u64, prot, page: u64| {
            let (length, offset) = (pages * PAGE_SIZE, page * PAGE_SIZE);
            user.mmap(BASE, length, prot, flags, Backing::Object(&device), offset).unwrap();
        };
        map(4, Prot::RW, 0);
        user.store_u64(BASE + 2 * PAGE_SIZE, 42).unwrap();
        let child = |user: &User| {
            user.store_u64(BASE, 43).unwrap();
            user.load_u64(BASE + 2 * PAGE_SIZE).unwrap() as i32
        };
        user.fork(child).unwrap();
        assert_eq!(user.wait(WaitFor::Any).unwrap().1, 42);
        assert_eq!(user.load_u64(BASE), Ok(43));
        let at = BASE + 3 * PAGE_SIZE;
        assert_eq!(user.load_u64(at), Err(FaultError::BeyondEnd { at }));

        // What was stored stays in the device when nobody maps it.
        user.munmap(BASE, 4 * PAGE_SIZE).unwrap();
        map(1, Prot::READ, 2);
        assert_eq!(user.load_u64(BASE), Ok(42));
        user.vm().close(&device).unwrap();
    });
    machine.check();
    assert_eq!(machine.vm().statistics().frames_total, before);
}

#[test]
fn memory_that_is_added_while_a_program_runs_is_used_by_it() {
    let machine =
        Machine::builder().format::<I386>().memory(8 << 20).held_back(HELD_BACK).cpus(1).build();
    let added = machine.clone();
    machine.run(move |user| {
        let pages = (6 << 20) / PAGE_SIZE;
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::NORESERVE;
        let length = pages * PAGE_SIZE;
        let at = user.mmap(BASE, length, Prot::RW, flags, Backing::Anonymous, 0).unwrap();
        let store = |page: u64| user.store_u64(at + page * PAGE_SIZE, page + 1);
        let full = (0..pages).find(|page| store(*page).is_err()).expect("4 MiB are not 6");
        added.add_held_back().unwrap();
        (full..pages).for_each(|page| store(page).unwrap());
        assert!((0..pages).all(|page| user.load_u64(at + page * PAGE_SIZE) == Ok(page + 1)));
    });
    machine.check();
}

#[test]
fn ranges_that_adjoin_are_added_and_ranges_that_overlap_are_not() {
    const PIECE: u64 = 8 * PAGE_SIZE;
    let machine = Machine::builder().memory(16 << 20).held_back(HELD_BACK).build();
    let end = machine.hosted().memory().1;
    machine.on_cpu(move |vm| {
        let begin = end.0 - HELD_BACK;
        let add = |from: u64, to: u64| vm.add_memory(PhysAddr(from), PhysAddr(to));
        let before = vm.statistics().frames_total;
        // Downwards from the end, with holes of a piece between them, then the holes, which adjoin on both sides.
        let even = |piece: u64| begin + 2 * piece * PIECE;
        for piece in (1..10).rev() {
            assert_eq!(add(even(piece), even(piece) + PIECE), Ok(()));
        }
        let (first, after) = (even(1), even(1) + PIECE);
        for (from, to) in [
            (first, after),
            (first - PIECE / 2, first + PIECE / 2),
            (first + PIECE / 2, after + PIECE / 2),
            (first - PIECE / 2, after + PIECE / 2),
            (first + PIECE / 4, after - PIECE / 4),
            (first - PIECE / 2, first + PAGE_SIZE),
            (after - PAGE_SIZE, after + PIECE / 2),
        ] {
            assert_eq!(add(from, to), Err(AddMemoryError::Overlaps), "{from:#x}..{to:#x}");
        }
        for piece in 0..9 {
            assert_eq!(add(even(piece) + PIECE, even(piece + 1)), Ok(()));
        }
        assert_eq!(vm.statistics().frames_total, before + 18 * PIECE / PAGE_SIZE);
    });
    machine.check();
}

#[test]
fn more_ranges_than_there_is_room_for_are_refused() {
    let machine = Machine::builder().memory(16 << 20).held_back(HELD_BACK).build();
    let end = machine.hosted().memory().1;
    machine.on_cpu(move |vm| {
        let piece = |number: u64| PhysAddr(end.0 - HELD_BACK + number * 4 * PAGE_SIZE);
        let add = |number| vm.add_memory(piece(number), piece(number + 1));
        // The machine came with one.
        assert!((1..64).all(|number| add(number) == Ok(())));
        assert_eq!(add(64), Err(AddMemoryError::TooManySegments));
        assert_eq!(add(64).unwrap_err().to_string(), "there are 64 ranges already");
    });
    machine.check();
}

#[test]
fn the_smallest_memory_is_a_frame_beside_records_and_zeros() {
    let (hosted, power) = Hosted::<I386>::power_on(1 << 20, 1).unwrap();
    let (start, _) = hosted.memory();
    let home = hosted.clone();
    hosted.run(Some(CpuId(0)), move || {
        let vm = Vm::new(home).unwrap();
        let add = |frames| vm.add_memory(start, start + frames * PAGE_SIZE);
        assert_eq!(
            (add(1), add(2)),
            (Err(AddMemoryError::TooSmall), Err(AddMemoryError::TooSmall))
        );
        assert_eq!(add(3), Ok(()));
        assert_eq!((vm.statistics().frames_total, vm.mmu.phys.free_frames()), (3, 1));
    });
    drop(power);
}

#[test]
fn what_other_cpus_keep_in_their_caches_starves_nobody_on_a_small_machine() {
    const CPUS: u32 = 4;
    // No round number: the share of each CPU is a quotient, and no remainder.
    let memory = (4 << 20) - 24 * PAGE_SIZE;
    let machine = Machine::builder().memory(memory).cpus(CPUS as usize).build();
    let take_and_free_all = |cpu| {
        let kernel = machine.clone();
        machine.hosted().run(Some(CpuId(cpu)), move || {
            let phys = &kernel.vm().mmu.phys;
            let taken: Vec<_> = std::iter::from_fn(|| phys.alloc().ok()).collect();
            let count = taken.len() as u64;
            taken.into_iter().for_each(|fresh| phys.free(fresh));
            count
        })
    };
    let least = machine.vm().mmu.phys.free_frames() - machine.vm().statistics().frames_total / 10;
    for cpu in 0..2 * CPUS {
        let count = take_and_free_all(cpu % CPUS);
        assert!(count >= least, "{count} of {least}");
    }
    machine.check();
}
