//! Kernel maps: memory in the window of kernel addresses.

use rumpvm::Vm;
use rumpvm::kmem::{Backing, Guards, KernelMap, MapError};
use rumpvm::pmap::TlbScope;
use rumpvm_arch::{PAGE_SIZE, VirtAddr, VirtRange, kernel_half, span};
use rumpvm_platform::Scarce;

use crate::machine::{Dice, Home, Machine};

const PAGES: u64 = 600;

/// Opens a window, runs `work`, and demands that all frames but those of tables come back.
fn with_window(work: impl FnOnce(&Vm<Home>) + Send + 'static) {
    let machine = Machine::new(16 << 20, 2);
    machine.on(0, |vm| {
        let start = kernel_half::<rumpvm_arch::X86_64>().start + 3 * span::<rumpvm_arch::X86_64>(2);
        let window = VirtRange::new(start, start + PAGES * PAGE_SIZE);
        let link = |link: rumpvm::pmap::Link| {
            vm.platform().link_kernel(link.at, link.level, link.entry);
        };
        let kernel = vm.mmu.open_window(window, TlbScope::Global, link).unwrap();
        // The tables stay with the window.
        kernel.prepare(&vm.mmu, window).unwrap();
        let before = vm.mmu.phys.free_frames();
        work(vm);
        assert_eq!(kernel.resident(&vm.mmu), 0);
        for _ in 0..3 {
            vm.mmu.phys.epoch.advance();
        }
        vm.mmu.phys.collect();
        assert_eq!(vm.mmu.phys.free_frames(), before, "every frame is back");
    });
    machine.check();
}

