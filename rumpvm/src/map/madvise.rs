//! madvise(2): how memory will be used, and what may be thrown away.
//!
//! Linux goes from area to area: holes are skipped and answered with [`CallError::Unmapped`] at the end;
//! an area that cannot be advised so ends the call, and what comes before it stays advised. So here: a
//! call first finds how far it gets ([`Reach`]), and does that as one piece.

use core::ops::ControlFlow;

use rumpvm_arch::{PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::change::Gone;
use super::{Area, AreaFlags, Map, State, Store, whole_pages};
use crate::NoMemory;
use crate::error::CallError;

/// What one value of `advice` asks for.
#[derive(Clone, Copy)]
enum Advice {
    /// Clear the first flags, set the second ones.
    Mark(AreaFlags, AreaFlags),
    /// Drop private pages; the next access sees zeros, or the file.
    DontNeed(Whose),
    /// Punch a hole into the object.
    Remove,
    /// Bring the pages in.
    WillNeed,
    /// Nothing that would show; memory that is locked cannot be advised so.
    PageOut,
    /// Superpages now, which nobody makes here.
    Collapse,
    /// Guards come.
    Guard,
    /// Guards go.
    Unguard,
}

/// Whose pages may be dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Those of memory that is not locked.
    Unlocked,
    /// Those of private anonymous memory that is not locked.
    Anonymous,
    /// Everybody's.
    Anybody,
}

/// How far advice gets.
struct Reach {
    /// Up to the first area that it does not fit.
    range: VirtRange,
    /// What that area says, or a hole.
    answer: Result<(), CallError>,
}

/// Values of `asm-generic/mman-common.h`.
fn decode(advice: i32) -> Result<Advice, CallError> {
    let order = AreaFlags::RANDOM | AreaFlags::SEQUENTIAL;
    let huge = AreaFlags::HUGEPAGE | AreaFlags::NOHUGEPAGE;
    let none = AreaFlags::empty();
    Ok(match advice {
        0 => Advice::Mark(order, none),
        1 => Advice::Mark(order, AreaFlags::RANDOM),
        2 => Advice::Mark(order, AreaFlags::SEQUENTIAL),
        3 => Advice::WillNeed,
        4 => Advice::DontNeed(Whose::Unlocked),
        // The pages may go at any time until they are stored to again: at once is such a time.
        8 => Advice::DontNeed(Whose::Anonymous),
        9 => Advice::Remove,
        10 => Advice::Mark(none, AreaFlags::DONTFORK),
        11 => Advice::Mark(AreaFlags::DONTFORK, none),
        12 => Advice::Mark(none, AreaFlags::MERGEABLE),
        13 => Advice::Mark(AreaFlags::MERGEABLE, none),
        14 => Advice::Mark(huge, AreaFlags::HUGEPAGE),
        15 => Advice::Mark(huge, AreaFlags::NOHUGEPAGE),
        16 => Advice::Mark(none, AreaFlags::DONTDUMP),
        17 => Advice::Mark(AreaFlags::DONTDUMP, none),
        18 => Advice::Mark(none, AreaFlags::WIPEONFORK),
        19 => Advice::Mark(AreaFlags::WIPEONFORK, none),
        20 | 21 => Advice::PageOut,
        24 => Advice::DontNeed(Whose::Anybody),
        25 => Advice::Collapse,
        102 => Advice::Guard,
        103 => Advice::Unguard,
        // Among them 100 and 101, for hardware that fails: unknown where no such hardware is watched.
        _ => return Err(CallError::Invalid),
    })
}

