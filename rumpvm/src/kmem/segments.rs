//! Segments: an arena's ranges, each with a boundary tag (`tag`), its free lists, and the table of what is allocated.
//!
//! Vmem, as Bonwick and Adams describe it (2001). A tag stands for a range; tags are linked by address within a span, so a
//! segment that comes back finds its neighbours at once. What is free is also on the list of its size's power of two;
//! what is allocated is also in a hash table, by its start.
//!
//! Flow:  span -> free segment -> carved -> used; and back, merged.
//! Locks: the arena's. Tags and table are in frames, whose locks come later.
//! Owns:  the frames of tags and table. The ranges themselves are never touched: they may be anything.
//!
//! A1. The segments of a span follow each other without a gap or an overlap, behind a tag for the span itself.
//! A2. No two free neighbours of one span are segments of their own.
//! A3. A free segment is on the list of its size, and what is not free is in the table; `filled` says which lists have
//!     one.

use rumpvm_arch::{Frame, PhysAddr};
use rumpvm_platform::Platform;

use super::Fit;
use super::tag::{
    ALLOCATED, FREED, Kind, LIST_NEXT, LIST_PREV, NEXT, NONE, PREV, SIZE, START, Span, TAG, Tag,
};
use crate::NoMemory;
use crate::phys::{PageKind, Phys};
use crate::zone::{Plan, Slabs};

/// Buckets of the table as long as it is small.
const FEW: usize = 32;
/// Buckets in a frame.
const IN_FRAME: usize = 512;

/// All tags of an arena.
pub(super) struct Segments {
    tags: Slabs,
    quantum: u64,
    fit: Fit,
    /// First of all segments.
    first: Tag,
    lists: [Tag; 64],
    filled: u64,
    few: [Tag; FEW],
    /// The table when there are many: 2^order frames from this on.
    many: Option<(Frame, u32)>,
    /// Segments in the table.
    allocated: u64,
    /// Bytes, or whatever it is, of all spans, and of free segments.
    total: u64,
    free: u64,
}

impl Segments {
    pub(super) fn new(quantum: u64, fit: Fit) -> Self {
        Self {
            tags: Slabs::new(Plan::new(TAG as u32, 0, u16::MAX, 0)),
            quantum,
            fit,
            first: NONE,
            lists: [NONE; 64],
            filled: 0,
            few: [NONE; FEW],
            many: None,
            allocated: 0,
            total: 0,
            free: 0,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Segments that are allocated, those in caches included.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Frames of tags and table.
    pub(super) fn frames(&self) -> u64 {
        self.tags.frames() + self.many.map_or(0, |(_, order)| 1 << order)
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
        self.list(phys, segment);
    }

    /// Allocates `size` at a multiple of `align`. Two tags were reserved. None: there is no such segment.
    pub(super) fn take<P: Platform>(
        &mut self,
        phys: &Phys<P>,
        size: u64,
        align: u64,
    ) -> Option<Tag> {
        let (segment, at) = self.find(phys, size, align)?;
        self.unlist(phys, segment);
        let Span { start, size: had } = segment.span(phys);
        if at > start {
            let before = self.make(phys, Span { start, size: at - start }, Kind::Free);
            self.insert_behind(phys, segment.tag(phys, PREV), before);
            self.list(phys, before);
        }
        let behind = start + had - (at + size);
        if behind > 0 {
            let rest = self.make(phys, Span { start: at + size, size: behind }, Kind::Free);
            self.insert_behind(phys, segment, rest);
            self.list(phys, rest);
        }
        segment.set(phys, START, at);
        segment.set(phys, SIZE, size);
        segment.set_kind(phys, Kind::Used);
        self.enter(phys, segment);
        Some(segment)
    }

    /// The allocated segment that begins at `start`.
    pub(super) fn lookup<P: Platform>(&self, phys: &Phys<P>, start: u64) -> Option<Tag> {
        let mut at = self.bucket(phys, self.hash(start));
        while at != NONE {
            if at.get(phys, START) == start {
                return Some(at);
            }
            at = Tag(at.get(phys, LIST_NEXT));
        }
        None
    }

    /// Frees an allocated segment. If that leaves an imported span wholly free, and at least `spare` elsewhere, the span
    /// is taken out and returned.
    pub(super) fn put<P: Platform>(
        &mut self,
        phys: &Phys<P>,
        segment: Tag,
        spare: u64,
    ) -> Option<Span> {
        self.leave(phys, segment);
        segment.set_kind(phys, Kind::Free);
        let prev = segment.tag(phys, PREV);
        let mut whole = segment;
        if prev != NONE && prev.kind(phys) == Kind::Free {
            self.unlist(phys, prev);
            self.merge(phys, prev, segment);
            whole = prev;
        }
        let next = whole.tag(phys, NEXT);
        if next != NONE && next.kind(phys) == Kind::Free {
            self.unlist(phys, next);
            self.merge(phys, whole, next);
        }
        self.list(phys, whole);
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
            self.unlist(phys, next);
            self.remove(phys, next);
        }
        segment.set(phys, SIZE, size);
        let rest = Span { start: start + size, size: had + room - size };
        if rest.size > 0 {
            let rest = self.make(phys, rest, Kind::Free);
            self.insert_behind(phys, segment, rest);
            self.list(phys, rest);
        }
        true
    }

    /// Takes out some imported span that is wholly free.
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
        if self.allocated == 0
            && let Some((first, order)) = self.many.take()
        {
            self.few = [NONE; FEW];
            phys.free_block(phys.join_run(first, order));
        }
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
        if (free, total, allocated) != (self.free, self.total, self.allocated) || listed != free {
            return Err("A3: what is free and what is allocated was counted wrongly");
        }
        self.tags.check(phys)
    }

