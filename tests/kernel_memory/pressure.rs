//! Pressure: whoever wants a frame when there is none gets one that a zone or the heap of the kernel keeps and nobody uses.

use std::alloc::Layout;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rumpvm::kmem::KernelHeap;
use rumpvm::phys::{Contents, Phys};
use rumpvm::zone::{Spec, Zone};
use rumpvm::{Backing, FaultError, Hold, MapFlags, NoMemory, Space, Vm};
use rumpvm_arch::{Access, Frame, PAGE_SIZE, Prot, VirtAddr};

use crate::machine::{Dice, Home, Machine, alone};

/// Items of which three or four fit a page, so that a free one often keeps a page from going.
const SIZE: u32 = 1000;
/// As many are taken and freed: what stays in magazine, depot and slabs are frames enough for any one request.
const ITEMS: usize = 400;

fn zone(phys: &Phys<Home>, name: &'static str) -> Zone<Home> {
    Zone::try_new(phys, Spec::new(name, SIZE, 8)).unwrap()
}

/// Takes items and frees them all.
fn use_items(zone: &Zone<Home>, phys: &Phys<Home>, items: usize) {
    let items: Vec<NonNull<u8>> = (0..items).map(|_| zone.alloc(phys).unwrap()).collect();
    for item in items {
        // SAFETY: it was taken above.
        unsafe { zone.free(phys, item) };
    }
}

/// Takes every frame that is free without anybody being asked for his.
fn take_what_is_free(phys: &Phys<Home>) -> Vec<Frame> {
    let frames = phys.free_frames();
    let taken = (0..frames).map(|_| phys.take_frame(Contents::Unknown).unwrap()).collect();
    assert_eq!(phys.free_frames(), 0);
    taken
}

fn give_back(phys: &Phys<Home>, frames: Vec<Frame>) {
    frames.into_iter().for_each(|frame| phys.give_back(frame).unwrap());
}

/// A machine where no frame is free, but a zone has some that nobody uses; what `want` takes it gives back through `end`.
fn starved<T>(
    prepare: impl FnOnce(&Vm<Home>) -> T + Send + 'static,
    want: impl FnOnce(&Vm<Home>, &T) + Send + 'static,
    end: impl FnOnce(&Vm<Home>, T) + Send + 'static,
) {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let stage = prepare(vm);
        let mut zone = zone(phys, "hoard");
        use_items(&zone, phys, ITEMS);
        let taken = take_what_is_free(phys);
        let had = zone.usage().frames;
        assert!(had > 16, "the zone keeps {had} frames");

        want(vm, &stage);

        assert!(zone.usage().frames < had, "the zone has let frames go");
        zone.check(phys).unwrap();
        give_back(phys, taken);
        end(vm, stage);
        zone.close(phys).unwrap();
        // What spaces gave up has no readers any more.
        vm.mmu.squeeze();
    });
}

fn map(vm: &Vm<Home>, space: &Space<Home>, pages: u64) -> VirtAddr {
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
    let bytes = pages * PAGE_SIZE;
    space.mmap(vm, VirtAddr(0), bytes, Prot::RW, flags, Backing::Anonymous, 0).unwrap()
}

/// A space with memory that nothing has touched yet.
fn space(vm: &Vm<Home>) -> (Hold<Space<Home>, Home>, VirtAddr) {
    let space = vm.new_space().unwrap();
    let at = map(vm, &space, 4);
    (space, at)
}

#[test]
fn a_fault_of_a_space_succeeds_because_a_zone_of_the_host_gave_back() {
    starved(
        space,
        |vm, (space, at)| vm.fault(space, *at, Access::Write).unwrap(),
        |vm, (space, _)| vm.leave_space(&space),
    );
}

#[test]
fn a_page_of_an_object_comes_because_a_zone_gave_back() {
    starved(
        |vm| vm.shared_memory(PAGE_SIZE).unwrap(),
        |vm, object| assert_eq!(vm.write_object(object, 0, b"here"), Ok(4)),
        |vm, object| vm.close(&object).unwrap(),
    );
}

