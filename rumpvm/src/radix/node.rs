//! Nodes: links to them, and how they are made, copied and released.

use rumpvm_arch::Frame;
use rumpvm_platform::{LockClass, Platform};

use super::leaf::Slot;
use super::{NODE_BITS, SLOTS};
use crate::phys::{Fresh, PageKind, Phys};
use crate::stats::Event;
use crate::sync::Ordering;

pub(super) const TAG_BITS: u32 = 12;

pub(super) const TAG_NODE: u64 = 2;

/// A link to a node: its frame and its height, 1 for a leaf.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) frame: Frame,
    pub(super) height: u32,
}

impl Link {
    pub(super) fn root(word: u64) -> Option<Self> {
        let frame = Frame((word >> TAG_BITS) as u32);
        (word != 0).then_some(Self { frame, height: word as u32 & 0xf })
    }

    pub(super) fn as_root(self) -> u64 {
        u64::from(self.frame.0) << TAG_BITS | u64::from(self.height)
    }

    /// The child that `word`, a slot of this node, names.
    pub(super) fn child(self, word: u64) -> Option<Self> {
        let frame = Frame((word >> TAG_BITS) as u32);
        (word & TAG_NODE != 0).then_some(Self { frame, height: self.height - 1 })
    }

    /// Which slot of this node leads to `index`.
    pub(super) fn slot(self, index: u64) -> usize {
        (index >> (NODE_BITS * (self.height - 1))) as usize & (SLOTS - 1)
    }
}

/// Indices below one slot of a node at `height`.
pub(super) const fn span(height: u32) -> u64 {
    1 << (NODE_BITS * (height - 1))
}

pub(super) fn node_word(frame: Frame) -> u64 {
    u64::from(frame.0) << TAG_BITS | TAG_NODE
}

/// Turns a zeroed frame into an empty node on the way to `index`, with one reference.
pub(super) fn make<P: Platform>(phys: &Phys<P>, zeroed: Fresh, height: u32, index: u64) -> Link {
    let page = phys.page(zeroed.frame());
    page.refs.set(1);
    page.live.set(0);
    page.index.set(index & !(span(height + 1) - 1));
    let frame = phys.give(zeroed, PageKind::Node);
    phys.counters.count(Event::NodeMade);
    Link { frame, height }
}

/// A copy of a shared node; everything that it names gets one more reference (R1).
pub(super) fn copy<P: Platform>(
    phys: &Phys<P>,
    class: &'static LockClass,
    shared: Link,
    zeroed: Fresh,
) -> Link {
    let from = phys.page(shared.frame);
    let copy = make(phys, zeroed, shared.height, from.index.get());
    let (old, new) = (phys.words(shared.frame), phys.words(copy.frame));
    let lock = from.lock.lock(class);
    let live = from.live.get();
    let mut left = live;
    for (old, new) in old.iter().zip(new) {
        if left == 0 {
            break;
        }
        let word = old.load(Ordering::Acquire);
        if word != 0 {
            // Nodes and pages are counted alike; a guard is nothing to count.
            if let Slot::Page(named) = Slot::decode(word) {
                phys.page(named).refs.fetch_add(1, Ordering::Relaxed);
            }
            new.store(word, Ordering::Relaxed);
            left -= 1;
        }
    }
    drop(lock);
    phys.page(copy.frame).live.set(live);
    phys.counters.count(Event::NodeUnshared);
    copy
}

/// Gives up one reference to a node; the last one takes the node apart.
pub(super) fn release<P: Platform>(phys: &Phys<P>, class: &'static LockClass, node: Link) {
    let page = phys.page(node.frame);
    if page.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    let words = phys.words(node.frame);
    let lock = page.lock.lock(class);
    page.set_stray();
    let mut left = page.live.get();
    drop(lock);
    // Stray under its lock: nobody changes it any more.
    for word in words {
        if left == 0 {
            break;
        }
        let word = word.load(Ordering::Acquire);
        match (word, node.child(word)) {
            (0, _) => continue,
            (_, Some(child)) => release(phys, class, child),
            (_, None) => put_slot(phys, Slot::decode(word)),
        }
        left -= 1;
    }
    phys.retire(node.frame);
    phys.counters.count(Event::NodeFreed);
}

/// Gives up what a slot has named.
pub(super) fn put_slot<P: Platform>(phys: &Phys<P>, slot: Slot) {
    if let Slot::Page(frame) = slot {
        put_page(phys, frame);
    }
}

/// Gives up one reference to a page; the last one frees it.
pub fn put_page<P: Platform>(phys: &Phys<P>, frame: Frame) {
    if phys.page(frame).refs.fetch_sub(1, Ordering::AcqRel) == 1 {
        phys.free(phys.take(frame));
    }
}
