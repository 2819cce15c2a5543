//! Arenas: ranges of numbers that nobody looks at.

use std::collections::BTreeMap;

use rumpvm::NoMemory;
use rumpvm::kmem::{Arena, ArenaSpec, Direct, Fit, Span};
use rumpvm_arch::PAGE_SIZE;

use crate::machine::{Dice, Machine, alone};

fn spec(quantum: u64, fit: Fit, cached: usize) -> ArenaSpec {
    ArenaSpec { name: "numbers", quantum, fit, cached, spare: 0 }
}

/// What is allocated, by start.
type Model = BTreeMap<u64, u64>;

fn is_disjoint(model: &Model, start: u64, size: u64) -> bool {
    let before = model.range(..start + size).next_back();
    before.is_none_or(|(at, had)| at + had <= start)
}

#[test]
fn ranges_are_disjoint_aligned_and_inside_and_all_come_back() {
    for (seed, fit, cached) in [(1, Fit::Instant, 0), (2, Fit::Best, 0), (3, Fit::Instant, 4)] {
        alone(move |vm| {
            let (phys, mut dice) = (&vm.mmu.phys, Dice(seed));
            let mut arena = Arena::try_new(phys, spec(8, fit, cached), None).unwrap();
            arena.add(phys, Span { start: 1003, size: 1 << 14 }).unwrap();
            arena.add(phys, Span { start: 1 << 40, size: 1 << 12 }).unwrap();
            let total = arena.usage().total;
            let mut model = Model::new();
            let mut refused = 0;
            for round in 0..20_000 {
                if dice.roll(100) < 52 {
                    let most = 2 << dice.roll(9);
                    let size = 1 + dice.roll(most);
                    let align = 8 << dice.roll(5).saturating_sub(1);
                    match arena.alloc_aligned(phys, size, align) {
                        Ok(start) => {
                            let size = size.next_multiple_of(8);
                            assert!(start.is_multiple_of(align), "seed {seed}, {start:#x}");
                            let inside = |from: u64, to: u64| start >= from && start + size <= to;
                            assert!(
                                inside(1008, 1003 + (1 << 14))
                                    || inside(1 << 40, (1 << 40) + (1 << 12))
                            );
                            assert!(is_disjoint(&model, start, size), "seed {seed}: {start:#x}");
                            model.insert(start, size);
                        }
                        Err(NoMemory) => refused += 1,
                    }
                } else if let Some((start, size)) = {
                    let from = dice.roll((1 << 14) + 1000);
                    model.range(from..).next().map(|(start, size)| (*start, *size))
                } {
                    model.remove(&start);
                    if dice.roll(8) == 0 {
                        // Grown in its place, if at all: whoever has the rest keeps it.
                        let more = size + dice.roll(64);
                        if arena.resize(phys, start, more) {
                            let more = more.next_multiple_of(8);
                            assert!(is_disjoint(&model, start, more), "seed {seed}: {start:#x}");
                            model.insert(start, more);
                            continue;
                        }
                    }
                    arena.free(phys, start, size);
                }
                if round % 1000 == 0 {
                    arena.check(phys).unwrap();
                }
            }
            assert!(refused > 0, "seed {seed} fills the arena");
            let mut seen = Model::new();
            let in_use: u64 = model.values().sum();
            let usage = arena.usage();
            assert_eq!(usage.free + usage.cached + in_use, total);
            arena.for_each_allocated(phys, |span| _ = seen.insert(span.start, span.size));
            assert!(model.iter().all(|(start, size)| seen.get(start) == Some(size)));

            for (start, size) in model {
                assert_eq!(arena.size_of(phys, start), Some(size));
                arena.free(phys, start, size);
            }
            arena.drain(phys);
            arena.check(phys).unwrap();
            assert_eq!((arena.usage().free, arena.usage().allocated), (total, 0));
            // All of it is in one piece again.
            let all = arena.alloc(phys, (1 << 14) - 8).unwrap();
            arena.free(phys, all, (1 << 14) - 8);
            assert!(arena.close(phys));
        });
    }
}