#[test]
fn a_new_space_gets_its_table_because_a_zone_gave_back() {
    starved(|_| (), |vm, ()| vm.leave_space(&vm.new_space().unwrap()), |_, ()| ());
}

#[test]
fn the_host_gets_frames_and_frames_in_a_row_because_a_zone_gave_back() {
    starved(
        |_| (),
        |vm, ()| {
            let phys = &vm.mmu.phys;
            let one = phys.take_frame(Contents::Zeros).unwrap();
            let two = phys.take_frames(1).unwrap();
            give_back(phys, vec![one, two, Frame(two.0 + 1)]);
        },
        |_, ()| (),
    );
}

#[test]
fn a_zone_in_the_middle_of_its_refill_gets_a_slab_because_another_zone_gave_back() {
    starved(
        |vm| zone(&vm.mmu.phys, "poor"),
        |vm, poor| use_items(poor, &vm.mmu.phys, 1),
        |vm, mut poor| poor.close(&vm.mmu.phys).unwrap(),
    );
}

#[test]
fn a_heap_gets_pages_because_a_zone_gave_back() {
    let layout = Layout::from_size_align(3 * PAGE_SIZE as usize, 16).unwrap();
    starved(
        |vm| KernelHeap::try_new(&vm.mmu.phys).unwrap(),
        move |vm, heap| {
            let block = heap.alloc(&vm.mmu.phys, layout).unwrap();
            // SAFETY: it was taken above, with that layout.
            unsafe { heap.free(&vm.mmu.phys, block, layout) };
        },
        |vm, mut heap| assert!(heap.close(&vm.mmu.phys)),
    );
}

/// Blocks that were in use and are not any more become a frame for whoever wants one.
fn gives_back_what_it_keeps(heap: &KernelHeap<Home>, phys: &Phys<Home>, layout: Layout) {
    let blocks: Vec<_> = (0..200).map(|_| heap.alloc(phys, layout).unwrap()).collect();
    for block in blocks {
        // SAFETY: it was taken above, with that layout.
        unsafe { heap.free(phys, block, layout) };
    }
    let taken = take_what_is_free(phys);

    let one = phys.take_frame(Contents::Unknown).unwrap();

    heap.check(phys).unwrap();
    give_back(phys, taken);
    give_back(phys, vec![one]);
}

#[test]
fn the_host_gets_frames_because_a_heap_gave_back_small_blocks_and_pages() {
    for size in [100, 3 * PAGE_SIZE as usize] {
        alone(move |vm| {
            let phys = &vm.mmu.phys;
            let mut heap = KernelHeap::try_new(phys).unwrap();
            let layout = Layout::from_size_align(size, 16).unwrap();
            gives_back_what_it_keeps(&heap, phys, layout);
            assert!(heap.close(phys));
        });
    }
}

#[test]
fn a_heap_that_could_not_be_closed_goes_on_and_gives_back_what_is_free() {
    for size in [100, 3 * PAGE_SIZE as usize] {
        alone(move |vm| {
            let phys = &vm.mmu.phys;
            let mut heap = KernelHeap::try_new(phys).unwrap();
            let layout = Layout::from_size_align(size, 16).unwrap();
            let kept = heap.alloc(phys, layout).unwrap();
            assert!(!heap.close(phys), "a block is in use");
            gives_back_what_it_keeps(&heap, phys, layout);
            // SAFETY: it was taken above, with that layout.
            unsafe { heap.free(phys, kept, layout) };
            assert!(heap.close(phys));
        });
    }
}

