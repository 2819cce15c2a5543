//! process_madvise(2): advice on lists.

use rumpvm::{Advised, CallError, Vm};
use rumpvm_arch::{Format, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, cases};

cases! {
    every_range_of_the_list_is_advised_and_counted,
    an_error_counts_only_if_nothing_was_done,
    an_empty_range_is_looked_at_only_as_the_first_of_several,
    malformed_lists_get_the_error_numbers_of_linux,
    others_take_only_advice_that_destroys_nothing,
    a_call_advises_no_more_than_two_gibibytes,
}

const DONTNEED: i32 = 4;

fn numbered<P: Platform>(vm: &Vm<P>) -> Program<'_, P> {
    let program = Program::new(vm);
    program.map_at(BASE, 7);
    program.number(BASE, 7);
    program
}

fn page(number: u64) -> VirtAddr {
    BASE + number * PAGE
}

fn every_range_of_the_list_is_advised_and_counted<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm);
    let list = [(page(0), 100), (page(2), 2 * PAGE), (page(6), 1)];
    let advised = program.process_madvise(vm, &list, DONTNEED, 0, Advised::Own);
    assert_eq!(advised, Ok(100 + 2 * PAGE + 1));
    assert_eq!(program.numbers(BASE, 7), [0, 2, 0, 0, 5, 6, 0]);
}

fn an_error_counts_only_if_nothing_was_done<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm);
    let advise = |list: &[_]| program.process_madvise(vm, list, DONTNEED, 0, Advised::Own);
    let hole = (page(6), 2 * PAGE);
    assert_eq!(advise(&[(page(0), PAGE), hole, (page(3), PAGE)]), Ok(PAGE));
    assert_eq!(program.numbers(BASE, 7), [0, 2, 3, 4, 5, 6, 0], "all that it could");
    assert_eq!(advise(&[hole, (page(3), PAGE)]), Err(CallError::Unmapped));
    assert_eq!(advise(&[(page(1) + 1, PAGE)]), Err(CallError::Invalid));
    assert_eq!(program.get(page(3)), 4);
}

fn an_empty_range_is_looked_at_only_as_the_first_of_several<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm);
    let advise = |list: &[_], advice| program.process_madvise(vm, list, advice, 0, Advised::Own);
    let (odd, one) = ((page(1) + 1, 0), (page(3), PAGE));
    assert_eq!(advise(&[odd, one], DONTNEED), Err(CallError::Invalid));
    assert_eq!(advise(&[(page(1), 0), odd, one], DONTNEED), Ok(PAGE));
    assert_eq!(advise(&[odd], DONTNEED), Ok(0));
    assert_eq!(advise(&[odd, odd], 77), Ok(0), "advice on nothing can be any");
    assert_eq!(advise(&[], 77), Ok(0));
    assert_eq!(advise(&[one], 77), Err(CallError::Invalid));
}

fn malformed_lists_get_the_error_numbers_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm);
    let end = P::Format::USER_END;
    let advise = |list: &[_], flags| {
        let advised = program.process_madvise(vm, list, DONTNEED, flags, Advised::Own);
        advised.map_err(CallError::errno)
    };
    assert_eq!(advise(&[(BASE, PAGE)], 1), Err(22));
    assert_eq!(advise(&[(BASE, PAGE), (BASE, 1 << 63)], 0), Err(22));
    assert_eq!(advise(&[(BASE, PAGE), (end, PAGE)], 0), Err(14));
    assert_eq!(advise(&[(BASE, PAGE); 1025], 0), Err(22));
    assert_eq!(advise(&[(BASE, PAGE); 1024], 0), Ok(1024 * PAGE));
}

fn others_take_only_advice_that_destroys_nothing<P: Platform>(vm: &Vm<P>) {
    let program = numbered(vm);
    for advice in 0..=26 {
        let list = [(BASE, PAGE)];
        let advised = program.process_madvise(vm, &list, advice, 0, Advised::Others);
        let expected =
            if matches!(advice, 3 | 20 | 21) { Ok(PAGE) } else { Err(CallError::Invalid) };
        assert_eq!(advised, expected, "advice {advice}");
    }
    let nothing = |advice| program.process_madvise(vm, &[], advice, 0, Advised::Others);
    assert_eq!((nothing(20), nothing(4)), (Ok(0), Err(CallError::Invalid)));
}

fn a_call_advises_no_more_than_two_gibibytes<P: Platform>(vm: &Vm<P>) {
    if P::Format::USER_END.0 <= 1 << 32 {
        return;
    }
    let program = Program::new(vm);
    let flags = crate::program::ANON | rumpvm::MapFlags::NORESERVE;
    let at = program.try_map(VirtAddr(0), (4 << 30) / PAGE, flags).unwrap();
    let advise = |list: &[_]| program.process_madvise(vm, list, DONTNEED, 0, Advised::Own);
    let most = (2 << 30) - PAGE;
    assert_eq!(advise(&[(at, 4 << 30)]), Ok(most));
    assert_eq!(advise(&[(at, 4 << 30), (at, PAGE)]), Ok(most));
    assert_eq!(advise(&[(at, most - PAGE + 1), (at, PAGE)]), Ok(most));
}
