//! Page tables through their cursors: what one operation does to a range.

use alloc::vec;
use alloc::vec::Vec;

use rumpvm::Vm;
use rumpvm::phys::PageKind;
use rumpvm::pmap::{Cursor, Debt, Inherit, Pmap};
use rumpvm_arch::{Format, Frame, Prot, Pte, VirtAddr, VirtRange, span};
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, cases};

cases! {
    no_two_pmaps_have_one_number,
    what_was_entered_is_found_with_its_frame_and_rights,
    removing_a_range_leaves_its_neighbours_and_frees_the_empty_tables,
    protecting_takes_rights_away_and_never_gives_any,
    protecting_with_no_rights_removes_the_entries,
    harvesting_returns_the_bits_once_and_leaves_the_mapping,
    harvesting_stores_to_an_object_leaves_its_page_dirty,
    entering_ends_with_the_range_or_with_the_frames,
    entering_the_same_frame_again_only_adds_rights,
    rights_and_notes_change_one_by_one,
    entering_another_frame_replaces_the_mapping,
    what_is_entered_in_a_shared_table_cannot_be_stored_to,
    an_operation_on_an_empty_range_finds_nothing_and_makes_no_tables,
    entering_fresh_frames_ends_at_the_first_page_that_is_mapped_and_takes_no_frame_for_it,
    entering_a_device_names_its_frames_in_order_and_no_record,
    protecting_what_is_dirty_and_what_is_not_leaves_the_same_rights,
    every_table_is_told_with_its_level_and_the_first_address_that_it_serves,
}

/// A pmap outside any space, with frames to map.
pub(crate) struct Bench<'v, P: Platform> {
    pub(crate) vm: &'v Vm<P>,
    pub(crate) pmap: Pmap<P>,
    pub(crate) frames: Vec<Frame>,
}

impl<'v, P: Platform> Bench<'v, P> {
    pub(crate) fn new(vm: &'v Vm<P>, frames: usize) -> Self {
        let phys = &vm.mmu.phys;
        let mut bench = Self { vm, pmap: Pmap::try_new(&vm.mmu).unwrap(), frames: vec![] };
        for _ in 0..frames {
            bench.frames.push(phys.give(phys.alloc().unwrap(), PageKind::Anon));
        }
        bench
    }

    /// Does `work` with a cursor over `pages` pages at `at`, and pays what it owes.
    pub(crate) fn at<R>(
        &self,
        at: VirtAddr,
        pages: u64,
        work: impl FnOnce(Cursor<'_, P>, &mut Debt<P>) -> R,
    ) -> R {
        let mut debt = Debt::new();
        let range = VirtRange::new(at, at + pages * PAGE);
        let pin = self.vm.mmu.phys.epoch.pin();
        let result = work(self.pmap.cursor(&self.vm.mmu, &pin, range), &mut debt);
        drop(pin);
        debt.pay(&self.vm.mmu, &self.pmap);
        result
    }

    pub(crate) fn enter(&self, at: VirtAddr, frames: &[Frame], prot: Prot) {
        let entered = self.at(at, frames.len() as u64, |cursor, debt| {
            cursor.enter(frames.iter().copied(), prot, debt)
        });
        assert_eq!(entered, Ok(frames.len() as u64));
    }

    pub(crate) fn remove(&self, at: VirtAddr, pages: u64) {
        self.at(at, pages, |cursor, debt| cursor.remove(debt));
    }

    pub(crate) fn entry(&self, at: VirtAddr) -> Option<Pte> {
        let pin = self.vm.mmu.phys.epoch.pin();
        self.pmap.query(&self.vm.mmu, &pin, at)
    }

    fn tables(&self) -> u64 {
        self.pmap.tables(&self.vm.mmu, &self.vm.mmu.phys.epoch.pin())
    }

    pub(crate) fn resident(&self) -> u64 {
        self.pmap.resident(&self.vm.mmu, &self.vm.mmu.phys.epoch.pin())
    }

    /// Frame and rights of every entry in the range.
    fn contents(&self, at: VirtAddr, pages: u64) -> Vec<(VirtAddr, Frame, Prot)> {
        let mut found = vec![];
        self.at(at, pages, |cursor, _| {
            cursor.query(|at, entry| found.push((at, entry.frame(), entry.prot::<P::Format>())));
        });
        found
    }
}

impl<P: Platform> Drop for Bench<'_, P> {
    fn drop(&mut self) {
        let phys = &self.vm.mmu.phys;
        self.pmap.destroy(&self.vm.mmu);
        for frame in self.frames.drain(..) {
            phys.free(phys.take(frame));
        }
    }
}

