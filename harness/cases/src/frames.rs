//! Frames: where they come from, that they come back, and what is in them.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use rumpvm::phys::{PageKind, Run};
use rumpvm::{AddMemoryError, NoMemory, Vm};
use rumpvm_arch::{Frame, PhysAddr};
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, cases};

cases! {
    taking_every_frame_ends_in_an_error_and_afterwards_all_are_back,
    single_frames_that_come_back_merge_into_large_blocks,
    a_run_is_aligned_to_its_length_and_its_frames_are_free_one_by_one,
    a_run_that_comes_back_whole_merges_with_its_neighbours,
    a_zeroed_frame_holds_zeros_whatever_was_in_it_before,
    frames_that_an_idle_cpu_zeroed_are_taken_first,
    a_frame_is_never_given_out_twice,
    a_freed_frame_loses_its_contents_where_that_is_checked,
    a_frame_that_is_named_mapped_or_busy_is_in_use,
    what_was_unlinked_is_free_once_nobody_can_look_at_it,
    what_was_unlinked_stays_as_it_is_while_somebody_may_look_at_it,
    every_frame_is_counted_wherever_it_is,
    free_blocks_are_aligned_and_no_two_of_them_make_a_larger_one,
    what_lies_between_the_caches_is_taken_before_memory_is_short,
    the_peak_is_never_below_what_is_in_use_and_stays,
    adding_what_is_known_or_too_small_or_out_of_reach_is_refused,
}

/// Waits for other CPUs that are just putting frames back.
fn eventually<P: Platform>(mut holds: impl FnMut() -> bool) -> bool {
    (0..1_000_000).any(|_| {
        let done = holds();
        if !done {
            P::relax(0);
        }
        done
    })
}

fn take_all<P: Platform>(vm: &Vm<P>) -> Vec<rumpvm::phys::Fresh> {
    let phys = &vm.mmu.phys;
    let mut taken = vec![];
    // An idle CPU may be zeroing a frame, or have zeroed some: squeezing brings those back, a few at a time.
    let mut idle_rounds = 0;
    while idle_rounds < 3 {
        let before = taken.len();
        while let Ok(fresh) = phys.alloc() {
            taken.push(fresh);
        }
        vm.mmu.squeeze();
        idle_rounds = if taken.len() == before { idle_rounds + 1 } else { 0 };
    }
    taken
}

/// Leaves something in every free frame, so that whoever takes one unzeroed shows it.
pub(crate) fn soil<P: Platform>(vm: &Vm<P>) {
    let taken = take_all(vm);
    for fresh in &taken {
        vm.mmu.phys.write(fresh.frame(), 0, &[0xee; PAGE as usize]);
    }
    taken.into_iter().for_each(|fresh| vm.mmu.phys.free(fresh));
}

fn taking_every_frame_ends_in_an_error_and_afterwards_all_are_back<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    vm.mmu.squeeze();
    let before = phys.free_frames();

    let mut taken = take_all(vm);
    let all = eventually::<P>(|| {
        taken.extend(take_all(vm));
        taken.len() as u64 + 2 >= before
    });
    assert!(all, "{} of {before}", taken.len());
    assert_eq!(phys.alloc().err(), Some(NoMemory));
    assert_eq!(phys.alloc_zeroed().err(), Some(NoMemory));
    assert_eq!(phys.alloc_run(3).err(), Some(NoMemory));

    taken.into_iter().for_each(|fresh| phys.free(fresh));
    assert!(eventually::<P>(|| phys.free_frames() >= before));
}

fn single_frames_that_come_back_merge_into_large_blocks<P: Platform>(vm: &Vm<P>) {
    const LARGE: u32 = 9;
    let phys = &vm.mmu.phys;
    let taken = take_all(vm);
    assert_eq!(phys.alloc_run(LARGE).err(), Some(NoMemory));

    taken.into_iter().for_each(|fresh| phys.free(fresh));
    vm.mmu.squeeze();

    let run = phys.alloc_run(LARGE).expect("2 MiB in a row");
    phys.free_run(run);
}

fn a_run_is_aligned_to_its_length_and_its_frames_are_free_one_by_one<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    vm.mmu.squeeze();
    let before = phys.free_frames();
    for order in [0, 1, 4] {
        let run = phys.alloc_run(order).unwrap();
        let first = run.first().0;
        assert!(first.is_multiple_of(1 << order));
        let frames: Vec<_> = phys.split_run(run).collect();
        let expected = (first..first + (1 << order)).map(Frame);
        assert!(frames.iter().map(|fresh| fresh.frame()).eq(expected));
        assert!(frames.iter().all(|fresh| phys.page(fresh.frame()).kind() == PageKind::Fresh));
        frames.into_iter().for_each(|fresh| phys.free(fresh));
    }
    assert!(eventually::<P>(|| phys.free_frames() >= before));
}

