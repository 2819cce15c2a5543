//! Segments: an arena's ranges, each with a boundary tag (`tag`).
//!
//! Vmem, as Bonwick and Adams describe it (2001). A tag stands for a range; tags are linked by address within a span, so a
//! segment that comes back finds its neighbours at once. What is free is also on a list of its size (`free_lists`);
//! what is allocated is also in a hash table, by its start (`table`).
//!
//! Flow:  span -> free segment -> carved -> used; and back, merged.
//! Locks: the arena's. Tags and table are in frames, whose locks come later.
//! Owns:  the frames of tags and table. The ranges themselves are never touched: they may be anything.
//!
//! A1. The segments of a span follow each other without a gap or an overlap, behind a tag for the span itself.
//! A2. No two free neighbours of one span are segments of their own.
//! A3. A free segment is on the list of its size, and what is not free is in the table; `filled` says which lists have
//!     one.

use rumpvm_arch::PhysAddr;
use rumpvm_platform::Platform;

use super::Fit;
use super::free_lists::FreeLists;
use super::table::Table;
use super::tag::{
    ALLOCATED, FREED, Kind, LIST_NEXT, LIST_PREV, NEXT, NONE, PREV, SIZE, START, Span, TAG, Tag,
};
use crate::NoMemory;
use crate::phys::Phys;
use crate::zone::{Plan, Slabs};

/// All tags of an arena.
pub(super) struct Segments {
    tags: Slabs,
    /// First of all segments.
    first: Tag,
    lists: FreeLists,
    table: Table,
    /// Bytes, or whatever it is, of all spans.
    total: u64,
}

