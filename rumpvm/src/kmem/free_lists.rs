//! Free lists: an arena's free segments, by their size's power of two.
//!
//! Locks: the arena's.
//! Owns:  nothing: the lists run through the segments' tags.

use rumpvm_platform::Platform;

use super::Fit;
use super::tag::{Kind, LIST_NEXT, LIST_PREV, NONE, SIZE, Span, Tag};
use crate::phys::Phys;

/// Free segments.
pub(super) struct FreeLists {
    quantum: u64,
    fit: Fit,
    lists: [Tag; 64],
    /// Which lists have one.
    filled: u64,
    /// Bytes, or whatever it is, of all.
    free: u64,
}

impl FreeLists {
    /// Empty lists of an arena with that quantum.
    pub(super) fn new(quantum: u64, fit: Fit) -> Self {
        Self { quantum, fit, lists: [NONE; 64], filled: 0, free: 0 }
    }

    /// What all of them have.
    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// A segment with room for `size` at a multiple of `align`, and where in it.
    pub(super) fn find<P: Platform>(
        &self,
        phys: &Phys<P>,
        size: u64,
        align: u64,
    ) -> Option<(Tag, u64)> {
        // From this list on everything fits.
        let slack = align.saturating_sub(self.quantum);
        let enough = size.checked_add(slack)?.checked_next_power_of_two()?;
        let large = Some(self.filled & (!0 << number_of(enough))).filter(|lists| *lists != 0);
        let large = large.map(|lists| self.lists[lists.trailing_zeros() as usize]);
        if self.fit == Fit::Instant
            && let Some(segment) = large
        {
            return Some((segment, fits(segment.span(phys), size, align)?));
        }
        let mut lists = self.filled & (!0 << number_of(size));
        while lists != 0 {
            let mut best = None;
            let mut at = self.lists[lists.trailing_zeros() as usize];
            while at != NONE {
                let span = at.span(phys);
                if let Some(place) = fits(span, size, align)
                    && best.is_none_or(|(_, had, _)| span.size < had)
                {
                    best = Some((at, span.size, place));
                    if self.fit == Fit::Instant {
                        break;
                    }
                }
                at = Tag(at.get(phys, LIST_NEXT));
            }
            if let Some((segment, _, place)) = best {
                return Some((segment, place));
            }
            lists &= lists - 1;
        }
        None
    }

    /// Puts `tag` in.
    pub(super) fn list<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
        let size = tag.get(phys, SIZE);
        let number = number_of(size);
        let head = core::mem::replace(&mut self.lists[number], tag);
        self.filled |= 1 << number;
        self.free += size;
        tag.set(phys, LIST_PREV, 0);
        tag.set(phys, LIST_NEXT, head.0);
        if head != NONE {
            head.set(phys, LIST_PREV, tag.0);
        }
    }

    /// Takes `tag` out.
    pub(super) fn unlist<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
        let size = tag.get(phys, SIZE);
        let number = number_of(size);
        let (prev, next) = (Tag(tag.get(phys, LIST_PREV)), Tag(tag.get(phys, LIST_NEXT)));
        self.free -= size;
        if next != NONE {
            next.set(phys, LIST_PREV, prev.0);
        }
        if prev != NONE {
            prev.set(phys, LIST_NEXT, next.0);
            return;
        }
        self.lists[number] = next;
        if next == NONE {
            self.filled &= !(1 << number);
        }
    }

    /// What is wrong with the lists, if anything.
    pub(super) fn check<P: Platform>(&self, phys: &Phys<P>) -> Result<(), &'static str> {
        let mut listed = 0;
        for (number, head) in self.lists.iter().enumerate() {
            if (self.filled >> number & 1 == 1) != (*head != NONE) {
                return Err("A3: the map of the lists is wrong");
            }
            let mut at = *head;
            while at != NONE {
                if number_of(at.get(phys, SIZE)) != number || at.kind(phys) != Kind::Free {
                    return Err("A3: a segment is on the wrong list");
                }
                listed += at.get(phys, SIZE);
                at = Tag(at.get(phys, LIST_NEXT));
            }
        }
        if listed == self.free { Ok(()) } else { Err("A3: what is free was counted wrongly") }
    }
}

/// The list of segments of `size`.
fn number_of(size: u64) -> usize {
    size.max(1).ilog2() as usize
}

/// Where in `span` there is room for `size` at a multiple of `align`.
fn fits(span: Span, size: u64, align: u64) -> Option<u64> {
    let at = span.start.checked_next_multiple_of(align)?;
    let end = at.checked_add(size)?;
    (end <= span.start + span.size).then_some(at)
}
