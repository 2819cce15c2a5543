//! The table of what an arena has allocated: a hash table of tags, by start.
//!
//! Locks: the arena's.
//! Owns:  its frames, when it is large.

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::tag::{LIST_NEXT, NONE, START, Tag};
use crate::phys::{PageKind, Phys};

/// Buckets of the table as long as it is small.
const FEW: usize = 32;
/// Buckets in a frame.
const IN_FRAME: usize = 512;

/// Where the heads of the chains are.
#[expect(clippy::large_enum_variant, reason = "so that a small arena needs no frame for it")]
enum Buckets {
    Few([Tag; FEW]),
    /// In 2^order frames from this on.
    Many(Frame, u32),
}

/// Allocated segments, chained by their tags.
pub(super) struct Table {
    quantum: u64,
    buckets: Buckets,
    len: u64,
}

impl Buckets {
    fn count(&self) -> usize {
        match self {
            Self::Few(_) => FEW,
            Self::Many(_, order) => IN_FRAME << order,
        }
    }

    fn get<P: Platform>(&self, phys: &Phys<P>, at: usize) -> Tag {
        match self {
            Self::Few(few) => few[at],
            Self::Many(first, _) => {
                let frame = Frame(first.0 + (at / IN_FRAME) as u32);
                Tag(phys.words(frame)[at % IN_FRAME].get())
            }
        }
    }

    fn set<P: Platform>(&mut self, phys: &Phys<P>, at: usize, tag: Tag) {
        match self {
            Self::Few(few) => few[at] = tag,
            Self::Many(first, _) => {
                let frame = Frame(first.0 + (at / IN_FRAME) as u32);
                phys.words(frame)[at % IN_FRAME].set(tag.0);
            }
        }
    }

    fn free<P: Platform>(self, phys: &Phys<P>) {
        if let Self::Many(first, order) = self {
            phys.free_block(phys.join_run(first, order));
        }
    }
}

impl Table {
    /// Of an arena with that quantum.
    pub(super) fn new(quantum: u64) -> Self {
        Self { quantum, buckets: Buckets::Few([NONE; FEW]), len: 0 }
    }

    /// Segments in it.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Frames that it has.
    pub(super) fn frames(&self) -> u64 {
        match self.buckets {
            Buckets::Few(_) => 0,
            Buckets::Many(_, order) => 1 << order,
        }
    }

    /// The segment that begins at `start`.
    pub(super) fn lookup<P: Platform>(&self, phys: &Phys<P>, start: u64) -> Option<Tag> {
        let mut at = self.buckets.get(phys, self.hash(start));
        while at != NONE {
            if at.get(phys, START) == start {
                return Some(at);
            }
            at = Tag(at.get(phys, LIST_NEXT));
        }
        None
    }

    /// Puts `tag` in.
    pub(super) fn enter<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
        self.len += 1;
        if self.len > 2 * self.buckets.count() as u64 {
            self.grow(phys);
        }
        self.chain(phys, tag);
    }

    /// Takes `tag` out.
    pub(super) fn leave<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
        let bucket = self.hash(tag.get(phys, START));
        let next = Tag(tag.get(phys, LIST_NEXT));
        self.len -= 1;
        let mut at = self.buckets.get(phys, bucket);
        if at == tag {
            self.buckets.set(phys, bucket, next);
            return;
        }
        while Tag(at.get(phys, LIST_NEXT)) != tag {
            at = Tag(at.get(phys, LIST_NEXT));
        }
        at.set(phys, LIST_NEXT, next.0);
    }

    /// Gives its frames back, if nothing is in it.
    pub(super) fn trim<P: Platform>(&mut self, phys: &Phys<P>) {
        if self.len == 0 {
            core::mem::replace(&mut self.buckets, Buckets::Few([NONE; FEW])).free(phys);
        }
    }

    fn hash(&self, start: u64) -> usize {
        let mixed = (start / self.quantum).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.buckets.count() - 1)
    }

    fn chain<P: Platform>(&mut self, phys: &Phys<P>, tag: Tag) {
        let at = self.hash(tag.get(phys, START));
        tag.set(phys, LIST_NEXT, self.buckets.get(phys, at).0);
        self.buckets.set(phys, at, tag);
    }

    /// Makes the table larger, if there is memory at hand; chains only become longer if there is not.
    fn grow<P: Platform>(&mut self, phys: &Phys<P>) {
        let order = match self.buckets {
            Buckets::Few(_) => 0,
            Buckets::Many(_, order) => order + 3,
        };
        let Ok(run) = phys.alloc_block_at_hand(order) else { return };
        let first = run.first();
        for fresh in phys.split_run(run) {
            phys.zero(&fresh);
            phys.give(fresh, PageKind::Wired);
        }
        let old = core::mem::replace(&mut self.buckets, Buckets::Many(first, order));
        for bucket in 0..old.count() {
            let mut at = old.get(phys, bucket);
            while at != NONE {
                let next = Tag(at.get(phys, LIST_NEXT));
                self.chain(phys, at);
                at = next;
            }
        }
        old.free(phys);
    }
}