impl Segments {
    pub(super) fn new(quantum: u64, fit: Fit) -> Self {
        Self {
            tags: Slabs::new(Plan::new(TAG as u32, 0, u16::MAX, 0)),
            first: NONE,
            lists: FreeLists::new(quantum, fit),
            table: Table::new(quantum),
            total: 0,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn free(&self) -> u64 {
        self.lists.free()
    }

    /// Segments that are allocated, those in caches included.
    pub(super) fn allocated(&self) -> u64 {
        self.table.len()
    }

    /// Frames of tags and table.
    pub(super) fn frames(&self) -> u64 {
        self.tags.frames() + self.table.frames()
    }

    /// Makes sure that so many more tags can be made.
    #[track_caller]
    pub(super) fn reserve<P: Platform>(
        &mut self,
        phys: &Phys<P>,
        tags: u64,
    ) -> Result<(), NoMemory> {
        while self.tags.items() - self.tags.out() < tags {
            let slab = self.tags.plan().make(phys)?;
            self.tags.add(phys, slab);
        }
        Ok(())
    }

    /// Adds a span, wholly free. Two tags were reserved.
    pub(super) fn add<P: Platform>(&mut self, phys: &Phys<P>, span: Span, kind: Kind) {
        let marker = self.make(phys, span, kind);
        let segment = self.make(phys, span, Kind::Free);
        self.insert_behind(phys, NONE, marker);
        self.insert_behind(phys, marker, segment);
        self.total += span.size;
        self.lists.list(phys, segment);
    }

    /// Allocates `size` at a multiple of `align`. Two tags were reserved. None: there is no such segment.
    pub(super) fn take<P: Platform>(
        &mut self,
        phys: &Phys<P>,
        size: u64,
        align: u64,
    ) -> Option<Tag> {
        let (segment, at) = self.lists.find(phys, size, align)?;
        self.lists.unlist(phys, segment);
        let Span { start, size: had } = segment.span(phys);
        if at > start {
            let before = self.make(phys, Span { start, size: at - start }, Kind::Free);
            self.insert_behind(phys, segment.tag(phys, PREV), before);
            self.lists.list(phys, before);
        }
        let behind = start + had - (at + size);
        if behind > 0 {
            let rest = self.make(phys, Span { start: at + size, size: behind }, Kind::Free);
            self.insert_behind(phys, segment, rest);
            self.lists.list(phys, rest);
        }
        segment.set(phys, START, at);
        segment.set(phys, SIZE, size);
        segment.set_kind(phys, Kind::Used);
        self.table.enter(phys, segment);
        Some(segment)
    }

    /// The allocated segment that begins at `start`.
    pub(super) fn lookup<P: Platform>(&self, phys: &Phys<P>, start: u64) -> Option<Tag> {
        self.table.lookup(phys, start)
    }

    /// Frees an allocated segment. If that leaves an imported span wholly free, and at least `spare` elsewhere, the span
    /// is taken out and returned.
    #[inline(never)]
    pub(super) fn put<P: Platform>(
        &mut self,
        phys: &Phys<P>,
        segment: Tag,
        spare: u64,
    ) -> Option<Span> {
        self.table.leave(phys, segment);
        segment.set_kind(phys, Kind::Free);
        let prev = segment.tag(phys, PREV);
        let mut whole = segment;
        if prev != NONE && prev.kind(phys) == Kind::Free {
            self.lists.unlist(phys, prev);
            self.merge(phys, prev, segment);
            whole = prev;
        }
        let next = whole.tag(phys, NEXT);
        if next != NONE && next.kind(phys) == Kind::Free {
            self.lists.unlist(phys, next);
            self.merge(phys, whole, next);
        }
        self.lists.list(phys, whole);
        self.take_span(phys, whole, spare)
    }

    /// Changes the size of an allocated segment in its place, if there is room. One tag was reserved.
    pub(super) fn resize<P: Platform>(&mut self, phys: &Phys<P>, segment: Tag, size: u64) -> bool {
        let Span { start, size: had } = segment.span(phys);
        let next = Some(segment.tag(phys, NEXT));
        let next = next.filter(|next| *next != NONE && next.kind(phys) == Kind::Free);
        let room = next.map_or(0, |next| next.get(phys, SIZE));
        if size > had + room {
            return false;
        }
        if let Some(next) = next {
            self.lists.unlist(phys, next);
            self.remove(phys, next);
        }
        segment.set(phys, SIZE, size);
        let rest = Span { start: start + size, size: had + room - size };
        if rest.size > 0 {
            let rest = self.make(phys, rest, Kind::Free);
            self.insert_behind(phys, segment, rest);
            self.lists.list(phys, rest);
        }
        true
    }

    /// Takes out some imported span that is wholly free.
    #[inline(never)]
    pub(super) fn take_free_span<P: Platform>(&mut self, phys: &Phys<P>) -> Option<Span> {
        let mut at = self.first;
        while at != NONE {
            if at.kind(phys) == Kind::Free
                && let Some(span) = self.take_span(phys, at, 0)
            {
                return Some(span);
            }
            at = at.tag(phys, NEXT);
        }
        None
    }

    /// Gives back frames of tags, and the table when it is empty.
    pub(super) fn trim<P: Platform>(&mut self, phys: &Phys<P>) {
        while let Some(slab) = self.tags.take_empty(phys, 0) {
            slab.free(phys);
        }
        self.table.trim(phys);
    }

    /// Gives up all tags. Nothing is allocated.
    pub(super) fn forget<P: Platform>(&mut self, phys: &Phys<P>) {
        while self.first != NONE {
            self.remove(phys, self.first);
        }
        self.trim(phys);
    }

    /// Calls `with` for each segment, spans included, in order within each span.
    pub(super) fn for_each<P: Platform>(&self, phys: &Phys<P>, mut with: impl FnMut(Span, Kind)) {
        let mut at = self.first;
        while at != NONE {
            with(at.span(phys), at.kind(phys));
            at = at.tag(phys, NEXT);
        }
    }

    /// What is wrong, if anything.
    pub(super) fn check<P: Platform>(&self, phys: &Phys<P>) -> Result<(), &'static str> {
        let (mut free, mut total, mut allocated) = (0, 0, 0);
        let (mut at, mut prev) = (self.first, NONE);
        let (mut expected, mut end) = (0, 0);
        let mut after_free = false;
        while at != NONE {
            let Span { start, size } = at.span(phys);
            if at.tag(phys, PREV) != prev {
                return Err("A1: a segment does not know the one before it");
            }
            match at.kind(phys) {
                Kind::Imported | Kind::Added => {
                    if expected != end {
                        return Err("A1: a span has no segments up to its end");
                    }
                    (expected, end) = (start, start + size);
                    total += size;
                    after_free = false;
                }
                kind => {
                    if start != expected || start + size > end || size == 0 {
                        return Err("A1: a segment does not follow the one before it");
                    }
                    expected = start + size;
                    if kind == Kind::Free && after_free {
                        return Err("A2: two free neighbours are not one");
                    }
                    after_free = kind == Kind::Free;
                    if after_free {
                        free += size;
                    } else {
                        allocated += 1;
                        if self.lookup(phys, start) != Some(at) {
                            return Err("A3: an allocated segment is not in the table");
                        }
                    }
                }
            }
            (prev, at) = (at, at.tag(phys, NEXT));
        }
        if expected != end {
            return Err("A1: the last span has no segments up to its end");
        }
        if (free, total, allocated) != (self.lists.free(), self.total, self.table.len()) {
            return Err("A3: what is free and what is allocated was counted wrongly");
        }
        self.lists.check(phys)?;
        self.tags.check(phys)
    }

    /// Takes the span out that consists of the free segment `whole`, if one does, and it may go.
    fn take_span<P: Platform>(&mut self, phys: &Phys<P>, whole: Tag, spare: u64) -> Option<Span> {
        let marker = whole.tag(phys, PREV);
        let span = whole.span(phys);
        let is_all = marker.kind(phys) == Kind::Imported && marker.get(phys, SIZE) == span.size;
        if !is_all || self.lists.free() - span.size < spare {
            return None;
        }
        self.lists.unlist(phys, whole);
        self.remove(phys, whole);
        self.remove(phys, marker);
        self.total -= span.size;
        Some(span)
    }

    fn make<P: Platform>(&mut self, phys: &Phys<P>, span: Span, kind: Kind) -> Tag {
        let Some(at) = self.tags.take(phys) else {
            crate::zone::tell(phys, format_args!("a tag of an arena was not reserved"))
        };
        let tag = Tag(at.0);
        tag.set(phys, START, span.start);
        tag.set(phys, SIZE, span.size);
        tag.set(phys, PREV, kind as u64);
        for field in [NEXT, LIST_PREV, LIST_NEXT, ALLOCATED, FREED] {
            tag.set(phys, field, 0);
        }
        tag
    }

    /// Puts `tag` behind `prev`, or first.
    fn insert_behind<P: Platform>(&mut self, phys: &Phys<P>, prev: Tag, tag: Tag) {
        let next = if prev == NONE { self.first } else { prev.tag(phys, NEXT) };
        tag.set_prev(phys, prev);
        tag.set(phys, NEXT, next.0);
        if next != NONE {
            next.set_prev(phys, tag);
        }
        if prev == NONE {
            self.first = tag;
        } else {
            prev.set(phys, NEXT, tag.0);
        }
    }

    /// Takes `tag` out of the segments, and gives it back.
    fn remove<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
        let (prev, next) = (tag.tag(phys, PREV), tag.tag(phys, NEXT));
        if prev == NONE {
            self.first = next;
        } else {
            prev.set(phys, NEXT, next.0);
        }
        if next != NONE {
            next.set_prev(phys, prev);
        }
        self.tags.put(phys, PhysAddr(tag.0));
    }

    /// Makes `tag` and `next`, both on no list, one.
    fn merge<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag, next: Tag) {
        tag.set(phys, SIZE, tag.get(phys, SIZE) + next.get(phys, SIZE));
        self.remove(phys, next);
    }
}
