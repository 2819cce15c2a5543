//! The reverse map: from a frame to every place that maps it.

use rumpvm::Vm;
use rumpvm::pmap::Debt;
use rumpvm_arch::{Prot, Pte};
use rumpvm_platform::Platform;

use crate::pmap::Bench;
use crate::program::BASE;
use crate::{PAGE, cases};

cases! {
    every_mapping_of_a_frame_is_known_and_forgotten_one_by_one,
    revoking_a_frame_removes_it_wherever_it_is_mapped,
    cleaning_a_frame_clears_the_dirty_bit_wherever_it_is_mapped,
    a_frame_mapped_by_two_pmaps_is_revoked_from_both,
}

fn every_mapping_of_a_frame_is_known_and_forgotten_one_by_one<P: Platform>(vm: &Vm<P>) {
    // Once is inline, twice spills, many grow the list.
    for many in [1, 2, 3, 40] {
        let bench = Bench::new(vm, 1);
        let frame = bench.frames[0];
        for page in 0..many {
            bench.enter(BASE + page * PAGE, &[frame], Prot::READ);
            assert_eq!(vm.mmu.mappings(frame), page + 1);
        }
        let mut table = None;
        let pin = vm.mmu.phys.epoch.pin();
        bench.pmap.for_each_table(&vm.mmu, &pin, |frame, _, _| table = Some(frame));
        drop(pin);
        let leaf = table.expect("the last one is the leaf table");
        let known = (0..100).filter(|slot| vm.mmu.is_mapped_at(frame, leaf, *slot)).count();
        assert_eq!(known as u64, many);
        assert!(vm.mmu.is_tracked(frame) && !vm.mmu.is_tracked(vm.mmu.phys.zero_page()));
        // From the middle out, so that first, last and inner ones go at some time.
        for page in 0..many {
            bench.remove(BASE + (page + many / 2) % many * PAGE, 1);
            assert_eq!(vm.mmu.mappings(frame), many - page - 1);
        }
    }
}

fn revoking_a_frame_removes_it_wherever_it_is_mapped<P: Platform>(vm: &Vm<P>) {
    for many in [1, 2, 17] {
        let bench = Bench::new(vm, 2);
        for page in 0..many {
            // A page in each of several tables, and a neighbour that stays.
            bench.enter(BASE + page * 1000 * PAGE, &bench.frames, Prot::RW);
        }
        revoke(&bench, 0);
        assert_eq!(vm.mmu.mappings(bench.frames[0]), 0);
        assert_eq!(vm.mmu.mappings(bench.frames[1]), many);
        assert_eq!(bench.resident(), many);
        assert_eq!(bench.entry(BASE), None);
    }
}

fn revoke<P: Platform>(bench: &Bench<'_, P>, which: usize) {
    let mmu = &bench.vm.mmu;
    let mut debt = Debt::new();
    mmu.revoke(&mmu.phys.epoch.pin(), bench.frames[which], &mut debt);
    debt.pay_everywhere(mmu);
}

fn cleaning_a_frame_clears_the_dirty_bit_wherever_it_is_mapped<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 1);
    for page in 0..3 {
        let at = BASE + page * PAGE;
        bench.enter(at, &bench.frames, Prot::RW);
        let pin = vm.mmu.phys.epoch.pin();
        let mut leaf = bench.pmap.find_leaf(&vm.mmu, &pin, at).unwrap();
        assert!(leaf.note(at, rumpvm_arch::Access::Write));
    }
    let mut debt = Debt::new();
    vm.mmu.clean(&vm.mmu.phys.epoch.pin(), bench.frames[0], &mut debt);
    debt.pay_everywhere(&vm.mmu);
    for page in 0..3 {
        let entry = bench.entry(BASE + page * PAGE).unwrap();
        assert_eq!(entry.0 & (Pte::A | Pte::D | Pte::W), Pte::A | Pte::W);
    }
}

fn a_frame_mapped_by_two_pmaps_is_revoked_from_both<P: Platform>(vm: &Vm<P>) {
    let one = Bench::new(vm, 1);
    let two = Bench::new(vm, 0);
    one.enter(BASE, &one.frames, Prot::READ);
    two.enter(BASE + PAGE, &one.frames, Prot::READ);
    revoke(&one, 0);
    assert_eq!((one.resident(), two.resident()), (0, 0));
}