impl Advice {
    /// Whether `area` can be advised so, and what is said if not.
    fn fits<P: Platform>(self, area: &Area<P>) -> Result<(), CallError> {
        let has = |flags| area.flags.contains(flags);
        let is_device = area.object.as_ref().is_some_and(|object| object.device().is_some());
        let is_anonymous = area.object.is_none();
        let fits = match self {
            Self::Mark(_, AreaFlags::WIPEONFORK) => is_anonymous,
            // What may go when memory is short is for no child and for no dump.
            Self::Mark(AreaFlags::WIPEONFORK, _) => !has(AreaFlags::DROPPABLE),
            // A device has these two marks whatever anybody says.
            Self::Mark(AreaFlags::DONTDUMP, _) => !is_device && !has(AreaFlags::DROPPABLE),
            Self::Mark(AreaFlags::DONTFORK, _) => !is_device,
            Self::Mark(..) | Self::WillNeed => true,
            Self::DontNeed(Whose::Anybody) | Self::Unguard => !is_device,
            Self::DontNeed(Whose::Anonymous) => is_anonymous && !has(AreaFlags::LOCKED),
            Self::DontNeed(Whose::Unlocked) | Self::PageOut | Self::Guard => {
                !is_device && !has(AreaFlags::LOCKED)
            }
            Self::Remove if has(AreaFlags::LOCKED) || is_anonymous => false,
            Self::Remove => {
                let may_store = area.max_prot.contains(rumpvm_arch::Prot::WRITE);
                let shared = area.is_shared() && may_store;
                return if shared { Ok(()) } else { Err(CallError::Denied) };
            }
            Self::Collapse => false,
        };
        if fits { Ok(()) } else { Err(CallError::Invalid) }
    }
}

impl<P: Platform> Map<P> {
    /// Takes advice on `length` bytes from `at`. Holes are skipped, what is mapped is advised, and the
    /// answer is then [`CallError::Unmapped`]. Up to an area that cannot be advised so it is done, and what
    /// that area says is the answer; as on Linux. A hole that a file does not take leaves those before it.
    ///
    /// Takes the map's lock. Sleeps when pages are asked for, and for holes in files.
    pub(crate) fn madvise(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        advice: i32,
    ) -> Result<(), CallError> {
        let advice = decode(advice)?;
        let range = whole_pages(at, length).map_err(|_| CallError::Invalid)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        let Reach { range, answer } = self.reach(store, range, advice);
        let mut gone = Gone::none();
        if !range.is_empty() {
            match advice {
                Advice::Mark(clear, set) => {
                    let marked = self.mark(store, &mut state, range, (clear, set));
                    // Linux's word for want of memory here, and nowhere else.
                    gone = marked.map_err(|_| CallError::Again)?;
                }
                Advice::DontNeed(_) => self.dont_need(store, range)?,
                Advice::Guard => self.guard_areas(store, range)?,
                Advice::Unguard => self.remove_guards(store, range)?,
                Advice::WillNeed | Advice::Remove | Advice::PageOut | Advice::Collapse => {}
            }
        }
        drop(state);
        gone.settle(store);
        match advice {
            Advice::WillNeed => self.will_need(store, range),
            Advice::Remove => self.remove(store, range)?,
            _ => {}
        }
        answer
    }

    /// How far `advice` on `range` gets.
    fn reach(&self, store: &Store<P>, range: VirtRange, advice: Advice) -> Reach {
        let pin = store.mmu.phys.epoch.pin();
        let (mut end, mut complete) = (range.start, true);
        let stopped = self.areas.visit(&pin, range.start.0, range.end.0, |area| {
            complete &= area.range.start <= end;
            if let Err(error) = advice.fits(area) {
                end = end.max(area.range.start);
                return ControlFlow::Break(error);
            }
            end = area.range.end;
            ControlFlow::Continue(())
        });
        match stopped.break_value() {
            Some(error) => Reach { range: VirtRange::new(range.start, end), answer: Err(error) },
            None if complete && end >= range.end => Reach { range, answer: Ok(()) },
            None => Reach { range, answer: Err(CallError::Unmapped) },
        }
    }

    fn mark(
        &self,
        store: &Store<P>,
        state: &mut State,
        range: VirtRange,
        (clear, set): (AreaFlags, AreaFlags),
    ) -> Result<Gone<P>, CallError> {
        self.rewrite(store, state, range, |area| {
            // Equal pages are looked for in private memory that stays; elsewhere the wish is ignored.
            let stays = !area.is_shared() && !area.flags.contains(AreaFlags::DROPPABLE);
            let ignored = set == AreaFlags::MERGEABLE && !stays;
            area.flags.remove(clear);
            area.flags.insert(if ignored { AreaFlags::empty() } else { set });
        })
    }