#[test]
fn a_zone_of_long_slabs_makes_do_with_single_frames() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let mut zone = Zone::try_new(phys, Spec::new("long", 1300, 8)).unwrap();
        let item = zone.alloc(phys).unwrap();
        let long = zone.usage().frames;
        assert!(long > 1, "a slab is several frames where there are");
        // No two frames in a row.
        let (kept, free): (Vec<_>, Vec<_>) =
            take_what_is_free(phys).into_iter().partition(|frame| frame.0 % 2 == 0);
        give_back(phys, free);

        let items: Vec<_> = (0..200).map(|_| zone.alloc(phys).unwrap()).collect();

        assert!(zone.usage().frames > long + 20, "{:?}", zone.usage());
        for item in items.into_iter().chain([item]) {
            // SAFETY: it was taken above.
            unsafe { zone.free(phys, item) };
        }
        give_back(phys, kept);
        zone.close(phys).unwrap();
    });
}

#[test]
fn an_arena_that_wants_a_frame_for_its_tags_under_its_own_lock_does_not_meet_itself() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let mut heap = KernelHeap::try_new(phys).unwrap();
        let layout = Layout::from_size_align(PAGE_SIZE as usize + 1, 16).unwrap();
        // All of memory in pieces of two pages: many tags, the last of them when hardly a frame is left.
        let blocks: Vec<_> = std::iter::from_fn(|| heap.alloc(phys, layout).ok()).collect();
        assert!(phys.free_frames() < 64, "{} frames are left", phys.free_frames());
        heap.check(phys).unwrap();
        for block in blocks {
            // SAFETY: it was taken above, with that layout.
            unsafe { heap.free(phys, block, layout) };
        }
        assert!(heap.close(phys));
    });
}

#[test]
fn what_is_in_use_is_not_given_back_whoever_wants_frames() {
    alone(|vm| {
        let (phys, mut dice) = (&vm.mmu.phys, Dice(7));
        let mut zone = zone(phys, "lively");
        let space = vm.new_space().unwrap();
        let memory = map(vm, &space, 4096);
        let mut live: Vec<(NonNull<u8>, u64)> = vec![];
        let mut pressed = 0;
        for round in 0..20_000 {
            if dice.roll(2) == 0
                && let Ok(item) = zone.alloc(phys)
            {
                // SAFETY: an item of the zone's size, and ours.
                unsafe { item.cast::<[u64; 125]>().write([round; 125]) };
                live.push((item, round));
            } else if !live.is_empty() {
                let (item, mark) = live.swap_remove(dice.roll(live.len() as u64) as usize);
                // SAFETY: it was written when it was taken.
                assert_eq!(unsafe { item.cast::<[u64; 125]>().read() }, [mark; 125]);
                // SAFETY: it was taken above.
                unsafe { zone.free(phys, item) };
            }
            if round % 500 == 0 {
                let taken = take_what_is_free(phys);
                // As often as it takes until the zone has nothing left that nobody uses.
                let page = |page: u64| memory + page * PAGE_SIZE;
                while vm.fault(&space, page(pressed), Access::Write).is_ok() {
                    pressed += 1;
                }
                let usage = zone.usage();
                // A fault that needs two frames may have left one.
                assert!(usage.cached == 0 && phys.free_frames() < 4, "{usage:?}");
                zone.check(phys).unwrap();
                give_back(phys, taken);
            }
        }
        assert!(pressed > 0, "nobody got a frame of the zone's");
        for (item, mark) in live {
            // SAFETY: it was written when it was taken.
            assert_eq!(unsafe { item.cast::<[u64; 125]>().read() }, [mark; 125]);
            // SAFETY: it was taken above.
            unsafe { zone.free(phys, item) };
        }
        vm.leave_space(&space);
        zone.close(phys).unwrap();
        vm.mmu.squeeze();
    });
}

