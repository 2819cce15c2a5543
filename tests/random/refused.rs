//! Calls that are refused: each is tried with its n-th frame, record, read or write failing, for n = 1, 2, ...,
//! until it meets no failure any more; only that last time counts.
//!
//! Flow:  [`World::call`] -> n ordered -> the call -> the error tells of the failure -> all is as the model says and
//!        as [`Unchanged`] saw it before -> n + 1.
//!
//! What a refused call may leave is what its documentation says ([`Leaves`]); the model is the picture of the rest.

use std::ops::ControlFlow;

use rumpvm::{AreaFlags, CallError, FaultError};
use rumpvm_arch::{Access, Format, PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Scarce;

use super::{PAGE, WINDOW, World, address};

/// More steps than a call makes that can fail.
const MANY: u64 = 500;

/// What a call that was refused may have done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leaves {
    /// Nothing (V4 of `map`).
    Nothing,
    /// Pages may have come, for a part of the range; their bytes are those that were to be seen there.
    Pages,
    /// The same, and the stack has perhaps grown.
    Stack,
    /// What was mapped there is perhaps gone: moving to a place unmaps it first, whatever comes after.
    Gap(VirtAddr, u64),
}

/// Which failure, and whether all that follow fail too.
#[derive(Clone, Copy, Debug)]
struct Failing {
    what: Scarce,
    lasting: bool,
}

/// An error that may be told for a failure.
pub(super) trait Told {
    /// Whether it tells of the failure of `what`.
    fn tells_of(&self, what: Scarce) -> bool;
}

impl Told for CallError {
    fn tells_of(&self, what: Scarce) -> bool {
        match what {
            Scarce::Frame | Scarce::Heap => matches!(self, Self::NoMemory | Self::Again),
            // Populating says of a page that cannot be read what Linux says.
            Scarce::Io => matches!(self, Self::Io(_) | Self::BadAddress),
        }
    }
}

impl Told for FaultError {
    fn tells_of(&self, what: Scarce) -> bool {
        match what {
            // A stack that cannot grow is not there.
            Scarce::Frame | Scarce::Heap => {
                matches!(self, Self::NoMemory { .. } | Self::Unmapped { .. })
            }
            Scarce::Io => matches!(self, Self::Pager { .. }),
        }
    }
}

/// What the model does not know and a refused call leaves as it is: private pages by frame; size, users and pages
/// of objects; spaces.
#[derive(PartialEq, Eq, Debug)]
struct Unchanged {
    private: Vec<Vec<(u64, u32)>>,
    objects: Vec<(u64, u64, u64, u64)>,
    spaces: u64,
}