#[test]
fn the_best_fit_is_the_smallest_segment_and_the_instant_one_is_large_enough() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        for (fit, expected) in [(Fit::Best, 300), (Fit::Instant, 1000)] {
            let mut arena = Arena::try_new(phys, spec(1, fit, 0), None).unwrap();
            arena.add(phys, Span { start: 300, size: 70 }).unwrap();
            arena.add(phys, Span { start: 500, size: 90 }).unwrap();
            arena.add(phys, Span { start: 1000, size: 200 }).unwrap();
            assert_eq!(arena.alloc(phys, 66), Ok(expected), "{fit:?}");
            // What only the list of its own size has is found there.
            let second = arena.alloc(phys, 85).unwrap();
            arena.check(phys).unwrap();
            assert!(!arena.close(phys), "something is allocated");
            arena.free(phys, expected, 66);
            arena.free(phys, second, 85);
            assert!(arena.close(phys));
        }
    });
}

#[test]
fn a_quantum_is_rounded_up_to_a_power_of_two() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let mut arena = Arena::try_new(phys, spec(24, Fit::Instant, 2), None).unwrap();
        arena.add(phys, Span { start: 32, size: 96 }).unwrap();
        let starts = [(); 3].map(|()| arena.alloc(phys, 24).unwrap());
        assert!(starts.iter().all(|start| start.is_multiple_of(32)), "{starts:?}");
        assert_eq!(arena.alloc(phys, 24), Err(NoMemory));
        for start in starts {
            arena.free(phys, start, 24);
        }
        arena.check(phys).unwrap();
        assert!(arena.close(phys));
    });
}

#[test]
fn a_span_without_a_whole_quantum_is_none() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let mut arena = Arena::try_new(phys, spec(8, Fit::Instant, 0), None).unwrap();
        arena.add(phys, Span { start: 7, size: 8 }).unwrap();
        arena.add(phys, Span { start: 16, size: 0 }).unwrap();
        assert_eq!((arena.usage().total, arena.alloc(phys, 1)), (0, Err(NoMemory)));
        arena.add(phys, Span { start: 16, size: 16 }).unwrap();
        assert_eq!(arena.alloc(phys, 0), Err(NoMemory), "of no size");
        arena.check(phys).unwrap();
        assert!(arena.close(phys));
    });
}

#[test]
fn what_is_allocated_grows_into_all_that_is_free_behind_it_and_no_further() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let before = phys.free_frames();
        let mut arena = Arena::try_new(phys, spec(8, Fit::Best, 0), None).unwrap();
        arena.add(phys, Span { start: 800, size: 400 }).unwrap();
        assert_eq!([arena.alloc(phys, 80), arena.alloc(phys, 80)], [Ok(800), Ok(880)]);
        assert_eq!(before - phys.free_frames(), arena.usage().frames, "its tags are in these");
        assert!(!arena.resize(phys, 800, 88), "the next one begins there");
        assert!(arena.resize(phys, 880, 320), "to the very end");
        assert_eq!((arena.size_of(phys, 880), arena.usage().free), (Some(320), 0));
        assert!(!arena.resize(phys, 880, 328), "beyond the end");
        arena.check(phys).unwrap();
        // What is given up is there for others, and grown into again.
        assert!(arena.resize(phys, 800, 40) && arena.resize(phys, 880, 8));
        assert_eq!(arena.usage().free, 352);
        let containing = |at| arena.containing(phys, at).map(|span| (span.start, span.size));
        assert_eq!([799, 800, 839].map(containing), [None, Some((800, 40)), Some((800, 40))]);
        assert_eq!([840, 887, 888].map(containing), [None, Some((880, 8)), None]);
        assert_eq!(arena.alloc(phys, 40), Ok(840));
        assert!(!arena.resize(phys, 800, 48) && arena.resize(phys, 880, 100));
        assert_eq!(arena.size_of(phys, 880), Some(104), "whole quanta");
        assert!(!arena.resize(phys, 808, 8), "nothing begins there");
        arena.check(phys).unwrap();
        for (start, size) in [(800, 40), (840, 40), (880, 104)] {
            arena.free(phys, start, size);
        }
        assert_eq!(arena.usage().free, 400);
        assert!(arena.close(phys));
    });
}

