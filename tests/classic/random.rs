//! Random operations on two pmaps and a few frames, beside a flat model of what is mapped, stored and noted.

use super::machine::in_every_format;

in_every_format! { two_pmaps_do_what_a_flat_list_of_mappings_says }

mod promises {
    use std::collections::BTreeMap;

    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};
    use rumpvm::classic::{Pmap, Pmaps, Wiring};
    use rumpvm::sync::Hold;
    use rumpvm_arch::{Format, Frame, Prot};
    use rumpvm_hosted::Hosted;

    use super::super::machine::*;

    const FRAMES: usize = 12;
    const PAGES: u64 = 1200;
    const STEPS: u64 = 6000;
    const SEED: u64 = 0x5eed_0622;

    #[derive(Clone, Copy, Debug)]
    struct Mapping {
        frame: usize,
        writable: bool,
        wired: bool,
    }

    #[derive(Clone, Copy, Default, Debug)]
    struct Contents {
        value: u64,
        referenced: bool,
        modified: bool,
    }

    struct World<'m, F: Format> {
        pmaps: &'m Pmaps<Hosted<F>>,
        hosted: &'m Hosted<F>,
        both: [Hold<Pmap<Hosted<F>>, Hosted<F>>; 2],
        frames: Vec<Frame>,
        mapped: [BTreeMap<u64, Mapping>; 2],
        contents: [Contents; FRAMES],
        random: Xoshiro256PlusPlus,
        active: usize,
    }

    impl<F: Format> World<'_, F> {
        fn step(&mut self, step: u64) {
            let which = self.random.random_range(0..2usize);
            let first = self.random.random_range(0..PAGES);
            let count = self.random.random_range(1..=60u64).min(PAGES - first);
            let frame = self.random.random_range(0..FRAMES);
            let pmaps = self.pmaps;
            let name = self.frames[frame];
            match self.random.random_range(0..16) {
                0..=4 => self.enter(which, first, frame),
                5 => {
                    pmaps.remove(&self.both[which], pages(first, count));
                    self.mapped[which].retain(|at, _| !(first..first + count).contains(at));
                }
                6 => {
                    pmaps.protect(&self.both[which], pages(first, count), Prot::READ);
                    for (_, it) in self.mapped[which].range_mut(first..first + count) {
                        it.writable = false;
                    }
                }
                7 => {
                    pmaps.page_protect(name, Prot::READ).unwrap();
                    let all = self.mapped.iter_mut().flat_map(BTreeMap::values_mut);
                    all.filter(|it| it.frame == frame).for_each(|it| it.writable = false);
                }
                8 => {
                    pmaps.page_protect(name, Prot::empty()).unwrap();
                    self.mapped.iter_mut().for_each(|map| map.retain(|_, it| it.frame != frame));
                }
                9 => {
                    let was = pmaps.clear_modify(name).unwrap();
                    assert_eq!(was, std::mem::take(&mut self.contents[frame].modified), "{step}");
                }
                10 => {
                    let was = pmaps.clear_reference(name).unwrap();
                    assert_eq!(was, std::mem::take(&mut self.contents[frame].referenced), "{step}");
                }
                11 => {
                    let wired = self.random.random_bool(0.5);
                    let wiring = if wired { Wiring::Wired } else { Wiring::Unwired };
                    let there = pmaps.change_wiring(&self.both[which], page(first), wiring);
                    assert_eq!(there, self.mapped[which].contains_key(&first));
                    if let Some(it) = self.mapped[which].get_mut(&first) {
                        it.wired = wired;
                    }
                }
                12 if step.is_multiple_of(8) => {
                    pmaps.collect(&self.both[which]);
                    self.mapped[which].retain(|_, it| it.wired);
                }
                12 => self.copy(which, first, count),
                13 => {
                    let other = self.random.random_range(0..FRAMES);
                    pmaps.copy_page(self.frames[other], name).unwrap();
                    self.contents[frame].value = self.contents[other].value;
                }
                14 => {
                    self.active = which;
                    pmaps.activate(&self.both[which]);
                }
                _ => {}
            }
            self.access(step);
            self.compare(which, first, frame);
        }

        fn enter(&mut self, which: usize, at: u64, frame: usize) {
            let (writable, wired) = (self.random.random_bool(0.7), self.random.random_bool(0.3));
            let prot = if writable { Prot::RW } else { Prot::READ };
            let wiring = if wired { Wiring::Wired } else { Wiring::Unwired };
            let name = self.frames[frame];
            self.pmaps.enter(&self.both[which], page(at), name, prot, wiring).unwrap();
            self.mapped[which].insert(at, Mapping { frame, writable, wired });
        }

        fn copy(&mut self, from: usize, first: u64, count: u64) {
            let to = 1 - from;
            let target = self.random.random_range(0..PAGES - count + 1);
            let (source, target_map) = (&self.both[from], &self.both[to]);
            let copied = self.pmaps.copy(target_map, page(target), source, pages(first, count));
            let mut expected = 0;
            for number in 0..count {
                let Some(it) = self.mapped[from].get(&(first + number)).copied() else { continue };
                let place = self.mapped[to].entry(target + number);
                if let std::collections::btree_map::Entry::Vacant(place) = place
                    && !it.wired
                {
                    place.insert(it);
                    expected += 1;
                }
            }
            assert_eq!(copied, expected);
        }

        /// This CPU loads or stores.
        fn access(&mut self, step: u64) {
            // Mostly where something is.
            let map = &self.mapped[self.active];
            let nth = self.random.random_range(0..map.len().max(1));
            let at = map.keys().nth(nth).copied().filter(|_| !step.is_multiple_of(5));
            let at = at.unwrap_or_else(|| self.random.random_range(0..PAGES));
            let known = map.get(&at).copied();
            let contents = known.map(|it| &mut self.contents[it.frame]);
            if self.random.random_bool(0.5) {
                assert_eq!(load(self.hosted, page(at)), contents.as_ref().map(|it| it.value));
                contents.into_iter().for_each(|it| it.referenced = true);
                return;
            }
            let stored = store(self.hosted, page(at), step);
            assert_eq!(stored, known.is_some_and(|it| it.writable), "page {at} in step {step}");
            if let Some(it) = contents.filter(|_| stored) {
                *it = Contents { value: step, referenced: true, modified: true };
            }
        }

        fn compare(&self, which: usize, at: u64, frame: usize) {
            let (pmaps, name) = (self.pmaps, self.frames[frame]);
            let found = pmaps.extract(&self.both[which], page(at));
            let found = found
                .map(|it| (it.frame, it.prot.contains(Prot::WRITE), it.wiring == Wiring::Wired));
            let known = self.mapped[which].get(&at);
            assert_eq!(found, known.map(|it| (self.frames[it.frame], it.writable, it.wired)));
            let contents = self.contents[frame];
            assert_eq!(pmaps.is_modified(name), Ok(contents.modified));
            assert_eq!(pmaps.is_referenced(name), Ok(contents.referenced));
            let all = self.mapped.iter().flat_map(BTreeMap::values);
            assert_eq!(pmaps.mappings(name), all.filter(|it| it.frame == frame).count() as u64);
        }
    }

    pub(super) fn two_pmaps_do_what_a_flat_list_of_mappings_says<F: Format>() {
        let machine = Machine::<F>::new(1);
        machine.on(0, |pmaps, hosted| {
            let mut world = World {
                pmaps,
                hosted,
                both: [pmaps.create().unwrap(), pmaps.create().unwrap()],
                frames: (0..FRAMES).map(|_| frame(pmaps)).collect(),
                mapped: Default::default(),
                contents: [Contents::default(); FRAMES],
                random: Xoshiro256PlusPlus::seed_from_u64(SEED),
                active: 0,
            };
            pmaps.activate(&world.both[0]);
            for step in 1..=STEPS {
                world.step(step);
                if step.is_multiple_of(500) {
                    rumpvm::check::check_pmaps(pmaps).unwrap();
                    hosted.verify_tlbs().unwrap();
                }
            }
            for which in 0..2 {
                let there = pmaps.resident(&world.both[which]);
                assert_eq!(there, world.mapped[which].len() as u64);
            }
            pmaps.deactivate();
            world.both.iter().for_each(|pmap| pmaps.destroy(pmap));
            world.frames.iter().for_each(|frame| pmaps.phys.give_back(*frame).unwrap());
            let now = pmaps.statistics();
            assert_eq!(now.tables_made, now.tables_freed);
        });
        machine.check();
    }
}