impl<F: Format> World<F> {
    /// Makes a call; in a program with failures, after it was refused for each of them.
    pub(super) fn call<T, E: Told + std::fmt::Debug>(
        &mut self,
        leaves: Leaves,
        act: impl Fn(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.call_with(leaves, act, |_, _| ())
    }

    /// The same; `refused` brings the model up to what a refused call has done.
    pub(super) fn call_with<T, E: Told + std::fmt::Debug>(
        &mut self,
        leaves: Leaves,
        act: impl Fn(&Self) -> Result<T, E>,
        refused: impl Fn(&mut Self, &E),
    ) -> Result<T, E> {
        // Half of the calls, so that the other half sees what those have left.
        if !self.fails || self.chance(2) {
            return act(self);
        }
        let what = [Scarce::Frame, Scarce::Heap, Scarce::Heap, Scarce::Io];
        let what = what[self.random.random_range(0..what.len())];
        let failing = Failing { what, lasting: self.chance(2) };
        for nth in 1..MANY {
            let before = self.unchanged();
            let (outcome, met) = self.with_failure(failing, nth, &act);
            match &outcome {
                Err(error) if met && error.tells_of(what) => {
                    self.log(format!("    refused, {failing:?} {nth}"));
                    self.refused += 1;
                    refused(self, error);
                    self.assert_refused(leaves, &before);
                }
                _ => {
                    self.behind |= met;
                    return outcome;
                }
            }
        }
        panic!("{MANY} times {failing:?}, and never enough");
    }

    fn with_failure<T>(&self, failing: Failing, nth: u64, act: impl Fn(&Self) -> T) -> (T, bool) {
        let failures = self.vm().platform().failures();
        let Failing { what, lasting } = failing;
        if lasting {
            failures.fail_from(what, nth)
        } else {
            failures.fail_nth(what, nth)
        }
        let outcome = act(self);
        let met = !failures.is_pending(what);
        failures.fail_nth(what, 0);
        (outcome, met)
    }

    /// Does what cannot fail, without memory if the program has failures.
    pub(super) fn without_memory<T>(&self, act: impl Fn(&Self) -> T) -> T {
        let failures = self.vm().platform().failures();
        if self.fails {
            failures.fail_from(Scarce::Frame, 1);
            failures.fail_from(Scarce::Heap, 1);
        }
        let outcome = act(self);
        failures.fail_nth(Scarce::Frame, 0);
        failures.fail_nth(Scarce::Heap, 0);
        outcome
    }

    fn unchanged(&self) -> Unchanged {
        let vm = self.vm();
        let (mut objects, mut spaces) = (vec![], 0);
        vm.objects.for_each(|object| {
            let resident = object.resident_pages(&vm.mmu);
            objects.push((object.id(), object.size(), object.users(), resident));
        });
        vm.for_each_space(|_| spaces += 1);
        let private = (0..self.processes.len()).map(|process| self.private(process)).collect();
        Unchanged { private, objects, spaces }
    }

    /// Pages and frames of the amap.
    fn private(&self, process: usize) -> Vec<(u64, u32)> {
        let (phys, space) = (&self.vm().mmu.phys, &self.processes[process].space);
        let pin = phys.epoch.pin();
        let mut pages = vec![];
        let everything = VirtRange::new(VirtAddr(0), VirtAddr(u64::MAX));
        space.amap().for_each(phys, &pin, everything, |page, frame| {
            pages.push((page, frame.0));
            true
        });
        pages
    }

    fn assert_refused(&mut self, leaves: Leaves, before: &Unchanged) {
        self.machine.check();
        match leaves {
            Leaves::Nothing => assert_eq!(&self.unchanged(), before, "it was refused"),
            Leaves::Gap(at, bytes) if self.areas(self.now) != self.modelled_areas(self.now) => {
                let unmapped = self.model().0.munmap(at, bytes);
                assert_eq!(unmapped, Ok(()));
            }
            Leaves::Gap(..) => assert_eq!(&self.unchanged(), before, "it was refused"),
            Leaves::Pages | Leaves::Stack => {}
        }
        for process in 0..self.processes.len() {
            if leaves != Leaves::Stack {
                assert_eq!(self.areas(process), self.modelled_areas(process), "areas of {process}");
                let Self { processes, .. } = self;
                let (space, memory) = (&processes[process].space, &processes[process].memory);
                let bytes = (memory.pages.len() as u64 * PAGE_SIZE, memory.locked());
                assert_eq!(
                    (space.mapped_bytes(), space.locked_bytes()),
                    bytes,
                    "bytes mapped, locked"
                );
            }
            self.look(process);
        }
    }

    /// Every page that can be loaded without a fault has the bytes of the model.
    fn look(&self, process: usize) {
        let running = &self.processes[process];
        let vm = self.vm();
        vm.activate(&running.space);
        let mut bytes = vec![0; PAGE];
        for page in 0..WINDOW {
            let at = address(page);
            let Some(modelled) = running.memory.pages.get(&at.page()) else { continue };
            if vm.platform().load(at, &mut bytes).is_ok() {
                let same = bytes == modelled.bytes(&self.objects);
                assert!(same, "page {page} of process {process} has other bytes");
            }
        }
        vm.activate(self.space());
    }

    fn areas(&self, process: usize) -> Vec<(u64, u64, Prot, AreaFlags, Option<u64>)> {
        let mut areas = vec![];
        let _: ControlFlow<()> = self.processes[process].space.areas(self.vm(), |area| {
            let offset = area.object.as_ref().map(|_| area.offset / PAGE_SIZE);
            let (first, end) = (area.range.start.page(), area.range.end.page());
            areas.push((first, end, area.prot, area.flags, offset));
            ControlFlow::Continue(())
        });
        areas
    }

    fn modelled_areas(&self, process: usize) -> Vec<(u64, u64, Prot, AreaFlags, Option<u64>)> {
        let areas = self.processes[process].memory.areas();
        let seen = |((first, end), page): ((u64, u64), &crate::model::Page)| {
            (first, end, page.prot, page.flags, page.object.map(|(_, index)| index as u64))
        };
        areas.into_iter().map(seen).collect()
    }

    /// A call that was done although something failed has perhaps not brought in every page that it would have:
    /// what the model has as private copies and the component has not is as it was, and is brought in now.
    pub(super) fn catch_up(&mut self) {
        if !std::mem::take(&mut self.behind) {
            return;
        }
        let there: Vec<u64> = self.private(self.now).into_iter().map(|(page, _)| page).collect();
        let running = &self.processes[self.now];
        for (page, modelled) in &running.memory.pages {
            if modelled.private.is_none() || there.binary_search(page).is_ok() {
                continue;
            }
            let mut fresh = modelled.clone();
            fresh.private = None;
            let same = fresh.bytes(&self.objects) == modelled.bytes(&self.objects);
            assert!(same, "page {page:#x} is not there, and was stored to");
            let at = VirtAddr::of_page(*page);
            assert_eq!(self.vm().fault(&running.space, at, Access::Write), Ok(()));
        }
    }
}