/// What the hardware makes of `prot`.
fn seen<P: Platform>(prot: Prot) -> Prot {
    let readable = prot | Prot::READ;
    if P::Format::HAS_NX { readable } else { readable | Prot::EXEC }
}

/// The last page of a leaf table: what is entered there goes on in the next one.
fn border<P: Platform>() -> VirtAddr {
    BASE + span::<P::Format>(2) - PAGE
}

fn no_two_pmaps_have_one_number<P: Platform>(vm: &Vm<P>) {
    let (one, other) = (Bench::new(vm, 0), Bench::new(vm, 0));
    assert_ne!(one.pmap.id(), other.pmap.id());
}

fn what_was_entered_is_found_with_its_frame_and_rights<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 3);
    let at = border::<P>();
    bench.enter(at, &bench.frames, Prot::READ | Prot::EXEC);

    let rights = seen::<P>(Prot::READ | Prot::EXEC);
    let expected: Vec<_> =
        (0..).zip(&bench.frames).map(|(page, frame)| (at + page * PAGE, *frame, rights)).collect();
    assert_eq!(bench.contents(at, 3), expected);
    assert_eq!(bench.contents(BASE, 4096), expected, "and nothing else");
    assert_eq!(bench.entry(at - PAGE), None);
    assert_eq!(bench.resident(), 3);
}

fn removing_a_range_leaves_its_neighbours_and_frees_the_empty_tables<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 4);
    let at = border::<P>();
    let empty = bench.tables();
    bench.enter(at - PAGE, &bench.frames, Prot::RW);
    let both = bench.tables();

    bench.remove(at + PAGE, 2);
    assert_eq!(bench.resident(), 2);
    assert_eq!(bench.tables(), both - 1, "the second leaf table is empty");

    bench.remove(at - PAGE, 1);
    let last = (at, bench.frames[1], seen::<P>(Prot::RW));
    assert_eq!(bench.contents(BASE, 4096), [last]);

    bench.remove(BASE, 4096);
    assert_eq!((bench.resident(), bench.tables()), (0, empty), "only the root is left");
    assert!(bench.frames.iter().all(|frame| vm.mmu.mappings(*frame) == 0));
}

fn protecting_takes_rights_away_and_never_gives_any<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 2);
    bench.enter(BASE, &bench.frames[..1], Prot::ALL);
    bench.enter(BASE + PAGE, &bench.frames[1..], Prot::READ);

    bench.at(BASE, 2, |cursor, debt| cursor.protect(Prot::RW, debt));
    let rights = |page: u64| bench.entry(BASE + page * PAGE).unwrap().prot::<P::Format>();
    assert_eq!((rights(0), rights(1)), (seen::<P>(Prot::RW), seen::<P>(Prot::READ)));

    bench.at(BASE, 1, |cursor, debt| cursor.protect(Prot::READ, debt));
    assert_eq!(rights(0), seen::<P>(Prot::READ));
}

fn protecting_with_no_rights_removes_the_entries<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 2);
    bench.enter(BASE, &bench.frames, Prot::RW);
    bench.at(BASE, 1, |cursor, debt| cursor.protect(Prot::empty(), debt));
    assert_eq!(bench.entry(BASE), None);
    assert_eq!((bench.resident(), vm.mmu.mappings(bench.frames[0])), (1, 0));
}

fn harvesting_returns_the_bits_once_and_leaves_the_mapping<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 1);
    bench.enter(BASE, &bench.frames, Prot::RW);
    let pin = vm.mmu.phys.epoch.pin();
    let mut leaf = bench.pmap.find_leaf(&vm.mmu, &pin, BASE).unwrap();
    assert!(leaf.note(BASE, rumpvm_arch::Access::Write));
    drop(leaf);
    drop(pin);

    let harvest = || {
        let mut bits = vec![];
        bench.at(BASE, 4096, |cursor, debt| {
            let mask = Pte::A | Pte::D;
            cursor.harvest(mask, debt, |at, entry| {
                bits.push((at, entry.is_accessed(), entry.is_dirty()));
            });
        });
        bits
    };
    assert_eq!(harvest(), [(BASE, true, true)]);
    assert_eq!(harvest(), [(BASE, false, false)]);
    assert_eq!(bench.entry(BASE).unwrap().frame(), bench.frames[0]);
}

fn harvesting_stores_to_an_object_leaves_its_page_dirty<P: Platform>(vm: &Vm<P>) {
    let mut bench = Bench::new(vm, 0);
    let phys = &vm.mmu.phys;
    let mut fresh = core::iter::once(phys.alloc().unwrap());
    let entered =
        bench.at(BASE, 1, |cursor, _| cursor.enter_fresh(&mut fresh, PageKind::Object, Prot::RW));
    fresh.for_each(|fresh| phys.free(fresh));
    assert_eq!(entered, Ok(1));
    let frame = bench.entry(BASE).unwrap().frame();
    bench.frames.push(frame);
    let page = phys.page(frame);
    for (mask, dirty) in [(Pte::A, false), (Pte::D, true)] {
        bench.at(BASE, 1, |cursor, debt| cursor.harvest(mask, debt, |_, _| ()));
        assert_eq!(page.is_dirty(), dirty);
    }
}