fn a_run_that_comes_back_whole_merges_with_its_neighbours<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    vm.mmu.squeeze();
    let before = phys.free_frames();
    // All that could be merged otherwise: an idle CPU may free frames meanwhile.
    let held: Vec<_> = core::iter::from_fn(|| phys.alloc_run(5).ok()).collect();
    let whole_at = |run: &Run| run.first().0 / 64 * 64;
    let pair =
        |run: &&Run| held.iter().filter(|other| whole_at(other) == whole_at(run)).count() == 2;
    let Some(first) = held.iter().find(pair).map(whole_at) else {
        held.into_iter().for_each(|run| phys.free_run(run));
        panic!("no two halves of one block");
    };
    let (halves, others): (Vec<_>, Vec<_>) =
        held.into_iter().partition(|run| whole_at(run) == first);
    halves.into_iter().for_each(|half| phys.free_run(half));

    let merged = phys.alloc_run(6);
    others.into_iter().for_each(|run| phys.free_run(run));
    let merged = merged.unwrap();
    let start = merged.first();
    phys.free_run(merged);
    assert_eq!(start.0, first);
    assert!(eventually::<P>(|| phys.free_frames() >= before));
}

fn a_zeroed_frame_holds_zeros_whatever_was_in_it_before<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    soil(vm);
    // Some from the stock that idle CPUs keep, the others zeroed on the spot.
    (0..100).for_each(|_| {
        vm.idle();
    });

    let zeroed: Vec<_> = (0..200).map(|_| phys.alloc_zeroed().unwrap()).collect();
    for fresh in &zeroed {
        let mut bytes = [0xff; PAGE as usize];
        phys.read(fresh.frame(), 0, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 0), "{fresh:?}");
    }
    zeroed.into_iter().for_each(|fresh| phys.free(fresh));
}

fn frames_that_an_idle_cpu_zeroed_are_taken_first<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    // Whatever is in stock already goes back first.
    phys.drain();
    while vm.idle() {}
    let before = vm.statistics();
    assert!(before.pages_zeroed_idle > 0);

    let fresh = phys.alloc_zeroed().unwrap();

    assert_eq!(vm.statistics().pages_zeroed, before.pages_zeroed, "it was zeroed once more");
    phys.free(fresh);
}

fn a_frame_is_never_given_out_twice<P: Platform>(vm: &Vm<P>) {
    let taken = take_all(vm);
    let mut frames: Vec<_> = taken.iter().map(|fresh| fresh.frame()).collect();
    frames.sort_unstable();
    assert!(frames.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(!frames.contains(&vm.mmu.phys.zero_page()));
    taken.into_iter().for_each(|fresh| vm.mmu.phys.free(fresh));
}

fn a_freed_frame_loses_its_contents_where_that_is_checked<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    let fresh = phys.alloc().unwrap();
    let frame = fresh.frame();
    phys.write(frame, 0, &[0x11; 8]);
    phys.free(fresh);
    let run = phys.alloc_run(2).unwrap();
    let last = Frame(run.first().0 + 3);
    phys.write(last, 0, &[0x11; 8]);
    phys.free_run(run);
    for freed in [frame, last] {
        let mut bytes = [0; 8];
        phys.read(freed, 0, &mut bytes);
        assert!(!cfg!(debug_assertions) || bytes != [0x11; 8]);
    }
}

fn a_frame_that_is_named_mapped_or_busy_is_in_use<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    let fresh = phys.alloc().unwrap();
    let page = phys.page(fresh.frame());
    for field in [1, 0] {
        page.refs.set(field);
        assert_eq!(page.is_unused(), field == 0);
    }
    for field in [1, 0] {
        page.rmap.set(field);
        assert_eq!(page.is_unused(), field == 0);
    }
    let busy = page.try_busy();
    assert!(page.is_busy() && !page.is_unused() && page.try_busy().is_none());
    assert!(format!("{page:?}").starts_with("Fresh busy, 0 refs"), "{page:?}");
    drop(busy);
    assert!(page.is_unused());
    page.set_stray();
    assert!(page.is_stray());
    phys.free(fresh);
    assert!(!page.is_stray());
}

fn what_was_unlinked_is_free_once_nobody_can_look_at_it<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2000);
    program.number(BASE, 2000);
    drop(program);
    (0..4).for_each(|_| vm.mmu.squeeze());
    let mut left = 0;
    vm.mmu.phys.for_each_limbo(|_| left += 1);
    assert_eq!(left, 0);
}

fn what_was_unlinked_stays_as_it_is_while_somebody_may_look_at_it<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    let move_on = || {
        phys.epoch.advance();
        phys.collect();
    };
    // In the first epochs nothing is old enough.
    (0..4).for_each(|_| move_on());
    let pin = phys.epoch.pin();
    let unlinked: Vec<_> =
        (0..6).map(|_| phys.give(phys.alloc().unwrap(), PageKind::Node)).collect();
    for (retired, frame) in (1..).zip(&unlinked) {
        phys.retire(*frame);
        move_on();
        let in_limbo = |frame: &&Frame| phys.page(**frame).kind() == PageKind::Limbo;
        assert_eq!(unlinked.iter().filter(in_limbo).count(), retired);
    }
    drop(pin);
    (0..4).for_each(|_| vm.mmu.squeeze());
    assert!(unlinked.iter().all(|frame| phys.page(*frame).kind() != PageKind::Limbo));
}

