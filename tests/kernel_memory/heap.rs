//! The heap: blocks of any layout, by zones and pages.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use rumpvm::NoMemory;
use rumpvm::kmem::{HostHeap, KernelHeap};
use rumpvm::phys::Phys;
use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::Scarce;

use crate::machine::{Dice, Home, Machine, alone};

/// A block and what its bytes are.
struct Block {
    at: NonNull<u8>,
    layout: Layout,
    mark: u8,
}

// SAFETY: a block is used by whoever has it.
unsafe impl Send for Block {}

impl Block {
    fn new(at: NonNull<u8>, layout: Layout, mark: u8) -> Self {
        // SAFETY: the block is fresh and has so many bytes.
        unsafe { at.write_bytes(mark, layout.size()) };
        Self { at, layout, mark }
    }

    /// Whether the first `bytes` bytes are what was written.
    fn is_whole(&self, bytes: usize) -> bool {
        // SAFETY: the block is ours, all of it has been written, and `bytes` is not more than it has.
        let seen = unsafe { std::slice::from_raw_parts(self.at.as_ptr(), bytes) };
        seen.iter().all(|byte| *byte == self.mark)
    }

    fn free(self, heap: &KernelHeap<Home>, phys: &Phys<Home>, dice: &mut Dice) {
        assert!(self.is_whole(self.layout.size()));
        // SAFETY: the block came from this heap with that layout, and `self` is used up.
        unsafe {
            match dice.roll(3) {
                0 => heap.free_unsized(phys, self.at),
                _ => heap.free(phys, self.at, self.layout),
            }
        }
    }
}

/// Mostly small sizes, some of pages, few of very many; alignments up to 16 KiB.
fn layout(dice: &mut Dice) -> Layout {
    let size = match dice.roll(100) {
        0..70 => dice.roll(300),
        70..90 => dice.roll(5000),
        90..98 => dice.roll(40_000),
        _ => dice.roll(400_000),
    };
    let align = match dice.roll(10) {
        0..7 => 1 << dice.roll(5),
        _ => 1 << dice.roll(15),
    };
    Layout::from_size_align(size as usize, align).unwrap()
}

/// A random program of one CPU on `heap`; what it still has.
fn play(heap: &KernelHeap<Home>, phys: &Phys<Home>, seed: u64, rounds: u64) -> Vec<Block> {
    let mut dice = Dice(seed);
    let mut blocks: Vec<Block> = vec![];
    for round in 0..rounds {
        let wanted = if dice.roll(1000) == 0 { 0 } else { 150 };
        if blocks.len() < wanted && dice.roll(2) == 0 {
            let layout = layout(&mut dice);
            let at = heap.alloc(phys, layout).expect("there is memory");
            assert!(at.as_ptr().addr().is_multiple_of(layout.align()));
            assert!(heap.usable(phys, at) >= layout.size());
            blocks.push(Block::new(at, layout, round as u8));
        } else if !blocks.is_empty() {
            let at = dice.roll(blocks.len() as u64) as usize;
            let mut block = blocks.swap_remove(at);
            if dice.roll(3) == 0 {
                let new = layout(&mut dice);
                // SAFETY: the block is ours, from this heap, with that layout.
                let moved = unsafe { heap.realloc(phys, block.at, block.layout, new.size()) };
                let kept = new.size().min(block.layout.size());
                block.at = moved.expect("there is memory");
                block.layout = Layout::from_size_align(new.size(), block.layout.align()).unwrap();
                assert!(block.at.as_ptr().addr().is_multiple_of(block.layout.align()));
                assert!(block.is_whole(kept), "seed {seed}");
                blocks.push(Block::new(block.at, block.layout, block.mark));
            } else {
                block.free(heap, phys, &mut dice);
            }
        }
    }
    blocks
}

#[test]
fn blocks_of_a_random_program_keep_their_bytes_and_are_disjoint() {
    for seed in 1..=3 {
        alone(move |vm| {
            let phys = &vm.mmu.phys;
            let free = phys.free_frames();
            let mut heap = KernelHeap::try_new(phys).unwrap();
            let blocks = play(&heap, phys, seed, 10_000);
            let usage = heap.usage();
            let frames = usage.frames + usage.pages.frames + usage.pages.total / PAGE_SIZE;
            assert_eq!(free - phys.free_frames(), frames, "every frame is counted once");
            let mut ends = BTreeMap::new();
            for block in &blocks {
                let start = block.at.as_ptr().addr();
                ends.insert(start, start + block.layout.size());
            }
            assert!(ends.iter().zip(ends.keys().skip(1)).all(|((_, end), next)| end <= next));
            heap.check(phys).unwrap();
            assert!(!heap.close(phys) || blocks.is_empty());
            let mut dice = Dice(seed);
            blocks.into_iter().for_each(|block| block.free(&heap, phys, &mut dice));
            assert_eq!(heap.usage().blocks, 0);
            assert!(heap.close(phys));
        });
    }
}

