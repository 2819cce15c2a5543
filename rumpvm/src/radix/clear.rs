//! Clearing: taking pages out of a tree, and the nodes that this empties.
//!
//! A node that lies inside the range as a whole is unlinked and released, however large it is; only nodes
//! that an end of the range cuts are looked into, and copied first if they are shared.

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::leaf::{Leaf, Slot};
use super::node::{Link, put_slot, release, span};
use super::{Radix, SLOTS, Spares};
use crate::NoMemory;
use crate::phys::Phys;
use crate::stats::Event;
use crate::sync::{Ordering, Pin};

impl<P: Platform> Radix<P> {
    /// Empties `lo..hi` and gives up its references to the pages there; pages without any are freed. No
    /// page of the range may be mapped through this tree any more.
    pub fn clear(&self, phys: &Phys<P>, (lo, hi): (u64, u64), spares: &mut Spares<'_, P>) {
        let mut from = lo;
        while from < hi {
            let path = self.lock_path();
            let Some(target) = self.first_live(phys, from, hi) else { break };
            let (node, index) = target;
            if node.height == 1 && (index < lo || index + SLOTS as u64 > hi) {
                self.clear_part(phys, index, (lo, hi), spares);
            } else {
                let unlinked = self.unlink(phys, node, index, spares);
                drop(path);
                release(phys, self.locks.node, unlinked);
            }
            from = index + span(node.height + 1);
        }
    }

    /// Gives up the empty nodes on the way to `index`: for whoever made them, and put nothing there. Those that
    /// others share stay.
    pub fn trim(&self, phys: &Phys<P>, index: u64) {
        let _path = self.lock_path();
        self.prune(phys, index);
    }

    /// Takes the page at `index` out and returns it with the reference that the slot had. The path must
    /// be this tree's alone.
    pub fn take(&self, phys: &Phys<P>, pin: &Pin<'_, P>, index: u64) -> Option<Frame> {
        match self.take_slot(phys, pin, index) {
            Slot::Page(frame) => Some(frame),
            Slot::Empty | Slot::Guard => None,
        }
    }

    /// As [`Radix::take`], whatever is there.
    pub fn take_slot(&self, phys: &Phys<P>, pin: &Pin<'_, P>, index: u64) -> Slot {
        let Some(mut leaf) = self.leaf(phys, pin, index) else { return Slot::Empty };
        let slot = leaf.get(index);
        if slot != Slot::Empty {
            leaf.set(index, Slot::Empty);
        }
        slot
    }

    /// Takes the pages of `lo..hi` out of their leaves where these are, shared or not, and gives each to `f` with
    /// the reference that its slot had. To all who share a leaf these indices mean the same, and they may not
    /// be filled meanwhile. Allocates nothing.
    pub fn take_everywhere(&self, phys: &Phys<P>, (lo, hi): (u64, u64), mut f: impl FnMut(Frame)) {
        let mut last = None;
        loop {
            let pin = phys.epoch.pin();
            let mut next = None;
            // From the start: a fault may have copied a leaf just before it lost a page.
            self.for_each(phys, &pin, (last.unwrap_or(lo), hi), |index, _| {
                next = Some(index);
                false
            });
            let taken = next.and_then(|index| self.take(phys, &pin, index));
            drop(pin);
            if let Some(frame) = taken {
                f(frame);
            }
            let left = last
                .filter(|last| next.is_none_or(|next| next / SLOTS as u64 != last / SLOTS as u64));
            if let Some(left) = left {
                self.trim(phys, left);
            }
            if next.is_none() {
                return;
            }
            last = next;
        }
    }

