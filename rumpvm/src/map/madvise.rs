//! madvise(2): how memory will be used, and what may be thrown away.

use core::ops::ControlFlow;

use rumpvm_arch::{VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::change::Gone;
use super::{AreaFlags, Map, Store, whole_pages};
use crate::error::CallError;

/// What one value of `advice` asks for.
#[derive(Clone, Copy)]
enum Advice {
    /// Clear the first flags, set the second ones.
    Mark(AreaFlags, AreaFlags),
    /// Drop private pages; the next access sees zeros, or the file.
    DontNeed {
        /// Anonymous private memory only.
        anonymous: bool,
    },
    /// Bring the pages in.
    WillNeed,
    /// Nothing that would show; memory that is locked cannot be advised so.
    PageOut,
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
        4 => Advice::DontNeed { anonymous: false },
        // The pages may go at any time until they are stored to again: at once is such a time.
        8 => Advice::DontNeed { anonymous: true },
        10 => Advice::Mark(none, AreaFlags::DONTFORK),
        11 => Advice::Mark(AreaFlags::DONTFORK, none),
        12 => Advice::Mark(none, AreaFlags::MERGEABLE),
        13 => Advice::Mark(AreaFlags::MERGEABLE, none),
        14 => Advice::Mark(huge, AreaFlags::HUGEPAGE),
        15 => Advice::Mark(huge, AreaFlags::NOHUGEPAGE),
        16 => Advice::Mark(none, AreaFlags::DONTDUMP),
        17 => Advice::Mark(AreaFlags::DONTDUMP, none),
        20 | 21 => Advice::PageOut,
        _ => return Err(CallError::Invalid),
    })
}

impl<P: Platform> Map<P> {
    /// Takes advice on `length` bytes from `at`. Holes are skipped, what is mapped is advised, and the
    /// answer is then [`CallError::Unmapped`]. What comes before an area that may not lose its pages loses
    /// them, and then the answer is [`CallError::Invalid`]; as on Linux.
    ///
    /// Takes the map's lock. Sleeps when pages are asked for.
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
        let complete = self.is_covered(store, range);
        let mut gone = Gone::none();
        match advice {
            Advice::Mark(clear, set) => {
                gone = self.rewrite(store, &mut state, range, |area| {
                    area.flags.remove(clear);
                    area.flags.insert(set);
                })?;
            }
            Advice::DontNeed { anonymous } => {
                self.dont_need(store, range, anonymous)?;
            }
            Advice::PageOut if self.has_locked(store, range) => return Err(CallError::Invalid),
            Advice::WillNeed | Advice::PageOut => {}
        }
        drop(state);
        gone.settle(store);
        if let Advice::WillNeed = advice {
            self.will_need(store, range);
        }
        if complete { Ok(()) } else { Err(CallError::Unmapped) }
    }

    /// Whether some of `range` is locked in memory.
    fn has_locked(&self, store: &Store<P>, range: VirtRange) -> bool {
        let pin = store.mmu.phys.epoch.pin();
        let found = self.areas.visit(&pin, range.start.0, range.end.0, |area| {
            let locked = area.flags.contains(AreaFlags::LOCKED);
            if locked { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found.is_break()
    }

    /// Whether all of `range` is mapped.
    fn is_covered(&self, store: &Store<P>, range: VirtRange) -> bool {
        self.mapped_prefix(&store.mmu.phys.epoch.pin(), range) == range
    }

    /// Drops the private pages of `range`, and its translations, up to the first area that may not lose
    /// them. As one piece whatever the areas are, so that it is done as a whole or, for want of memory, not
    /// at all; holes have no pages.
    fn dont_need(
        &self,
        store: &Store<P>,
        range: VirtRange,
        anonymous: bool,
    ) -> Result<(), CallError> {
        let pin = store.mmu.phys.epoch.pin();
        let first_unfit = self.areas.visit(&pin, range.start.0, range.end.0, |area| {
            let unfit = anonymous && (area.is_shared() || area.object.is_some());
            if area.flags.contains(AreaFlags::LOCKED) || unfit {
                return ControlFlow::Break(area.range.start.max(range.start));
            }
            ControlFlow::Continue(())
        });
        drop(pin);
        let unfit = first_unfit.break_value();
        let part = VirtRange::new(range.start, unfit.unwrap_or(range.end));
        if !part.is_empty() {
            let spares = self.amap.spares(&store.mmu.phys, part)?;
            let frozen = self.generation.freeze();
            self.drop_pages(store, part, spares);
            drop(frozen);
        }
        if unfit.is_some() { Err(CallError::Invalid) } else { Ok(()) }
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
