//! mincore(2): which pages are in memory.

use rumpvm::{CallError, MapFlags, Vm};
use rumpvm_arch::Format;
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, RamFile, cases};

cases! {
    malformed_requests_get_the_error_numbers_of_linux,
    private_memory_is_in_memory_once_it_was_touched,
    a_file_page_is_in_memory_for_everybody_once_it_was_read,
    a_private_copy_counts_although_it_is_not_mapped,
    shared_memory_is_in_memory_until_it_is_cut_off,
    the_last_page_of_the_address_space_can_be_asked_about,
}

/// Which of `pages` pages at [`BASE`] are in memory.
fn resident<P: Platform>(program: &Program<'_, P>, pages: usize) -> alloc::vec::Vec<u8> {
    let mut answer = alloc::vec![9; pages];
    assert_eq!(program.mincore(program.vm, BASE, pages as u64 * PAGE, &mut answer), Ok(()));
    answer
}

fn malformed_requests_get_the_error_numbers_of_linux<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    let end = P::Format::USER_END;
    let table = [
        (BASE + 1, PAGE, 22),
        (BASE + PAGE, 2 * PAGE, 12),
        (BASE, u64::MAX, 12),
        (end, PAGE, 12),
        (end - PAGE, 2 * PAGE, 12),
    ];
    for (at, length, errno) in table {
        let answer = program.mincore(vm, at, length, &mut [0; 8]).map_err(CallError::errno);
        assert_eq!(answer, Err(errno), "mincore({at}, {length:#x})");
    }
    assert_eq!(program.mincore(vm, BASE, 0, &mut []), Ok(()));
}

fn private_memory_is_in_memory_once_it_was_touched<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    assert_eq!(resident(&program, 4), [0, 0, 0, 0]);
    program.set(BASE + PAGE, 1);
    program.get(BASE + 3 * PAGE);
    assert_eq!(resident(&program, 4), [0, 1, 0, 1]);
    program.madvise(vm, BASE, 4 * PAGE, 4).unwrap();
    assert_eq!(resident(&program, 4), [0, 0, 0, 0]);
}

fn a_file_page_is_in_memory_for_everybody_once_it_was_read<P: Platform>(vm: &Vm<P>) {
    let (one, two) = (Program::new(vm), Program::new(vm));
    let object = vm.open_file(RamFile::<P>::numbered(1, 3)).unwrap();
    one.map_object(BASE, 4, MapFlags::SHARED, &object, 0);
    two.map_object(BASE, 4, MapFlags::PRIVATE, &object, 0);
    assert_eq!(resident(&two, 4), [0, 0, 0, 0]);
    one.get(BASE + PAGE);
    assert_eq!(resident(&two, 4), [0, 1, 0, 0]);
    drop(one);
    assert_eq!(resident(&two, 4), [0, 1, 0, 0]);
    vm.close(&object).unwrap();
}

fn a_private_copy_counts_although_it_is_not_mapped<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 2);
    program.set(BASE, 1);
    program.protect(BASE, 2, rumpvm_arch::Prot::empty());
    assert_eq!((program.resident_pages(vm), resident(&program, 2)), (0, alloc::vec![1, 0]));
}

fn shared_memory_is_in_memory_until_it_is_cut_off<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let memory = vm.shared_memory(3 * PAGE).unwrap();
    program.map_object(BASE, 3, MapFlags::SHARED, &memory, 0);
    program.number(BASE, 3);
    vm.resize(&memory, PAGE).unwrap();
    assert_eq!(resident(&program, 3), [1, 0, 0]);
    vm.close(&memory).unwrap();
}

fn the_last_page_of_the_address_space_can_be_asked_about<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let last = P::Format::USER_END - PAGE;
    program.map_at(last, 1);
    program.set(last, 1);
    let mut answer = [9];
    assert_eq!(program.mincore(vm, last, PAGE, &mut answer), Ok(()));
    assert_eq!(answer, [1]);
}
