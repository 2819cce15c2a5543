//! Private anonymous memory: zeros first, then one's own.

use rumpvm::Vm;
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{BASE, unmapped};
use crate::{PAGE, Program, cases};

cases! {
    untouched_memory_reads_as_zeros_and_costs_no_frame,
    what_is_stored_is_loaded_again_and_the_rest_stays_zero,
    a_store_after_a_load_replaces_the_zero_page,
    neighbouring_pages_do_not_share_bytes,
    memory_that_was_given_back_comes_again_as_zeros,
    every_page_of_a_large_region_keeps_its_own_contents,
    two_spaces_have_different_memory_at_the_same_address,
    an_access_outside_every_area_is_unmapped,
    when_frames_run_out_a_store_fails_and_what_was_stored_stays,
}

fn untouched_memory_reads_as_zeros_and_costs_no_frame<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let at = program.map(64);
    let before = vm.statistics();

    assert!((0..64).all(|page| program.load(at + page * PAGE + 9) == Ok(0)));

    let now = vm.statistics();
    assert_eq!(now.faults_zero_fill, before.faults_zero_fill);
    assert_eq!(now.nodes_made, before.nodes_made);
    assert!(now.faults_zero_page > before.faults_zero_page);
}

fn what_is_stored_is_loaded_again_and_the_rest_stays_zero<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let at = program.map(2);
    program.copy_out(vm, at + PAGE - 2, b"abcd").unwrap();

    let mut bytes = [9; 8];
    program.copy_in(vm, at + PAGE - 4, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\0abcd\0\0");
}

fn a_store_after_a_load_replaces_the_zero_page<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let (one, other) = (program.map(1), program.map(1));
    assert_eq!((program.get(one), program.get(other)), (0, 0));
    program.set(one, 1);
    assert_eq!((program.get(one), program.get(other)), (1, 0));
}

fn neighbouring_pages_do_not_share_bytes<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let at = program.map(3);
    program.number(at, 3);
    program.set(at + PAGE, 77);
    assert_eq!(program.numbers(at, 3), [1, 77, 3]);
}

fn memory_that_was_given_back_comes_again_as_zeros<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    for _ in 0..3 {
        program.map_at(BASE, 40);
        assert!(program.numbers(BASE, 40).iter().all(|byte| *byte == 0));
        program.number(BASE, 40);
        program.unmap(BASE, 40);
        assert_eq!(program.load(BASE), unmapped(BASE));
    }
}

fn every_page_of_a_large_region_keeps_its_own_contents<P: Platform>(vm: &Vm<P>) {
    // More than one leaf table in every format, from the middle of one on.
    const PAGES: u64 = 1300;
    let start = BASE + 300 * PAGE;
    let program = Program::new(vm);
    program.map_at(start, PAGES);
    let mark = |page: u64| (page % 251) as u8;
    (0..PAGES).for_each(|page| program.set(start + page * PAGE + page, mark(page)));
    assert!((0..PAGES).all(|page| program.load(start + page * PAGE + page) == Ok(mark(page))));
    assert_eq!(program.resident_pages(vm), PAGES);
}

fn two_spaces_have_different_memory_at_the_same_address<P: Platform>(vm: &Vm<P>) {
    let (one, two) = (Program::new(vm), Program::new(vm));
    one.map_at(BASE, 1);
    two.map_at(BASE, 1);
    one.set(BASE, 1);
    two.set(BASE, 2);
    assert_eq!((one.get(BASE), two.get(BASE)), (1, 2));
    drop(one);
    assert_eq!(two.get(BASE), 2);
}

fn an_access_outside_every_area_is_unmapped<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    for at in [VirtAddr(0), VirtAddr(0x1000), BASE - 1, BASE + PAGE] {
        assert_eq!(program.load(at), unmapped(at));
        assert_eq!(program.store(at, 1), unmapped(at));
        assert_eq!(program.fetch(at), unmapped(at));
    }
    program.protect(BASE, 1, Prot::empty());
    assert_eq!(program.load(BASE), crate::program::no_load(BASE));
}

fn when_frames_run_out_a_store_fails_and_what_was_stored_stays<P: Platform>(vm: &Vm<P>) {
    let frames = vm.statistics().frames_total;
    let program = Program::new(vm);
    let at = program.map(frames);
    let mut stored = 0;
    let error = loop {
        match program.store(at + stored * PAGE, (stored % 250) as u8 + 1) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, rumpvm::FaultError::NoMemory { at: at + stored * PAGE });
    assert!(stored > frames / 2, "{stored} of {frames}");
    let kept = |page: u64| program.load(at + page * PAGE) == Ok((page % 250) as u8 + 1);
    assert!((0..stored).all(kept));

    program.unmap(at, 8);
    program.set(at + stored * PAGE, 1);
}