#[test]
fn spans_come_from_the_source_when_they_are_needed_and_go_back_when_nobody_uses_them() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let mut all = Arena::try_new(phys, spec(PAGE_SIZE, Fit::Instant, 0), None).unwrap();
        all.add(phys, Span { start: 1 << 30, size: 64 * PAGE_SIZE }).unwrap();
        {
            let mut part = Arena::try_new(phys, spec(16, Fit::Instant, 2), Some(&all)).unwrap();
            let small: Vec<u64> = (0..600).map(|_| part.alloc(phys, 16).unwrap()).collect();
            let large = part.alloc_aligned(phys, 5 * PAGE_SIZE, 2 * PAGE_SIZE).unwrap();
            assert!(large.is_multiple_of(2 * PAGE_SIZE));
            assert_eq!(part.usage().total, 64 * PAGE_SIZE - all.usage().free);
            assert_eq!(part.alloc(phys, 64 * PAGE_SIZE), Err(NoMemory));
            part.free(phys, large, 5 * PAGE_SIZE);
            small.into_iter().for_each(|at| part.free(phys, at, 16));
            part.drain(phys);
            assert_eq!((part.usage().total, all.usage().free), (0, 64 * PAGE_SIZE));
            part.check(phys).unwrap();
            assert!(part.close(phys));
        }
        all.check(phys).unwrap();
        assert!(all.close(phys));
    });
}

#[test]
fn wired_pages_are_the_callers_alone_on_every_cpu() {
    let machine = Machine::new(32 << 20, 4);
    let before = machine.free_frames();
    let arena = machine.on(0, |vm| {
        Arena::try_new(&vm.mmu.phys, spec(PAGE_SIZE, Fit::Instant, 4), Some(&Direct)).unwrap()
    });
    let shared: &Arena<'static, _> = Box::leak(Box::new(arena));
    machine.on_each(4, move |phys, cpu| {
        let mut dice = Dice(cpu.into());
        let mut held: Vec<(u64, u64)> = vec![];
        for round in 0..4000 {
            if held.len() < 20 && dice.roll(2) == 0 {
                let pages = 1 + dice.roll(6);
                let start = shared.alloc(phys, pages * PAGE_SIZE).unwrap();
                for page in 0..pages {
                    mark(phys, start + page * PAGE_SIZE, u64::from(cpu) << 32 | round);
                }
                held.push((start, pages));
            } else if !held.is_empty() {
                let (start, pages) = held.swap_remove(dice.roll(held.len() as u64) as usize);
                let marks: Vec<u64> =
                    (0..pages).map(|page| marked(phys, start + page * PAGE_SIZE)).collect();
                assert!(marks.iter().all(|one| one >> 32 == u64::from(cpu) && *one == marks[0]));
                shared.free(phys, start, pages * PAGE_SIZE);
            }
        }
        held.into_iter().for_each(|(start, pages)| shared.free(phys, start, pages * PAGE_SIZE));
        shared.drain(phys);
    });
    machine.on(0, move |vm| shared.check(&vm.mmu.phys).unwrap());
    machine.on_each(4, move |phys, _| shared.drain(phys));
    machine.on(0, move |vm| shared.drain(&vm.mmu.phys));
    assert_eq!(machine.free_frames(), before);
    machine.check();
}

/// Notes `what` in the page at `start`.
fn mark(phys: &rumpvm::phys::Phys<crate::machine::Home>, start: u64, what: u64) {
    let at = std::ptr::NonNull::new(std::ptr::with_exposed_provenance_mut(start as usize)).unwrap();
    let at = rumpvm_platform::Platform::virt_to_phys(&phys.platform, at);
    phys.write(at.frame(), 0, &what.to_ne_bytes());
}

/// What was noted in the page at `start`.
fn marked(phys: &rumpvm::phys::Phys<crate::machine::Home>, start: u64) -> u64 {
    let at = std::ptr::NonNull::new(std::ptr::with_exposed_provenance_mut(start as usize)).unwrap();
    let at = rumpvm_platform::Platform::virt_to_phys(&phys.platform, at);
    let mut word = [0; 8];
    phys.read(at.frame(), 0, &mut word);
    u64::from_ne_bytes(word)
}

#[test]
fn what_was_freed_is_not_found_though_the_table_grew_when_it_was_allocated() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let before = phys.free_frames();
        let mut arena = Arena::try_new(phys, spec(1, Fit::Instant, 0), None).unwrap();
        arena.add(phys, Span { start: 1, size: 2000 }).unwrap();
        let starts: Vec<u64> = (0..1500).map(|_| arena.alloc(phys, 1).unwrap()).collect();
        assert_eq!(before - phys.free_frames(), arena.usage().frames, "of tags and table");
        for start in starts.iter().rev() {
            assert_eq!(arena.size_of(phys, *start), Some(1));
            arena.free(phys, *start, 1);
            assert_eq!(arena.size_of(phys, *start), None, "{start} is found");
        }
        arena.check(phys).unwrap();
        assert!(arena.close(phys));
    });
}