fn load(vm: &Vm<Home>, at: VirtAddr) -> Option<u64> {
    let mut bytes = [0; 8];
    vm.platform().load_kernel(at, &mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

fn store(vm: &Vm<Home>, at: VirtAddr, value: u64) -> bool {
    vm.platform().store_kernel(at, &value.to_ne_bytes()).is_ok()
}

#[test]
fn wired_memory_is_there_zero_and_in_a_row_and_its_guards_fault() {
    with_window(|vm| {
        let mmu = &vm.mmu;
        let mut map = KernelMap::try_new(mmu, Backing::Wired, Guards::Both).unwrap();
        let (one, other) = (map.alloc(mmu, 3 * PAGE_SIZE).unwrap(), map.alloc(mmu, 1).unwrap());
        for page in 0..3 {
            let at = one + page * PAGE_SIZE;
            assert_eq!(load(vm, at), Some(0));
            assert!(store(vm, at, page + 1));
        }
        assert!(store(vm, other, 9));
        assert_eq!((load(vm, one), load(vm, one + 2 * PAGE_SIZE)), (Some(1), Some(3)));
        let before = |at: VirtAddr| VirtAddr(at.0 - 8);
        for guard in [before(one), one + 3 * PAGE_SIZE, before(other), other + PAGE_SIZE] {
            assert_eq!(load(vm, guard), None, "{guard}");
            assert_eq!(map.fault(mmu, guard), Err(MapError::BadAddress));
        }
        assert_eq!(map.fault(mmu, one), Err(MapError::BadAddress), "it is there already");
        map.free(mmu, one, 3 * PAGE_SIZE).unwrap();
        assert_eq!((load(vm, one), load(vm, other)), (None, Some(9)));
        assert!(!map.close(mmu), "a page is in use");
        map.free(mmu, other, 1).unwrap();
        map.check(mmu).unwrap();
        assert!(map.close(mmu));
    });
}

#[test]
fn pageable_memory_comes_when_it_is_touched() {
    with_window(|vm| {
        let mmu = &vm.mmu;
        let mut map = KernelMap::try_new(mmu, Backing::Pageable, Guards::Both).unwrap();
        let at = map.alloc(mmu, 100 * PAGE_SIZE).unwrap();
        assert_eq!(mmu.kernel().unwrap().resident(mmu), 0);
        assert_eq!(load(vm, at + 50 * PAGE_SIZE), None);
        map.fault(mmu, at + 50 * PAGE_SIZE + 17).unwrap();
        assert!(store(vm, at + 50 * PAGE_SIZE, 5));
        // Who comes second finds it there.
        map.fault(mmu, at + 50 * PAGE_SIZE).unwrap();
        assert_eq!(load(vm, at + 50 * PAGE_SIZE), Some(5));
        assert_eq!(mmu.kernel().unwrap().resident(mmu), 1);
        for guard in [VirtAddr(at.0 - 1), at + 100 * PAGE_SIZE] {
            assert_eq!(map.fault(mmu, guard), Err(MapError::BadAddress));
        }
        map.free(mmu, at, 100 * PAGE_SIZE).unwrap();
        assert_eq!(map.fault(mmu, at), Err(MapError::BadAddress));
        assert!(map.close(mmu));
    });
}

#[test]
fn a_submap_has_a_limit_of_its_own_and_gives_its_addresses_back() {
    with_window(|vm| {
        let mmu = &vm.mmu;
        let mut map = KernelMap::try_new(mmu, Backing::Wired, Guards::None).unwrap();
        let all = map.free_bytes();
        let mut part =
            map.submap(mmu, "part", 20 * PAGE_SIZE, Backing::Pageable, Guards::None).unwrap();
        assert_eq!(map.free_bytes(), all - 20 * PAGE_SIZE);
        let at = part.alloc(mmu, 15 * PAGE_SIZE).unwrap();
        assert_eq!(part.alloc(mmu, 6 * PAGE_SIZE), Err(MapError::NoMemory));
        assert!(
            map.alloc(mmu, 6 * PAGE_SIZE)
                .is_ok_and(|own| map.free(mmu, own, 6 * PAGE_SIZE).is_ok())
        );
        part.fault(mmu, at + PAGE_SIZE).unwrap();
        assert_eq!(map.end_submap(mmu, &mut part), None);
        part.free(mmu, at, 15 * PAGE_SIZE).unwrap();
        assert_eq!(map.end_submap(mmu, &mut part), Some(()));
        assert_eq!(map.free_bytes(), all);
        let too_large = map.submap(mmu, "none", all + 1, Backing::Wired, Guards::None);
        assert_eq!(too_large.err(), Some(MapError::NoMemory));
        assert!(map.close(mmu));
    });
}

#[test]
fn a_refused_frame_leaves_a_kernel_map_as_it_was() {
    for nth in 1..40 {
        with_window(move |vm| {
            let mmu = &vm.mmu;
            let mut map = KernelMap::try_new(mmu, Backing::Wired, Guards::Both).unwrap();
            // The arena has its tags, so that addresses can be compared.
            let first = map.alloc(mmu, PAGE_SIZE).unwrap();
            let free = map.free_bytes();
            vm.platform().failures().fail_from(Scarce::Frame, nth);
            let more = map.alloc(mmu, 30 * PAGE_SIZE);
            vm.platform().failures().fail_nth(Scarce::Frame, 0);
            match more {
                Ok(at) => {
                    assert!(nth > 30, "30 pages are 30 frames");
                    map.free(mmu, at, 30 * PAGE_SIZE).unwrap();
                }
                Err(error) => assert_eq!(error, MapError::NoMemory),
            }
            assert_eq!(map.free_bytes(), free);
            assert_eq!(mmu.kernel().unwrap().resident(mmu), 1);
            map.free(mmu, first, PAGE_SIZE).unwrap();
            assert!(map.close(mmu));
        });
    }
}

#[test]
fn random_wired_memory_keeps_what_was_stored() {
    with_window(|vm| {
        let (mmu, mut dice) = (&vm.mmu, Dice(4));
        let mut map = KernelMap::try_new(mmu, Backing::Wired, Guards::None).unwrap();
        let mut held: Vec<(VirtAddr, u64, u64)> = vec![];
        for round in 0..1500 {
            let pages = 1 + dice.roll(20);
            if dice.roll(2) == 0
                && let Ok(at) = map.alloc(mmu, pages * PAGE_SIZE)
            {
                (0..pages).for_each(|page| assert!(store(vm, at + page * PAGE_SIZE, round + page)));
                held.push((at, pages, round));
            } else if !held.is_empty() {
                let (at, pages, mark) = held.swap_remove(dice.roll(held.len() as u64) as usize);
                for page in 0..pages {
                    assert_eq!(load(vm, at + page * PAGE_SIZE), Some(mark + page));
                }
                map.free(mmu, at, pages * PAGE_SIZE).unwrap();
            }
        }
        map.check(mmu).unwrap();
        for (at, pages, _) in held {
            map.free(mmu, at, pages * PAGE_SIZE).unwrap();
        }
        assert!(map.close(mmu));
    });
}

#[test]
fn without_a_window_there_is_no_kernel_map() {
    let machine = Machine::new(4 << 20, 1);
    machine.on(0, |vm| {
        let refused = KernelMap::try_new(&vm.mmu, Backing::Wired, Guards::None);
        assert_eq!(refused.err(), Some(MapError::NoWindow));
    });
}
