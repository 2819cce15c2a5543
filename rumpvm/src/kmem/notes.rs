//! What the debug build notes in a segment's tag: that it is in use or not, and both places in the source.
//!
//! Locks: the arena's, for each note.

use core::panic::Location;
use core::ptr;

use rumpvm_platform::Platform;

use super::Arena;
use super::tag::{ALLOCATED, FREED, Kind};
use crate::phys::Phys;
use crate::zone::tell;

impl<P: Platform> Arena<'_, P> {
    #[cold]
    pub(super) fn unknown(&self, phys: &Phys<P>, start: u64) -> ! {
        let name = self.spec.name;
        tell(
            phys,
            format_args!("arena {name}: {start:#x} is freed, and nothing is allocated there"),
        )
    }

    /// `start` is in use from now on, as it was not.
    pub(super) fn note_allocated(
        &self,
        phys: &Phys<P>,
        start: u64,
        now: &'static Location<'static>,
    ) {
        let segments = self.segments.lock();
        let Some(tag) = segments.lookup(phys, start) else { self.unknown(phys, start) };
        tag.set_kind(phys, Kind::Used);
        tag.set(phys, ALLOCATED, ptr::from_ref(now).expose_provenance() as u64);
    }

    /// `start` is not in use any more, as it was, with that size.
    pub(super) fn note_freed(
        &self,
        phys: &Phys<P>,
        start: u64,
        size: u64,
        now: &'static Location<'static>,
    ) {
        let name = self.spec.name;
        let segments = self.segments.lock();
        let Some(tag) = segments.lookup(phys, start) else {
            drop(segments);
            tell(
                phys,
                format_args!(
                    "arena {name}: {start:#x} is freed at {now}, and nothing is allocated there"
                ),
            )
        };
        let allocated = place(tag.get(phys, ALLOCATED));
        let freed = place(tag.get(phys, FREED));
        let (was, had) = (tag.kind(phys), tag.span(phys).size);
        tag.set_kind(phys, Kind::Cached);
        tag.set(phys, FREED, ptr::from_ref(now).expose_provenance() as u64);
        drop(segments);
        if was != Kind::Used {
            tell(
                phys,
                format_args!(
                    "arena {name}: {start:#x} is freed twice: allocated at {allocated}, freed at {freed}, and again at {now}"
                ),
            );
        }
        if had != size {
            tell(
                phys,
                format_args!(
                    "arena {name}: {start:#x} is freed with size {size:#x}, not {had:#x}: allocated at {allocated}, freed at {now}"
                ),
            );
        }
    }
}

/// The place that a tag names.
fn place(word: u64) -> &'static Location<'static> {
    let from = ptr::with_exposed_provenance::<Location<'static>>(word as usize);
    // SAFETY: nobody but `note_allocated` and `note_freed` stores to that word of a tag, which is not memory that users
    // are given, and what they store is a reference that lives for good; otherwise it is zero.
    unsafe { from.as_ref() }.unwrap_or_else(|| Location::caller())
}
