//! Placement: where a mapping goes when the caller leaves it to the map.

use rumpvm::{Limits, MapFlags, Vm};
use rumpvm_arch::{Format, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{ANON, BASE};
use crate::{PAGE, Program, cases};

cases! {
    mappings_are_placed_top_down_one_below_the_other,
    the_highest_hole_that_fits_is_taken,
    a_hint_is_taken_if_it_is_free_and_ignored_if_not,
    a_hint_is_rounded_down_to_a_page,
    a_mapping_keeps_off_the_guard_below_a_stack,
    when_no_hole_fits_the_call_fails,
    a_mapping_for_32_bits_lies_below_two_gibibytes,
}

fn mappings_are_placed_top_down_one_below_the_other<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let first = program.map(3);
    let second = program.map(1);
    let third = program.map(700);
    assert_eq!((second + PAGE, third + 700 * PAGE), (first, second));
    assert!(first < P::Format::USER_END && first.0 > P::Format::USER_END.0 / 2);
}

fn the_highest_hole_that_fits_is_taken<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let top = program.map(100);
    program.unmap(top + 10 * PAGE, 5);
    program.unmap(top + 40 * PAGE, 3);
    program.unmap(top + 80 * PAGE, 2);
    assert_eq!(program.map(2), top + 80 * PAGE);
    assert_eq!(program.map(2), top + 41 * PAGE);
    assert_eq!(program.map(4), top + 11 * PAGE);
    assert_eq!(program.map(2), top - 2 * PAGE);
    assert_eq!(program.map(1), top + 40 * PAGE);
}

fn a_hint_is_taken_if_it_is_free_and_ignored_if_not<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    assert_eq!(program.try_map(BASE, 2, ANON), Ok(BASE));
    let elsewhere = program.try_map(BASE + PAGE, 2, ANON).unwrap();
    assert!(elsewhere > BASE + 100 * PAGE);
    assert_eq!(program.try_map(BASE + 2 * PAGE, 2, ANON), Ok(BASE + 2 * PAGE));
    let end = P::Format::USER_END;
    assert!(program.try_map(end - PAGE, 2, ANON).unwrap() < end - 2 * PAGE);
}

fn a_hint_is_rounded_down_to_a_page<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    assert_eq!(program.try_map(BASE + 0x801, 1, ANON), Ok(BASE));
}

fn a_mapping_keeps_off_the_guard_below_a_stack<P: Platform>(vm: &Vm<P>) {
    const GUARD: u64 = 256;
    let program = Program::new(vm);
    let stack = program.try_map(BASE + 1000 * PAGE, 1, ANON | MapFlags::GROWSDOWN).unwrap();
    let refused = program.try_map(stack - 2 * PAGE, 1, ANON).unwrap();
    assert_ne!(refused, stack - 2 * PAGE);
    let lowest_refused = stack - GUARD * PAGE;
    assert_ne!(program.try_map(lowest_refused, 1, ANON), Ok(lowest_refused));
    let allowed = stack - (GUARD + 1) * PAGE;
    assert_eq!(program.try_map(allowed, 1, ANON), Ok(allowed));
    assert_eq!(program.try_map(stack + PAGE, 1, ANON), Ok(stack + PAGE), "above it there is none");
}

fn when_no_hole_fits_the_call_fails<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let all = (P::Format::USER_END.0 - Limits::default().lowest) / PAGE;
    let flags = ANON | MapFlags::NORESERVE;
    assert_eq!(program.try_map(VirtAddr(0), all + 1, flags), Err(rumpvm::CallError::NoMemory));
    program.map_at(BASE, 1);
    assert_eq!(program.try_map(VirtAddr(0), all, flags), Err(rumpvm::CallError::NoMemory));
    program.unmap(BASE, 1);
    assert_eq!(program.try_map(VirtAddr(0), all, flags), Ok(VirtAddr(Limits::default().lowest)));
    assert_eq!(program.try_map(VirtAddr(0), 1, flags), Err(rumpvm::CallError::NoMemory));
}

fn a_mapping_for_32_bits_lies_below_two_gibibytes<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let at = program.try_map(VirtAddr(0), 2, ANON | MapFlags::BIT32).unwrap();
    assert!(at.0 + 2 * PAGE <= 2 << 30, "{at}");
    assert_eq!(program.try_map(BASE, 2, ANON | MapFlags::BIT32), Ok(BASE));
}
