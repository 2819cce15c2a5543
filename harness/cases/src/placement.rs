//! Placement: where a mapping goes when the caller leaves it to the map.

use rumpvm::{Direction, Layout, Limits, MapFlags, Randomness, Vm};
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
    a_mapping_for_32_bits_lies_in_the_second_gibibyte,
    in_the_legacy_layout_mappings_go_up_from_a_third_of_memory,
    a_random_layout_is_that_of_its_seed,
    a_random_layout_moves_each_part_by_as_many_bits_as_linux_does,
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

fn a_mapping_for_32_bits_lies_in_the_second_gibibyte<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let low = ANON | MapFlags::BIT32;
    assert_eq!(program.try_map(VirtAddr(0), 2, low), Ok(BASE), "the lowest hole");
    program.unmap(BASE, 1);
    assert_eq!(program.try_map(VirtAddr(0), 2, low), Ok(BASE + 2 * PAGE));
    assert_eq!(program.try_map(VirtAddr(0), 1, low), Ok(BASE));
    let hint = VirtAddr(BASE.0 / 4);
    assert_eq!(program.try_map(hint, 2, low), Ok(hint));
    let all = (1 << 30) / PAGE;
    let refused = program.try_map(VirtAddr(0), all, low | MapFlags::NORESERVE);
    assert_eq!(refused, Err(rumpvm::CallError::NoMemory));
    let program = Program::new(vm);
    let most = program.try_map(VirtAddr(0), all - 1, low | MapFlags::NORESERVE);
    let last = program.try_map(VirtAddr(0), 1, low);
    assert_eq!((most, last), (Ok(BASE), Ok(BASE + (all - 1) * PAGE)));
}

fn in_the_legacy_layout_mappings_go_up_from_a_third_of_memory<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let layout = Layout::new::<P::Format>(Direction::Up, 8 << 20, None);
    program.set_layout(layout);
    let third = VirtAddr((P::Format::USER_END.0 / 3).next_multiple_of(PAGE));
    let first = program.map(3);
    assert_eq!((first, program.map(2)), (third, third + 3 * PAGE));
    program.unmap(first, 1);
    assert_eq!((program.map(2), program.map(1)), (third + 5 * PAGE, third));
    assert_eq!(program.fork().layout(), layout);
}

fn a_random_layout_is_that_of_its_seed<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let lay_out = |seed| {
        let random = Randomness::usual::<P::Format>(seed);
        Layout::new::<P::Format>(Direction::Down, 8 << 20, Some(random))
    };
    assert_eq!(lay_out(1), lay_out(1));
    let different = (2..40).filter(|seed| lay_out(*seed).base != lay_out(1).base);
    assert!(different.count() > 30, "seeds are told apart");
    for seed in 0..40 {
        let Layout { base, stack_top, heap_gap, .. } = lay_out(seed);
        assert!(base < stack_top && stack_top <= P::Format::USER_END && heap_gap <= 32 << 20);
        assert!([base.0, stack_top.0, heap_gap].iter().all(|byte| byte.is_multiple_of(PAGE)));
    }
    program.set_layout(lay_out(7));
    assert_eq!(program.map(1) + PAGE, lay_out(7).base);
    let plain = Layout::new::<P::Format>(Direction::Down, 8 << 20, None);
    assert_eq!((plain.stack_top, plain.heap_gap), (P::Format::USER_END, 0));
    assert_eq!(Program::new(vm).layout(), plain);
}

fn a_random_layout_moves_each_part_by_as_many_bits_as_linux_does<P: Platform>(_vm: &Vm<P>) {
    // The first numbers of SplitMix64 from seed 0, as its authors print them.
    const DRAWN: [u64; 3] = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
    const STACK: u64 = 8 << 20;
    let end = P::Format::USER_END;
    let bits = if end.0 > 1 << 32 { [28, 22, 13] } else { [8, 11, 13] };
    let random = Randomness::usual::<P::Format>(0);
    assert_eq!([random.mapping_bits, random.stack_bits, random.heap_bits], bits);
    let part = |part: usize| DRAWN[part] % (1 << bits[part]) * PAGE;
    // Room for the stack, for what its top may move by, and for the guard; 128 MiB at least.
    let room = (STACK + (PAGE << bits[1]) + 256 * PAGE).max(128 << 20);
    let down = Layout::new::<P::Format>(Direction::Down, STACK, Some(random));
    assert_eq!(down.base, end - room - part(0));
    assert_eq!((down.stack_top, down.heap_gap), (end - part(1), part(2)));
    let up = Layout::new::<P::Format>(Direction::Up, STACK, Some(random));
    assert_eq!(up.base.0, (end.0 / 3).next_multiple_of(PAGE) + part(0));
    assert_eq!((up.stack_top, up.heap_gap), (down.stack_top, down.heap_gap));
    let base = |stack| Layout::new::<P::Format>(Direction::Down, stack, None).base;
    assert_eq!(base(256 << 20), end - (256 << 20) - 256 * PAGE);
    assert_eq!((base(0), base(u64::MAX)), (end - (128 << 20), VirtAddr(end.0 / 6).page_down()));
}
