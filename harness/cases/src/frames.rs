//! Frames: where they come from, that they come back, and what is in them.

use alloc::vec;
use alloc::vec::Vec;

use rumpvm::{AddMemoryError, NoMemory, Vm};
use rumpvm_arch::{Frame, PhysAddr};
use rumpvm_platform::Platform;

use crate::{PAGE, cases};

cases! {
    taking_every_frame_ends_in_an_error_and_afterwards_all_are_back,
    single_frames_that_come_back_merge_into_large_blocks,
    a_run_is_aligned_to_its_length_and_its_frames_are_free_one_by_one,
    a_run_that_comes_back_whole_merges_with_its_neighbours,
    a_zeroed_frame_holds_zeros_whatever_was_in_it_before,
    frames_that_an_idle_cpu_zeroed_are_taken_first,
    a_frame_is_never_given_out_twice,
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

    let taken = take_all(vm);
    assert!(taken.len() as u64 + 2 >= before, "{} of {before}", taken.len());
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
        frames.into_iter().for_each(|fresh| phys.free(fresh));
    }
    assert!(eventually::<P>(|| phys.free_frames() >= before));
}

fn a_run_that_comes_back_whole_merges_with_its_neighbours<P: Platform>(vm: &Vm<P>) {
    let phys = &vm.mmu.phys;
    vm.mmu.squeeze();
    let before = phys.free_frames();
    let large = phys.alloc_run(6).unwrap();
    let first = large.first();
    phys.free_run(large);
    let halves = [phys.alloc_run(5).unwrap(), phys.alloc_run(5).unwrap()];
    halves.into_iter().for_each(|half| phys.free_run(half));

    let again = phys.alloc_run(6).unwrap();
    assert_eq!(again.first(), first);
    phys.free_run(again);
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

fn adding_what_is_known_or_too_small_or_out_of_reach_is_refused<P: Platform>(vm: &Vm<P>) {
    let known = vm.mmu.phys.zero_page().start();
    let before = vm.statistics().frames_total;
    let add = |start: u64, end: u64| vm.add_memory(PhysAddr(start), PhysAddr(end));

    let two = known.0 + 2 * PAGE;
    assert_eq!(add(known.0, two), Err(AddMemoryError::Overlaps));
    assert_eq!(add(known.0 + 1, known.0 + PAGE), Err(AddMemoryError::TooSmall));
    assert_eq!(add(two, known.0), Err(AddMemoryError::TooSmall));
    let end = 1 << 60;
    assert!(matches!(add(end - 10 * PAGE, end), Err(AddMemoryError::OutOfReach { .. })));
    assert_eq!(vm.statistics().frames_total, before);
}