    /// A free segment with room for `size` at a multiple of `align`, and where in it.
    fn find<P: Platform>(&self, phys: &Phys<P>, size: u64, align: u64) -> Option<(Tag, u64)> {
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

    /// Takes the span out that consists of the free segment `whole`, if one does, and it may go.
    fn take_span<P: Platform>(&mut self, phys: &Phys<P>, whole: Tag, spare: u64) -> Option<Span> {
        let marker = whole.tag(phys, PREV);
        let span = whole.span(phys);
        let is_all = marker.kind(phys) == Kind::Imported && marker.get(phys, SIZE) == span.size;
        if !is_all || self.free - span.size < spare {
            return None;
        }
        self.unlist(phys, whole);
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

    fn list<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
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

    fn unlist<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
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

    fn buckets(&self) -> usize {
        self.many.map_or(FEW, |(_, order)| IN_FRAME << order)
    }

    fn hash(&self, start: u64) -> usize {
        let mixed = (start / self.quantum).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.buckets() - 1)
    }

    fn bucket<P: Platform>(&self, phys: &Phys<P>, at: usize) -> Tag {
        match self.many {
            None => self.few[at],
            Some((first, _)) => {
                let frame = Frame(first.0 + (at / IN_FRAME) as u32);
                Tag(phys.words(frame)[at % IN_FRAME].get())
            }
        }
    }

    fn set_bucket<P: Platform>(&mut self, phys: &Phys<P>, at: usize, tag: Tag) {
        match self.many {
            None => self.few[at] = tag,
            Some((first, _)) => {
                let frame = Frame(first.0 + (at / IN_FRAME) as u32);
                phys.words(frame)[at % IN_FRAME].set(tag.0);
            }
        }
    }

    fn enter<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
        self.allocated += 1;
        self.chain(phys, tag);
        // Whoever is allocated is chained again.
        if self.allocated > 2 * self.buckets() as u64 {
            self.grow(phys);
        }
    }

    fn chain<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
        let at = self.hash(tag.get(phys, START));
        tag.set(phys, LIST_NEXT, self.bucket(phys, at).0);
        self.set_bucket(phys, at, tag);
    }

    fn leave<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
        let bucket = self.hash(tag.get(phys, START));
        let next = Tag(tag.get(phys, LIST_NEXT));
        self.allocated -= 1;
        let mut at = self.bucket(phys, bucket);
        if at == tag {
            self.set_bucket(phys, bucket, next);
            return;
        }
        while Tag(at.get(phys, LIST_NEXT)) != tag {
            at = Tag(at.get(phys, LIST_NEXT));
        }
        at.set(phys, LIST_NEXT, next.0);
    }

    /// Makes the table larger, if there is memory; chains only become longer if there is not.
    fn grow<P: Platform>(&mut self, phys: &Phys<P>) {
        let order = self.many.map_or(0, |(_, order)| order + 3);
        let Ok(run) = phys.alloc_block_at_hand(order) else { return };
        let first = run.first();
        for fresh in phys.split_run(run) {
            phys.zero(&fresh);
            phys.give(fresh, PageKind::Wired);
        }
        let old = self.many.replace((first, order));
        self.few = [NONE; FEW];
        let mut at = self.first;
        while at != NONE {
            if matches!(at.kind(phys), Kind::Used | Kind::Cached) {
                self.chain(phys, at);
            }
            at = at.tag(phys, NEXT);
        }
        if let Some((first, order)) = old {
            phys.free_block(phys.join_run(first, order));
        }
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
