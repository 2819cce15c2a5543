//! Faults on private memory: zero-fill, copy-on-write, and reading what is still common.

use rumpvm_arch::{Access, Frame};
use rumpvm_platform::Platform;

use super::{Attempt, Step};
use crate::NoMemory;
use crate::error::FaultError;
use crate::object::Resident;
use crate::phys::{Fresh, PageKind};
use crate::pmap::Debt;
use crate::radix::Slot;
use crate::stats::Event;

/// What a store will find.
enum Target {
    /// The page is the writer's alone already.
    Own(Frame),
    /// A fresh page, and what it is a copy of if that was a private page.
    New(Fresh, Option<Frame>, Event),
}

impl<P: Platform> Attempt<'_, P> {
    /// A store: afterwards the slot names a page that is this space's alone, mapped writable.
    pub(super) fn private_store(
        &self,
        debt: &mut Debt<P>,
        replaced: &mut Option<Frame>,
    ) -> Result<Step<P>, NoMemory> {
        let (mmu, phys) = (&self.store.mmu, &self.store.mmu.phys);
        let page = self.at.page();
        let mut slots = self.map.amap.leaf_mut(phys, self.pin, page)?;
        let target = match slots.get(page) {
            Slot::Page(frame) if self.is_sole(frame) => Target::Own(frame),
            Slot::Page(frame) => {
                let fresh = phys.alloc()?;
                phys.copy(&fresh, frame);
                Target::New(fresh, Some(frame), Event::FaultCopy)
            }
            Slot::Guard => return Ok(Step::Failed(FaultError::Guarded { at: self.at })),
            Slot::Empty if self.area.object.is_none() => {
                Target::New(phys.alloc_zeroed()?, None, Event::FaultZeroFill)
            }
            Slot::Empty => match self.copy_of_object()? {
                Ok(fresh) => Target::New(fresh, None, Event::FaultCopy),
                Err(step) => return Ok(step),
            },
        };
        let frame = match &target {
            Target::Own(frame) => *frame,
            Target::New(fresh, ..) => fresh.frame(),
        };
        // The slot's reference, before the page can be seen.
        if let Target::New(fresh, ..) = &target {
            phys.page(fresh.frame()).refs.set(1);
        }
        let entered = self.map.pmap.leaf(mmu, self.pin, self.at, true).map(|mut table| {
            // F1: with both locks held, or not at all.
            if !self.map.generation.still(self.generation) {
                return None;
            }
            let there = table.get(self.at);
            let was_there = there.is_present();
            if was_there && there.frame() != frame {
                // Gone from every CPU before another page takes its place: else one thread could
                // still load from the old page what another has stored to the new one.
                let mut old = Debt::new();
                table.remove(self.at, &mut old);
                old.pay(mmu, &self.map.pmap);
            }
            Some((table, was_there))
        });
        let (mut table, was_there) = match entered {
            Ok(Some(entered)) => entered,
            Ok(None) => {
                self.discard(target);
                return Ok(Step::Again);
            }
            Err(error) => {
                self.discard(target);
                return Err(error);
            }
        };
        let event = match target {
            Target::Own(_) => {
                table.enter(self.at, frame, self.area.prot, Some(self.access), debt)?;
                if was_there { Event::FaultReuse } else { Event::FaultSoft }
            }
            Target::New(fresh, old, event) => {
                let record = phys.page(frame);
                record.index.set(page);
                record.owner.set(self.map.pmap.id());
                table.enter_fresh(self.at, fresh, PageKind::Anon, self.area.prot);
                slots.set(page, Slot::Page(frame));
                *replaced = old;
                event
            }
        };
        if slots.live() > table.live() {
            self.map_private_around(&mut table, &slots, debt);
        }
        Ok(Step::Done(event))
    }

    fn discard(&self, target: Target) {
        if let Target::New(fresh, ..) = target {
            let phys = &self.store.mmu.phys;
            phys.page(fresh.frame()).refs.set(0);
            phys.free(fresh);
        }
    }

    /// Whether only this slot names `frame`. With its leaf locked and ours alone.
    fn is_sole(&self, frame: Frame) -> bool {
        self.store.mmu.phys.page(frame).refs.load(crate::sync::Ordering::Acquire) == 1
    }

    /// A fresh copy of the object's page, or what has to happen first.
    fn copy_of_object(&self) -> Result<Result<Fresh, Step<P>>, NoMemory> {
        let Some(object) = &self.area.object else { return Ok(Err(Step::Again)) };
        let index = self.area.object_index(self.at.page());
        let mmu = &self.store.mmu;
        Ok(match object.resident(mmu, self.pin, index)? {
            Resident::Page(frame, _leaf) => {
                let fresh = mmu.phys.alloc()?;
                mmu.phys.copy(&fresh, frame);
                Ok(fresh)
            }
            Resident::Busy(frame) => Err(Step::Busy(frame)),
            Resident::Absent => Err(Step::PageIn(object.clone(), index)),
            Resident::BeyondEnd => Err(Step::BeyondEnd(object.clone(), index)),
        })
    }

    /// A load or a fetch: maps what is there without the right to store, so that the first store comes
    /// here.
    pub(super) fn private_load(&self, debt: &mut Debt<P>) -> Result<Step<P>, NoMemory> {
        let (mmu, phys) = (&self.store.mmu, &self.store.mmu.phys);
        let page = self.at.page();
        let private = self.map.amap.get(phys, self.pin, page);
        if private == Slot::Guard {
            return Ok(Step::Failed(FaultError::Guarded { at: self.at }));
        }
        let common = match (private, &self.area.object) {
            (Slot::Empty, Some(object)) => {
                let index = self.area.object_index(page);
                match object.resident(mmu, self.pin, index)? {
                    Resident::Page(frame, leaf) => Some((frame, leaf)),
                    Resident::Busy(frame) => return Ok(Step::Busy(frame)),
                    Resident::Absent => return Ok(Step::PageIn(object.clone(), index)),
                    Resident::BeyondEnd => return Ok(Step::BeyondEnd(object.clone(), index)),
                }
            }
            _ => None,
        };
        let mut table = self.map.pmap.leaf(mmu, self.pin, self.at, false)?;
        // Slots of this address change only with this table locked (A1).
        let still = self.map.amap.get(phys, self.pin, page) == private;
        if !self.map.generation.still(self.generation) || !still {
            return Ok(Step::Again);
        }
        let there = table.get(self.at);
        if there.is_present() && there.prot::<P::Format>().allows(self.access, true) {
            // Another thread was faster, or the CPU knew an older entry.
            return Ok(Step::Done(Event::FaultSpurious));
        }
        let (frame, event) = match (private, &common) {
            (Slot::Page(frame), _) => (frame, Event::FaultSoft),
            (_, Some((frame, _))) => (*frame, Event::FaultSoft),
            (_, None) => (phys.zero_page(), Event::FaultZeroPage),
        };
        let prot = self.readable();
        table.enter(self.at, frame, prot, Some(Access::Read), debt)?;
        match (common, private) {
            (Some((_, Some(leaf))), _) => self.map_object_around(&mut table, &leaf, prot, debt),
            (_, Slot::Page(_)) => self.map_private_readable_around(&mut table, debt),
            // Untouched memory: the neighbours are most likely untouched too.
            _ => {}
        }
        Ok(Step::Done(event))
    }
}