    /// Frames that [`Radix::clear`] may need for `lo..hi`: one for each shared node that an end of the
    /// range cuts. Nobody may share the tree meanwhile; others may leave it, which needs less.
    pub fn spares<'p>(
        &self,
        phys: &'p Phys<P>,
        (lo, hi): (u64, u64),
    ) -> Result<Spares<'p, P>, NoMemory> {
        let _pin = phys.epoch.pin();
        let cut = self.shared_on_path(phys, lo) + self.shared_on_path(phys, hi.saturating_sub(1));
        Spares::try_new(phys, cut)
    }

    /// Nodes on the way to `index` that a change there would have to copy.
    fn shared_on_path(&self, phys: &Phys<P>, index: u64) -> usize {
        let mut shared = 0;
        let root = Link::root(self.root.load(Ordering::Acquire));
        let mut next = root.filter(|root| index < span(root.height + 1));
        while let Some(node) = next {
            // Copying a node shares what is below it.
            let copied = shared > 0 || phys.page(node.frame).refs.load(Ordering::Acquire) > 1;
            shared += usize::from(copied);
            if node.height == 1 {
                break;
            }
            next = node.child(phys.words(node.frame)[node.slot(index)].load(Ordering::Acquire));
        }
        shared
    }

    /// The first thing in `from..hi` that is not empty: the highest node that lies inside the range as a
    /// whole, or a leaf that the range cuts; with its first index.
    fn first_live(&self, phys: &Phys<P>, from: u64, hi: u64) -> Option<(Link, u64)> {
        fn search<P: Platform>(
            phys: &Phys<P>,
            node: Link,
            base: u64,
            from: u64,
            hi: u64,
        ) -> Option<(Link, u64)> {
            // A root that is a leaf can end before the range begins.
            if base + span(node.height + 1) <= from {
                return None;
            }
            if node.height == 1 || (base >= from && base + span(node.height + 1) <= hi) {
                return Some((node, base));
            }
            let span = span(node.height);
            for slot in (from.max(base) - base) / span..SLOTS as u64 {
                let first = base + slot * span;
                if first >= hi {
                    break;
                }
                let word = phys.words(node.frame)[slot as usize].load(Ordering::Acquire);
                let child = node.child(word);
                if let Some(found) = child.and_then(|child| search(phys, child, first, from, hi)) {
                    return Some(found);
                }
            }
            None
        }
        let root = Link::root(self.root.load(Ordering::Acquire))?;
        search(phys, root, 0, from, hi)
    }

    /// Empties the part of a leaf that lies in `lo..hi`. With the path lock held.
    fn clear_part(
        &self,
        phys: &Phys<P>,
        base: u64,
        (lo, hi): (u64, u64),
        spares: &mut Spares<'_, P>,
    ) {
        let part = base.max(lo)..(base + SLOTS as u64).min(hi);
        let Some((leaf, sole)) = self.find(phys, base) else { return };
        let words = phys.words(leaf.frame);
        if part.clone().all(|index| words[leaf.slot(index)].load(Ordering::Acquire) == 0) {
            self.prune(phys, base);
            return;
        }
        if !sole && self.own(phys, base, 1, &mut || spares.take()).is_err() {
            phys.broken(format_args!("a shared leaf is cleared without spare frames"));
        }
        let Some((link, _)) = self.find(phys, base) else { return };
        let mut leaf = Leaf::lock(phys, self.locks.node, link.frame, base);
        for index in part {
            let slot = leaf.get(index);
            if slot != Slot::Empty {
                leaf.set(index, Slot::Empty);
                put_slot(phys, slot);
            }
        }
        drop(leaf);
        self.prune(phys, base);
    }

    /// Unlinks `node`, whose first index is `index`. With the path lock held. The reference that its
    /// parent had is the caller's to release.
    fn unlink(&self, phys: &Phys<P>, node: Link, index: u64, spares: &mut Spares<'_, P>) -> Link {
        let root = Link::root(self.root.load(Ordering::Acquire));
        if root.is_some_and(|root| root.height == node.height) {
            self.root.store(0, Ordering::Release);
            return node;
        }
        let Ok(parent) = self.own(phys, index, node.height + 1, &mut || spares.take()) else {
            phys.broken(format_args!("a shared node is unlinked without spare frames"));
        };
        let slot = &phys.words(parent.frame)[parent.slot(index)];
        let unlinked = parent.child(slot.load(Ordering::Acquire)).unwrap_or(node);
        slot.store(0, Ordering::Release);
        let page = phys.page(parent.frame);
        page.live.set(page.live.get() - 1);
        self.prune(phys, index);
        unlinked
    }

    /// Unlinks and retires the empty nodes on the way to `index`, from the bottom up, unless the way is
    /// shared. With the path lock held.
    fn prune(&self, phys: &Phys<P>, index: u64) {
        loop {
            let Some(root) = Link::root(self.root.load(Ordering::Acquire)) else { return };
            if index >= span(root.height + 1) {
                return;
            }
            let (mut parent, mut node) = (None, root);
            let is_shared = |node: Link| phys.page(node.frame).refs.load(Ordering::Acquire) != 1;
            while let Some(child) =
                node.child(phys.words(node.frame)[node.slot(index)].load(Ordering::Acquire))
            {
                if is_shared(node) {
                    return;
                }
                (parent, node) = (Some(node), child);
            }
            let page = phys.page(node.frame);
            let lock = page.lock.lock(self.locks.node);
            if page.live.get() != 0 || is_shared(node) {
                return;
            }
            page.set_stray();
            drop(lock);
            match parent {
                Some(parent) => {
                    phys.words(parent.frame)[parent.slot(index)].store(0, Ordering::Release);
                    let above = phys.page(parent.frame);
                    above.live.set(above.live.get() - 1);
                }
                None => self.root.store(0, Ordering::Release),
            }
            page.refs.set(0);
            phys.retire(node.frame);
            phys.counters.count(Event::NodeFreed);
        }
    }
}