fn every_frame_is_counted_wherever_it_is<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    let (mut all, mut records) = (0, 0);
    phys.for_each_frame(|frame| {
        all += 1;
        records += u64::from(phys.page(frame).kind() == PageKind::Record);
    });
    assert_eq!(all, phys.total_frames());
    assert_eq!(vm.statistics().frames_records, records);
    vm.mmu.squeeze();
    let before = phys.free_frames();
    // An idle CPU may have one at hand.
    let about = |frames: u64| {
        let mut found = 0;
        phys.for_each_free(|_, _| found += 1);
        phys.free_frames().abs_diff(frames) <= 2 && frames.abs_diff(found) <= 2
    };
    // The second time many come from where the first ones went.
    for _ in 0..2 {
        let run = phys.alloc_run(4).unwrap();
        let run: Vec<_> = phys.split_run(run).collect();
        let single: Vec<_> = (0..700).map(|_| phys.alloc().unwrap()).collect();
        assert!(about(before - 716));
        single.into_iter().chain(run).for_each(|fresh| phys.free(fresh));
        assert!(about(before));
        while vm.idle() {}
        phys.drain();
        assert!(about(before));
    }
}

fn free_blocks_are_aligned_and_no_two_of_them_make_a_larger_one<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    let run: Vec<_> = phys.split_run(phys.alloc_run(5).unwrap()).collect();
    let (odd, even): (Vec<_>, Vec<_>) = run.into_iter().partition(|it| it.frame().0 % 2 == 1);
    odd.into_iter().for_each(|fresh| phys.free(fresh));
    phys.drain();
    let mut blocks = vec![];
    phys.for_each_block(|first, order| blocks.push((first.0, order)));
    blocks.sort_unstable();
    assert!(blocks.iter().all(|(first, order)| first.is_multiple_of(1 << order)));
    assert!(blocks.windows(2).all(|pair| pair[0].0 + (1 << pair[0].1) <= pair[1].0));
    let largest = blocks.iter().map(|(_, order)| *order).max().unwrap();
    assert!((9..18).contains(&largest), "most of memory is free");
    let buddy = |&(first, order): &(u32, u32)| (first ^ 1 << order, order);
    assert!(!blocks.iter().any(|block| blocks.contains(&buddy(block))));
    assert!(blocks.iter().filter(|(_, order)| *order == 0).count() >= 14, "the odd ones");
    let in_blocks: u64 = blocks.iter().map(|(_, order)| 1 << order).sum();
    // Other CPUs keep a few.
    assert!(in_blocks <= phys.free_frames() && in_blocks + 512 >= phys.free_frames());
    even.into_iter().for_each(|fresh| phys.free(fresh));
}

fn what_lies_between_the_caches_is_taken_before_memory_is_short<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    vm.mmu.squeeze();
    let most = || {
        let taken: Vec<_> = core::iter::from_fn(|| phys.alloc().ok()).collect();
        let count = taken.len();
        taken.into_iter().for_each(|fresh| phys.free(fresh));
        count
    };
    let (first, second) = (most(), most());
    // Idle CPUs may keep some of what they zeroed.
    assert!(first.abs_diff(second) < 128, "{first}, then {second}");
}

fn the_peak_is_never_below_what_is_in_use_and_stays<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    let taken: Vec<_> = (0..700).map(|_| phys.alloc().unwrap()).collect();
    let most = vm.statistics();
    assert!(most.frames_peak >= 700 && most.frames_peak >= most.frames_total - most.frames_free);
    taken.into_iter().for_each(|fresh| phys.free(fresh));
    assert!(vm.statistics().frames_peak >= 700);
}

fn adding_what_is_known_or_too_small_or_out_of_reach_is_refused<P: Platform>(vm: &Vm<P>) {
    let known = vm.mmu.phys.zero_page().start();
    let before = vm.statistics().frames_total;
    let add = |start: u64, end: u64| vm.add_memory(PhysAddr(start), PhysAddr(end));

    let two = known.0 + 2 * PAGE;
    assert_eq!(add(known.0, two), Err(AddMemoryError::Overlaps));
    let mut frames = vec![];
    vm.mmu.phys.for_each_frame(|frame| frames.push(frame.start().0));
    let (first, last) = (frames[0], frames[frames.len() - 1]);
    assert_eq!(add(first, first + 2 * PAGE), Err(AddMemoryError::Overlaps));
    assert_eq!(add(last, last + 2 * PAGE), Err(AddMemoryError::Overlaps));
    assert_eq!(add(known.0 + 1, known.0 + PAGE), Err(AddMemoryError::TooSmall));
    assert_eq!(add(two, known.0), Err(AddMemoryError::TooSmall));
    let end = 1 << 60;
    let Err(AddMemoryError::OutOfReach { end }) = add(end - 10 * PAGE, end) else {
        panic!("no table can name so much");
    };
    assert_eq!(add(end * PAGE, end * PAGE), Err(AddMemoryError::TooSmall), "but not out of reach");
    assert_eq!(vm.statistics().frames_total, before);
    assert!(AddMemoryError::Overlaps.to_string().contains("added before"));
}
