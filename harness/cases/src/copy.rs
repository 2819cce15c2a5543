//! Copying for system calls: any pointer is allowed, and a bad one is an answer.

use rumpvm::{FaultError, MapFlags, Vm};
use rumpvm_arch::{Format, Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::{BASE, no_store, unmapped};
use crate::{PAGE, Program, RamFile, cases};

cases! {
    bytes_cross_any_number_of_page_borders,
    a_bad_pointer_is_told_with_its_address,
    a_copy_that_meets_a_hole_has_done_what_was_before_it,
    a_copy_obeys_rights,
    a_copy_makes_private_what_fork_shares,
    a_copy_to_a_shared_file_mapping_reaches_the_file,
    a_copy_of_nothing_touches_nothing,
    no_pointer_reaches_beyond_user_memory,
    a_word_is_changed_in_one_step_or_left_as_it_is,
    a_word_that_cannot_be_changed_is_told_with_its_address,
}

fn bytes_cross_any_number_of_page_borders<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 4);
    let bytes: alloc::vec::Vec<u8> = (0..2 * PAGE + 100).map(|at| (at % 251) as u8).collect();
    program.copy_out(vm, BASE + PAGE - 50, &bytes).unwrap();
    let mut back = alloc::vec![0; bytes.len()];
    program.copy_in(vm, BASE + PAGE - 50, &mut back).unwrap();
    assert_eq!(back, bytes);
    assert_eq!((program.get(BASE + PAGE - 51), program.get(BASE + 3 * PAGE + 50)), (0, 0));
}

fn a_bad_pointer_is_told_with_its_address<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    for at in [VirtAddr(0), VirtAddr(7), BASE, VirtAddr(u64::MAX), VirtAddr(1 << 63)] {
        assert_eq!(program.copy_in(vm, at, &mut [0; 8]), unmapped(at));
        assert_eq!(program.copy_out(vm, at, &[0; 8]), unmapped(at));
    }
}

fn a_copy_that_meets_a_hole_has_done_what_was_before_it<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    let hole = BASE + PAGE;
    assert_eq!(program.copy_out(vm, hole - 3, b"abcdef"), unmapped(hole));
    let mut bytes = [0; 6];
    assert_eq!(program.copy_in(vm, hole - 3, &mut bytes), unmapped(hole));
    assert_eq!(&bytes, b"abc\0\0\0");
}

fn a_copy_obeys_rights<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    program.set(BASE, 1);
    program.protect(BASE, 1, Prot::READ);
    assert_eq!(program.copy_out(vm, BASE, b"x"), no_store(BASE));
    assert_eq!(program.get(BASE), 1);
    program.protect(BASE, 1, Prot::empty());
    assert_eq!(program.load(BASE), crate::program::no_load(BASE));
}

fn a_copy_makes_private_what_fork_shares<P: Platform>(vm: &Vm<P>) {
    let parent = Program::new(vm);
    parent.map_at(BASE, 3);
    parent.number(BASE, 3);
    let child = parent.fork();
    child.copy_out(vm, BASE + PAGE - 1, b"xy").unwrap();
    assert_eq!(parent.numbers(BASE, 3), [1, 2, 3]);
    assert_eq!(
        (child.get(BASE + PAGE - 1), child.numbers(BASE, 3)),
        (b'x', alloc::vec![1, b'y', 3])
    );
}

fn a_copy_to_a_shared_file_mapping_reaches_the_file<P: Platform>(vm: &Vm<P>) {
    let file = RamFile::<P>::numbered(1, 2);
    let object = vm.open_file(file.clone()).unwrap();
    let program = Program::new(vm);
    program.map_object(BASE, 2, MapFlags::SHARED, &object, 0);
    // Mapped for a load first: the entry is there, and only its dirty bit tells of the store.
    program.numbers(BASE, 2);
    program.copy_out(vm, BASE + PAGE - 1, b"xy").unwrap();
    drop(program);
    vm.close(&object).unwrap();
    assert_eq!((file.byte(PAGE - 1), file.byte(PAGE)), (b'x', b'y'));
}

fn a_copy_of_nothing_touches_nothing<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    assert_eq!(program.copy_in(vm, VirtAddr(0), &mut []), Ok(()));
    assert_eq!(program.copy_out(vm, VirtAddr(u64::MAX), &[]), Ok(()));
}

fn no_pointer_reaches_beyond_user_memory<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let end = P::Format::USER_END;
    program.map_at(end - PAGE, 1);
    assert_eq!(program.copy_out(vm, end - 2, b"abc"), unmapped(end));
    assert_eq!(program.get(end - 1), b'b');
}

fn a_word_is_changed_in_one_step_or_left_as_it_is<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    program.map_at(BASE, 1);
    let at = BASE + PAGE - 4;
    assert_eq!(program.change_word(vm, at, |word| word.checked_sub(1)), Ok(0));
    assert_eq!(program.change_word(vm, at, |word| Some(word + 0x0102_0304)), Ok(0));
    assert_eq!(program.change_word(vm, at, |_| None), Ok(0x0102_0304));
    let child = program.fork();
    assert_eq!(child.change_word(vm, at, |word| Some(!word)), Ok(0x0102_0304));
    assert_eq!((program.get(at), child.get(at)), (4, !4));
}

fn a_word_that_cannot_be_changed_is_told_with_its_address<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let add = |word: u32| Some(word + 1);
    let denied = |at| FaultError::Denied { at, wanted: Prot::WRITE };
    for at in [VirtAddr(0), BASE, P::Format::USER_END, VirtAddr(u64::MAX - 3)] {
        assert_eq!(program.change_word(vm, at, add), unmapped(at));
    }
    program.map_at(BASE, 1);
    assert_eq!(program.change_word(vm, BASE + 2, add), Err(denied(BASE + 2)));
    program.protect(BASE, 1, Prot::READ);
    assert_eq!(program.change_word(vm, BASE, add), Err(denied(BASE)));
    assert_eq!(program.get(BASE), 0);
}