fn entering_ends_with_the_range_or_with_the_frames<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 3);
    let enter = |pages| {
        bench.at(BASE, pages, |cursor, debt| {
            cursor.enter(bench.frames.iter().copied(), Prot::RW, debt)
        })
    };
    assert_eq!(enter(2), Ok(2));
    assert_eq!(enter(4), Ok(3));
    assert_eq!(bench.resident(), 3);
}

fn entering_the_same_frame_again_only_adds_rights<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 1);
    bench.enter(BASE, &bench.frames, Prot::READ);
    bench.enter(BASE, &bench.frames, Prot::RW);
    bench.enter(BASE, &bench.frames, Prot::READ | Prot::EXEC);

    assert_eq!(bench.entry(BASE).unwrap().prot::<P::Format>(), Prot::ALL);
    assert_eq!((bench.resident(), vm.mmu.mappings(bench.frames[0])), (1, 1));
}

fn rights_and_notes_change_one_by_one<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 1);
    let is = |prot, accessed, dirty| {
        let entry = bench.entry(BASE).unwrap();
        assert_eq!(entry.prot::<P::Format>(), seen::<P>(prot));
        assert_eq!((entry.is_accessed(), entry.is_dirty()), (accessed, dirty));
    };
    let harvest = |mask| bench.at(BASE, 1, |cursor, debt| cursor.harvest(mask, debt, |_, _| ()));
    bench.enter(BASE, &bench.frames, Prot::READ | Prot::EXEC);
    is(Prot::READ | Prot::EXEC, false, false);
    bench.enter(BASE, &bench.frames, Prot::RW);
    is(Prot::ALL, false, false);
    bench.at(BASE, 1, |cursor, debt| cursor.protect(Prot::READ | Prot::EXEC, debt));
    is(Prot::READ | Prot::EXEC, false, false);
    bench.at(BASE, 1, |_, debt| {
        let pin = vm.mmu.phys.epoch.pin();
        let mut leaf = bench.pmap.find_leaf(&vm.mmu, &pin, BASE).unwrap();
        let touched = Some(rumpvm_arch::Access::Write);
        leaf.enter(BASE, bench.frames[0], Prot::RW, touched, debt).unwrap();
    });
    is(Prot::ALL, true, true);
    harvest(Pte::A);
    is(Prot::ALL, false, true);
    harvest(Pte::D);
    is(Prot::ALL, false, false);
}

fn entering_another_frame_replaces_the_mapping<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 2);
    bench.enter(BASE, &bench.frames[..1], Prot::RW);
    bench.enter(BASE, &bench.frames[1..], Prot::READ);

    let entry = bench.entry(BASE).unwrap();
    assert_eq!((entry.frame(), entry.is_writable()), (bench.frames[1], false));
    assert_eq!(vm.mmu.mappings(bench.frames[0]), 0);
    assert_eq!((bench.resident(), vm.mmu.mappings(bench.frames[1])), (1, 1));
}

fn what_is_entered_in_a_shared_table_cannot_be_stored_to<P: Platform>(vm: &Vm<P>) {
    let (bench, other) = (Bench::new(vm, 2), Bench::new(vm, 0));
    bench.enter(BASE, &bench.frames[..1], Prot::RW);
    let entered = bench.at(BASE, 2, |_, debt| {
        let pin = vm.mmu.phys.epoch.pin();
        bench.pmap.share(&vm.mmu, &pin, &other.pmap, |_| Inherit::Share, debt)?;
        let leaf = bench.pmap.find_leaf(&vm.mmu, &pin, BASE);
        leaf.map(|mut leaf| leaf.enter(BASE + PAGE, bench.frames[1], Prot::RW, None, debt))
            .transpose()
    });
    // Only now, when what is owed is paid, may the case end early.
    assert_eq!(entered, Ok(Some(())));
    let found = (BASE + PAGE, bench.frames[1], seen::<P>(Prot::READ));
    assert_eq!(other.contents(BASE + PAGE, 4), [found]);
    bench.remove(BASE, 1);
    assert_eq!((bench.resident(), bench.tables()), (0, 1), "only the root is left");
}

fn an_operation_on_an_empty_range_finds_nothing_and_makes_no_tables<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 0);
    let everything = P::Format::USER_END.0 / PAGE;
    bench.remove(VirtAddr(0), everything);
    bench.at(VirtAddr(0), everything, |cursor, debt| cursor.protect(Prot::READ, debt));
    assert_eq!(bench.contents(VirtAddr(0), everything), []);
    assert_eq!(bench.tables(), 1);
}