    /// Drops the private pages of `range`, and its translations, but no guards. As one piece whatever the
    /// areas are, so that it is done as a whole or, for want of memory, not at all; holes have no pages.
    fn dont_need(&self, store: &Store<P>, range: VirtRange) -> Result<(), CallError> {
        let spares = self.amap.spares(&store.mmu.phys, range)?;
        self.own_guards(store, range)?;
        let frozen = self.generation.freeze();
        self.drop_pages_but_guards(store, range, spares);
        drop(frozen);
        Ok(())
    }

    /// Guards every mapped page of `range`, or, for want of memory, none.
    fn guard_areas(&self, store: &Store<P>, range: VirtRange) -> Result<(), CallError> {
        let made = self.each_part(store, range, |part| self.make_leaves(store, part));
        if made.is_err() {
            let unmade: Result<(), NoMemory> = self.each_part(store, range, |part| {
                self.unmake_leaves(store, part);
                Ok(())
            });
            debug_assert!(unmade.is_ok());
        } else {
            self.each_part(store, range, |part| {
                self.put_guards(store, part);
                Ok(())
            })?;
        }
        Ok(made?)
    }

    /// Calls `f` with each part of `range` that lies in one area, until it fails.
    fn each_part(
        &self,
        store: &Store<P>,
        range: VirtRange,
        f: impl Fn(VirtRange) -> Result<(), NoMemory>,
    ) -> Result<(), NoMemory> {
        let mut from = range.start;
        while let Some((part, ())) = self.next_part(store, VirtRange::new(from, range.end), |_| ())
        {
            f(part)?;
            from = part.end;
        }
        Ok(())
    }

    /// Makes what is mapped of `range` a hole in its objects. Takes no lock across a file's work: each area
    /// is looked up after the one before was done.
    fn remove(&self, store: &Store<P>, range: VirtRange) -> Result<(), CallError> {
        let mut from = range.start;
        let backing = |area: &Area<P>| (area.object.clone(), area.offset);
        while let Some((part, (object, offset))) =
            self.next_part(store, VirtRange::new(from, range.end), backing)
        {
            if let Some(object) = object {
                let first = offset / PAGE_SIZE;
                object.punch(&store.mmu, (first, first + part.pages()))?;
            }
            from = part.end;
        }
        Ok(())
    }

    /// The first part of `range` that lies in one area, and what `look` says of that part of the area.
    pub(super) fn next_part<R>(
        &self,
        store: &Store<P>,
        range: VirtRange,
        look: impl Fn(&Area<P>) -> R,
    ) -> Option<(VirtRange, R)> {
        if range.is_empty() {
            return None;
        }
        let pin = store.mmu.phys.epoch.pin();
        let area = self.areas.at_or_after(&pin, range.start.0)?;
        let part = area.range.clip(range);
        (!part.is_empty()).then(|| (part, look(&area.part(range))))
    }

    /// Reads in what a file has in `range`; failures show when the pages are used.
    fn will_need(&self, store: &Store<P>, range: VirtRange) {
        let mut page = range.start.page();
        while page < range.end.page() {
            let pin = store.mmu.phys.epoch.pin();
            let Some(area) = self.areas.at_or_after(&pin, VirtAddr::of_page(page).0) else {
                return;
            };
            page = page.max(area.range.start.page());
            if page >= range.end.page() {
                return;
            }
            let Some(object) = area.object.clone() else {
                page = area.range.end.page();
                continue;
            };
            let index = area.object_index(page);
            if index >= object.pages_to_read() {
                page = area.range.end.page();
                continue;
            }
            let needed = !object.is_resident(&store.mmu, &pin, index);
            drop(pin);
            if needed && object.page_in(&store.mmu, index).is_err() {
                return;
            }
            page += 1;
        }
    }
}