#[test]
fn a_fault_gets_what_another_cpu_has_in_its_magazine() {
    let machine = Machine::new(8 << 20, 2);
    let before = machine.free_frames();
    let made = machine.on(0, |vm| zone(&vm.mmu.phys, "there"));
    let zone = Arc::new(made);
    let (space, at) = machine.on(0, |vm| {
        let (space, at) = space(vm);
        // The next page needs a frame for itself and nothing else.
        vm.fault(&space, at, Access::Write).unwrap();
        vm.mmu.squeeze();
        (space, at + PAGE_SIZE)
    });
    let there = Arc::clone(&zone);
    machine.on(1, move |vm| {
        vm.mmu.attach_cpu();
        // Few enough to stay in the magazine.
        use_items(&there, &vm.mmu.phys, 4);
        vm.mmu.phys.drain();
    });
    machine.on(0, move |vm| {
        let phys = &vm.mmu.phys;
        let taken = take_what_is_free(phys);
        assert!(zone.usage().cached >= 4);

        vm.fault(&space, at, Access::Write).unwrap();

        assert_eq!(zone.usage().cached, 0);
        give_back(phys, taken);
        vm.leave_space(&space);
        vm.mmu.squeeze();
        Arc::into_inner(zone).unwrap().close(phys).unwrap();
    });
    assert_eq!(machine.free_frames(), before);
    machine.check();
}

static DESTROYED: AtomicU64 = AtomicU64::new(0);

#[test]
fn a_destructor_of_the_host_runs_only_when_the_host_frees_or_drains() {
    extern "C" fn destroy(_: NonNull<c_void>) {
        DESTROYED.fetch_add(1, Ordering::Relaxed);
    }
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let spec = Spec { destroy: Some(destroy), ..Spec::new("hooked", SIZE, 8) };
        let mut zone = Zone::try_new(phys, spec).unwrap();
        use_items(&zone, phys, ITEMS);
        let taken = take_what_is_free(phys);
        let (destroyed, cached) = (DESTROYED.load(Ordering::Relaxed), zone.usage().cached);
        let mut more = vec![];
        while let Ok(frame) = phys.take_frame(Contents::Unknown) {
            more.push(frame);
        }
        assert_eq!(DESTROYED.load(Ordering::Relaxed), destroyed);
        assert_eq!(zone.usage().cached, cached);
        zone.drain(phys);
        assert_eq!(zone.usage().cached, 0);
        assert!(phys.free_frames() > 0);
        give_back(phys, taken);
        give_back(phys, more);
        zone.close(phys).unwrap();
    });
}

#[test]
fn zones_that_have_ended_are_not_asked_and_those_that_go_on_are() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let mut zones = ["a", "b", "c", "d"].map(|name| zone(phys, name));
        zones.iter().for_each(|zone| use_items(zone, phys, 100));
        let kept = zones[2].alloc(phys).unwrap();
        let ended = zones.each_mut().map(|zone| zone.close(phys).is_ok());
        assert_eq!(ended, [true, true, false, true]);
        let [first, second, mut third, last] = zones;
        drop((second, last));
        // One that was closed begins again.
        use_items(&first, phys, 100);
        use_items(&third, phys, 100);
        let taken = take_what_is_free(phys);
        let frames = first.usage().frames + third.usage().frames;
        let more: Vec<Frame> =
            std::iter::from_fn(|| phys.take_frame(Contents::Unknown).ok()).collect();
        assert_eq!((first.usage().frames, first.usage().cached), (0, 0));
        assert_eq!(third.usage().cached, 0);
        assert_eq!(frames - third.usage().frames, more.len() as u64);
        // SAFETY: it was taken above.
        unsafe { third.free(phys, kept) };
        give_back(phys, taken);
        give_back(phys, more);
        let mut first = first;
        first.close(phys).unwrap();
        third.close(phys).unwrap();
    });
}

#[test]
fn when_nobody_has_anything_left_there_is_no_memory() {
    starved(
        space,
        |vm, (space, at)| {
            let phys = &vm.mmu.phys;
            let more: Vec<Frame> =
                std::iter::from_fn(|| phys.take_frame(Contents::Unknown).ok()).collect();
            assert_eq!(phys.take_frames(1), Err(NoMemory));
            let fault = vm.fault(space, *at, Access::Write);
            assert_eq!(fault, Err(FaultError::NoMemory { at: *at }));
            give_back(phys, more);
            vm.fault(space, *at, Access::Write).unwrap();
        },
        |vm, (space, _)| vm.leave_space(&space),
    );
}