fn entering_fresh_frames_ends_at_the_first_page_that_is_mapped_and_takes_no_frame_for_it<
    P: Platform,
>(
    vm: &Vm<P>,
) {
    let mut bench = Bench::new(vm, 1);
    let at = border::<P>();
    bench.enter(at + 2 * PAGE, &bench.frames, Prot::READ);
    let phys = &vm.mmu.phys;
    let fresh: Vec<_> = (0..4).map(|_| phys.alloc().unwrap()).collect();
    let frames: Vec<_> = fresh.iter().map(|fresh| fresh.frame()).collect();

    let mut fresh = fresh.into_iter();
    let entered = bench.at(at, 4, |cursor, _| {
        cursor.enter_fresh(&mut fresh, PageKind::Anon, Prot::READ | Prot::WRITE)
    });

    assert_eq!(entered, Ok(2));
    let rest: Vec<_> = fresh.map(|fresh| fresh.frame()).collect();
    assert_eq!(rest, frames[2..]);
    let rights = seen::<P>(Prot::READ | Prot::WRITE);
    let mapped = bench.contents(at, 2);
    assert_eq!(mapped, vec![(at, frames[0], rights), (at + PAGE, frames[1], rights)]);
    assert_eq!(frames[..2].iter().map(|frame| vm.mmu.mappings(*frame)).sum::<u64>(), 2);
    assert_eq!(bench.resident(), 3);
    bench.remove(at, 4);
    bench.frames.extend(frames);
}

fn entering_a_device_names_its_frames_in_order_and_no_record<P: Platform>(vm: &Vm<P>) {
    let bench = Bench::new(vm, 0);
    let (at, first) = (border::<P>(), Frame(0x7_0000));
    assert!(!vm.mmu.phys.has(first));

    let entered = bench.at(at, 3, |cursor, _| cursor.enter_device(first, Prot::READ));

    assert_eq!(entered, Ok(3));
    let named: Vec<_> = bench.contents(at, 3).into_iter().map(|(_, frame, _)| frame.0).collect();
    assert_eq!(named, vec![first.0, first.0 + 1, first.0 + 2]);
    bench.remove(at, 3);
    assert_eq!(bench.resident(), 0);
}

fn protecting_what_is_dirty_and_what_is_not_leaves_the_same_rights<P: Platform>(vm: &Vm<P>) {
    let mut bench = Bench::new(vm, 1);
    let (at, rw) = (BASE, Prot::READ | Prot::WRITE);
    bench.enter(at, &bench.frames, rw);
    let fresh = vm.mmu.phys.alloc().unwrap();
    let frame = fresh.frame();
    let mut fresh = core::iter::once(fresh);
    let entered =
        bench.at(at + PAGE, 1, |cursor, _| cursor.enter_fresh(&mut fresh, PageKind::Anon, rw));
    assert_eq!(entered, Ok(1));
    let dirty = |at| bench.entry(at).is_some_and(Pte::is_dirty);
    assert_eq!([dirty(at), dirty(at + PAGE)], [false, true]);

    bench.at(at, 2, |cursor, debt| cursor.protect(Prot::READ, debt));

    let rights: Vec<_> = bench.contents(at, 2).into_iter().map(|(_, _, prot)| prot).collect();
    assert_eq!(rights, vec![seen::<P>(Prot::READ); 2]);
    assert_eq!([dirty(at), dirty(at + PAGE)], [false, true]);
    bench.remove(at, 2);
    bench.frames.push(frame);
}

fn every_table_is_told_with_its_level_and_the_first_address_that_it_serves<P: Platform>(
    vm: &Vm<P>,
) {
    let bench = Bench::new(vm, 2);
    let at = border::<P>();
    bench.enter(at, &bench.frames, Prot::RW);
    let mut found = vec![];
    let pin = vm.mmu.phys.epoch.pin();
    bench.pmap.for_each_table(&vm.mmu, &pin, |frame, level, first| {
        assert_eq!(vm.mmu.phys.page(frame).kind(), PageKind::Table);
        found.push((level, first));
    });
    let serves = |level, at: VirtAddr| match level {
        level if level == P::Format::LEVELS => (level, VirtAddr(0)),
        level => (level, VirtAddr(at.0 & !(span::<P::Format>(level + 1) - 1))),
    };
    let levels = (1..=P::Format::LEVELS).rev();
    let mut expected: Vec<_> =
        levels.flat_map(|level| [serves(level, at), serves(level, at + PAGE)]).collect();
    found.sort_unstable();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(found, expected);
}