#[test]
fn blocks_that_other_cpus_free_keep_their_bytes_until_then() {
    let machine = Machine::new(64 << 20, 4);
    let before = machine.free_frames();
    let heap = machine.on(0, |vm| KernelHeap::try_new(&vm.mmu.phys).unwrap());
    let heap = Arc::new(heap);
    let (used, left) = (Arc::clone(&heap), Arc::new(Mutex::new(Vec::new())));
    let passed = Arc::clone(&left);
    machine.on_each(4, move |phys, cpu| {
        let mut dice = Dice(cpu.into());
        for round in 0..6 {
            let own = play(&used, phys, u64::from(cpu) + 10 * round, 1500);
            let theirs = std::mem::replace(&mut *passed.lock().unwrap(), own);
            theirs.into_iter().for_each(|block| block.free(&used, phys, &mut dice));
            if dice.roll(3) == 0 {
                used.drain(phys);
            }
        }
    });
    let mut heap = Arc::into_inner(heap).unwrap();
    machine.on(0, move |vm| {
        let phys = &vm.mmu.phys;
        let left = std::mem::take(&mut *left.lock().unwrap());
        left.into_iter().for_each(|block| block.free(&heap, phys, &mut Dice(0)));
        heap.check(phys).unwrap();
        assert!(heap.close(phys));
    });
    assert_eq!(machine.free_frames(), before);
    machine.check();
}

#[test]
fn a_frame_that_is_refused_at_any_moment_is_an_error_or_nothing() {
    for nth in 1..100 {
        for lasting in [false, true] {
            alone(move |vm| {
                let (phys, mut dice) = (&vm.mmu.phys, Dice(nth));
                let mut heap = KernelHeap::try_new(phys).unwrap();
                let failures = vm.platform().failures();
                if lasting {
                    failures.fail_from(Scarce::Frame, nth);
                } else {
                    failures.fail_nth(Scarce::Frame, nth);
                }
                let (mut blocks, mut refused) = (vec![], 0);
                for _ in 0..150 {
                    let layout = layout(&mut dice);
                    match heap.alloc(phys, layout) {
                        Ok(at) => blocks.push(Block::new(at, layout, 7)),
                        Err(NoMemory) => refused += 1,
                    }
                }
                // What others keep in their caches was given back, and asked for again.
                assert!(lasting || refused == 0);
                failures.fail_nth(Scarce::Frame, 0);
                heap.check(phys).unwrap();
                blocks.into_iter().for_each(|block| block.free(&heap, phys, &mut dice));
                assert!(heap.close(phys));
            });
        }
    }
}

#[test]
fn what_is_in_use_is_counted_and_what_is_free_goes_back_when_it_is_asked_for() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let mut heap = KernelHeap::try_new(phys).unwrap();
        let before = phys.free_frames();
        let layouts = [100, 100, 2048, 3 * PAGE_SIZE as usize]
            .map(|size| Layout::from_size_align(size, 16).unwrap());
        let blocks = layouts.map(|layout| heap.alloc(phys, layout).unwrap());
        let usage = heap.usage();
        assert_eq!((usage.blocks, usage.bytes), (3, 2 * 112 + 2048), "those of the classes");
        assert_eq!(usage.pages.total - usage.pages.free - usage.pages.cached, 3 * PAGE_SIZE);
        for (block, layout) in blocks.into_iter().zip(layouts) {
            // SAFETY: it was taken above, with that layout.
            unsafe { heap.free(phys, block, layout) };
        }
        assert!(phys.free_frames() < before, "some are kept");
        heap.drain(phys);
        assert_eq!(phys.free_frames(), before);
        assert!(heap.close(phys));
    });
}

#[test]
fn what_one_class_keeps_free_serves_another_when_memory_is_short() {
    let machine = Machine::new(4 << 20, 1);
    machine.on(0, |vm| {
        let phys = &vm.mmu.phys;
        let mut heap = KernelHeap::try_new(phys).unwrap();
        let fill = |size: usize| {
            let layout = Layout::from_size_align(size, 16).unwrap();
            let mut blocks = vec![];
            while let Ok(at) = heap.alloc(phys, layout) {
                blocks.push(at);
            }
            let bytes = blocks.len() * size;
            for at in blocks {
                // SAFETY: the block came from this heap with this layout.
                unsafe { heap.free(phys, at, layout) };
            }
            bytes as u64
        };
        let frames = phys.free_frames();
        for size in [4096, 64, 1 << 15, 2048, 100, 4096] {
            let bytes = fill(size);
            // Half of it and more, with red zones and records; all that is free was to be had.
            assert!(bytes >= frames * PAGE_SIZE * 2 / 5, "{bytes} bytes in blocks of {size}");
        }
        assert!(heap.close(phys));
        assert_eq!(phys.free_frames(), frames);
    });
}

#[test]
fn it_serves_as_a_global_allocator() {
    let machine = Machine::new(16 << 20, 1);
    let before = machine.free_frames();
    let phys: &'static Phys<Home> = machine.on(0, |vm| {
        // SAFETY: the machine outlives what is done with it in this test, all on its CPU.
        unsafe { &*std::ptr::from_ref(&vm.mmu.phys) }
    });
    machine.on(0, move |_| {
        let heap = HostHeap::try_new(phys).unwrap();
        for size in [1, 40, 4096, 5000, 100_000] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: the layout has a size, and the block is given back once, with the layout that it has.
            unsafe {
                let at = heap.alloc_zeroed(layout);
                assert!(!at.is_null());
                assert!((0..size).all(|byte| at.add(byte).read() == 0));
                at.write_bytes(3, size);
                let at = heap.realloc(at, layout, 3 * size);
                assert!((0..size).all(|byte| at.add(byte).read() == 3));
                heap.dealloc(at, Layout::from_size_align(3 * size, 8).unwrap());
            }
        }
        let impossible = Layout::from_size_align(1 << 40, 8).unwrap();
        // SAFETY: the layout has a size.
        assert!(unsafe { heap.alloc(impossible) }.is_null());
        assert_eq!(heap.heap().usage().blocks, 0);
        heap.heap().drain(phys);
    });
    assert_eq!(machine.free_frames(), before);
    machine.check();
}
