//! Flushes: only what takes something away owes one, and then one for all of it.

use rumpvm::{MapFlags, SyncFlags, Vm};
use rumpvm_arch::{Prot, Pte, span};
use rumpvm_platform::Platform;

use crate::pmap::Bench;
use crate::program::BASE;
use crate::{PAGE, Program, RamFile, cases};

cases! {
    what_takes_nothing_away_owes_no_flush,
    asking_a_clean_page_whether_it_was_stored_to_owes_no_flush,
}

fn what_takes_nothing_away_owes_no_flush<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 6);
    let at = BASE + span::<P::Format>(2) - 3 * PAGE;
    let flushes = |work: &dyn Fn()| {
        let before = vm.statistics().flushes;
        work();
        vm.statistics().flushes - before
    };
    let protect = |prot| bench.at(at, 6, |cursor, debt| cursor.protect(prot, debt));
    let harvest =
        || bench.at(at, 6, |cursor, debt| cursor.harvest(Pte::A | Pte::D, debt, |_, _| ()));
    assert_eq!(flushes(&|| bench.enter(at, &bench.frames, Prot::READ)), 0, "there was nothing");
    assert_eq!(flushes(&|| bench.enter(at, &bench.frames, Prot::RW)), 0, "more rights");
    assert_eq!(flushes(&harvest), 0, "nobody was there");
    assert_eq!(flushes(&|| protect(Prot::RW)), 0, "the rights that there are");
    assert_eq!(flushes(&|| protect(Prot::READ)), 1);
    assert_eq!(flushes(&|| protect(Prot::READ)), 0, "they are gone already");
    assert_eq!(flushes(&|| protect(Prot::RW)), 0, "none are given");
    assert_eq!(flushes(&|| bench.remove(at - 100 * PAGE, 50)), 0, "nothing is mapped there");
    assert_eq!(flushes(&|| bench.remove(at, 6)), 1);
    assert_eq!(flushes(&|| bench.remove(at, 6)), 0, "it is gone already");
}

fn asking_a_clean_page_whether_it_was_stored_to_owes_no_flush<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let object = vm.open_file(RamFile::<P>::numbered(1, 2)).unwrap();
    program.map_object(BASE, 2, MapFlags::SHARED, &object, 0);
    vm.close(&object).unwrap();
    program.set(BASE, 7);
    let flushes = || {
        let before = vm.statistics().flushes;
        program.msync(vm, BASE, 2 * PAGE, SyncFlags::SYNC).unwrap();
        vm.statistics().flushes - before
    };
    assert_eq!([flushes(), flushes()], [1, 0]);
}
