//! Radix trees of pages: what an amap and an object are made of.
//!
//! Nodes are frames of 512 tagged words. A leaf lines up with 2 MiB of what it describes, so that on
//! x86-64 a leaf, a page-table page and a superpage are congruent (D3). Nodes are counted, and a tree can
//! be shared by counting its root once more; whoever then changes something copies the nodes on the path
//! to it, and those alone.
//!
//! Locks: the tree's `path` lock for changes of structure; each leaf's own lock for its slots. Order:
//!        path, leaf from the top, then what the caller takes (page tables, page lists).
//! Sleep: never.
//! Owns:  its nodes, and one reference to each page that a slot names.
//!
//! R1. A node or page is counted once for each slot (or root) that names it.
//! R2. A node with more than one reference does not change, and neither does anything below it; but for slots
//!     that are emptied for all who share them (`take_everywhere`).
//! R3. `live` of a node is the number of its slots that are not empty. An empty node, which a fault can
//!     leave behind that failed, is harmless and goes with the next clearing of its range.
//! R4. An unlinked node is stray before its lock is given up, and retired, so readers under a pin may
//!     still follow it.

mod clear;
mod leaf;
mod node;
mod spares;
mod walk;

use rumpvm_platform::Platform;

pub use leaf::{Leaf, Slot};
pub use node::put_page;
pub use spares::Spares;

use crate::NoMemory;
use crate::phys::{Fresh, Phys};
use crate::sync::{Atomic, Ordering, Pin, RawSpin, class::TreeLocks, spin::RawGuard};
use node::{Link, copy, make, node_word, release, span};

/// log2 of the slots in a node.
pub const NODE_BITS: u32 = 9;

/// Slots in a node.
pub const SLOTS: usize = 1 << NODE_BITS;

/// Most levels: 5-level page tables reach 2^44 pages of user memory, a file 2^45.
const MAX_HEIGHT: u32 = 5;

/// A tree of pages by index.
pub struct Radix<P> {
    root: Atomic<u64, P>,
    path: RawSpin<P>,
    /// Counts what was done under `path`, once before and once after: odd meanwhile.
    changes: Atomic<u32, P>,
    locks: &'static TreeLocks,
}

/// The path lock of a tree, held. Whoever finds `changes` even and as it was has found a path as it is.
struct PathGuard<'t, P: Platform> {
    changes: &'t Atomic<u32, P>,
    _lock: RawGuard<'t, P>,
}

impl<P: Platform> Drop for PathGuard<'_, P> {
    fn drop(&mut self) {
        self.changes.store(self.changes.get().wrapping_add(1), Ordering::Release);
    }
}

impl<P: Platform> Radix<P> {
    /// An empty tree with locks of these classes.
    pub fn new(locks: &'static TreeLocks) -> Self {
        Self { root: Atomic::new(0), path: RawSpin::new(), changes: Atomic::new(0), locks }
    }

    /// Takes the path lock. Whoever sees a link or count that is stored under it sees that `changes` has moved
    /// on: such stores release, and loads acquire.
    #[track_caller]
    fn lock_path(&self) -> PathGuard<'_, P> {
        let lock = self.path.lock(self.locks.path);
        self.changes.set(self.changes.get().wrapping_add(1));
        PathGuard { changes: &self.changes, _lock: lock }
    }

    /// What is at `index`, as of some moment during the call. Takes no lock.
    #[inline]
    pub fn get(&self, phys: &Phys<P>, _pin: &Pin<'_, P>, index: u64) -> Slot {
        match self.find(phys, index) {
            Some((leaf, _)) => {
                let word = phys.words(leaf.frame)[leaf.slot(index)].load(Ordering::Acquire);
                Slot::decode(word)
            }
            None => Slot::Empty,
        }
    }

    /// The leaf that covers `index`, locked, if there is one. It may be shared: look, do not touch.
    pub fn leaf<'p>(
        &self,
        phys: &'p Phys<P>,
        _pin: &'p Pin<'_, P>,
        index: u64,
    ) -> Option<Leaf<'p, P>> {
        loop {
            let (leaf, _) = self.find(phys, index)?;
            let locked = Leaf::lock(phys, self.locks.node, leaf.frame, index);
            if !locked.page.is_stray() {
                return Some(locked);
            }
        }
    }

    /// The leaf that covers `index`, made if need be and copied if it was shared, locked.
    #[inline]
    pub fn leaf_mut<'p>(
        &self,
        phys: &'p Phys<P>,
        _pin: &'p Pin<'_, P>,
        index: u64,
    ) -> Result<Leaf<'p, P>, NoMemory> {
        loop {
            let before = self.changes.load(Ordering::Acquire);
            if let Some((leaf, true)) = self.find(phys, index) {
                let locked = Leaf::lock(phys, self.locks.node, leaf.frame, index);
                // Another thread may have replaced the links that led here by copies, and left the leaf to
                // the other sharer, whose only one it now is. A leaf is copied under its lock, so what is
                // found again now stays.
                let is_same = self.is_unchanged(before) || self.finds_again(phys, index, leaf);
                if is_same && !locked.page.is_stray() {
                    return Ok(locked);
                }
            }
            let path = self.lock_path();
            self.own(phys, index, 1, &mut || phys.alloc_zeroed())?;
            drop(path);
        }
    }

    /// Whether the structure of the tree is as it was when `changes` was loaded as `before`, or a little later.
    #[inline]
    fn is_unchanged(&self, before: u32) -> bool {
        before.is_multiple_of(2) && self.changes.load(Ordering::Acquire) == before
    }

    /// Whether the path to `index` still leads to `leaf`, and is ours alone.
    #[cold]
    fn finds_again(&self, phys: &Phys<P>, index: u64, leaf: Link) -> bool {
        self.find(phys, index).is_some_and(|(now, sole)| sole && now.frame == leaf.frame)
    }

    /// Makes `other`, which is empty and nobody else changes, the same tree once more: both then copy what they
    /// change. The other CPUs' faults that began before must be told (`Map::generation`), because they may have
    /// found the path to be theirs alone.
    pub fn share(&self, phys: &Phys<P>, other: &Self) {
        let _path = self.lock_path();
        let word = self.root.load(Ordering::Acquire);
        if let Some(root) = Link::root(word) {
            phys.page(root.frame).refs.fetch_add(1, Ordering::AcqRel);
        }
        other.root.store(word, Ordering::Release);
    }

    /// Whether every node on the way to `index` has one reference only. For checks.
    pub fn is_sole(&self, phys: &Phys<P>, index: u64) -> bool {
        self.find(phys, index).is_some_and(|(_, sole)| sole)
    }

    /// The leaf over `index`, and whether every node on the way has one reference only.
    #[inline]
    fn find(&self, phys: &Phys<P>, index: u64) -> Option<(Link, bool)> {
        let mut node = Link::root(self.root.load(Ordering::Acquire))?;
        if index >= span(node.height + 1) {
            return None;
        }
        let mut sole = true;
        loop {
            sole &= phys.page(node.frame).refs.load(Ordering::Acquire) == 1;
            if node.height == 1 {
                return Some((node, sole));
            }
            node = node.child(phys.words(node.frame)[node.slot(index)].load(Ordering::Acquire))?;
        }
    }

    /// Makes every node on the way to `index` exist and be ours alone, down to `height`. With the path
    /// lock held.
    fn own(
        &self,
        phys: &Phys<P>,
        index: u64,
        height: u32,
        alloc: &mut dyn FnMut() -> Result<Fresh, NoMemory>,
    ) -> Result<Link, NoMemory> {
        let mut node = self.own_root(phys, index, alloc)?;
        while node.height > height {
            let slot = &phys.words(node.frame)[node.slot(index)];
            let below = match node.child(slot.load(Ordering::Acquire)) {
                Some(child) if phys.page(child.frame).refs.load(Ordering::Acquire) == 1 => child,
                Some(shared) => {
                    let copy = copy(phys, self.locks.node, shared, alloc()?);
                    slot.store(node_word(copy.frame), Ordering::Release);
                    release(phys, self.locks.node, shared);
                    copy
                }
                None => {
                    let made = make(phys, alloc()?, node.height - 1, index);
                    let page = phys.page(node.frame);
                    page.live.set(page.live.get() + 1);
                    slot.store(node_word(made.frame), Ordering::Release);
                    made
                }
            };
            node = below;
        }
        Ok(node)
    }

    fn own_root(
        &self,
        phys: &Phys<P>,
        index: u64,
        alloc: &mut dyn FnMut() -> Result<Fresh, NoMemory>,
    ) -> Result<Link, NoMemory> {
        let mut root = match Link::root(self.root.load(Ordering::Acquire)) {
            Some(root) => root,
            None => {
                let mut height = 1;
                while index >= span(height + 1) {
                    height += 1;
                }
                let root = make(phys, alloc()?, height, index);
                self.root.store(root.as_root(), Ordering::Release);
                root
            }
        };
        while index >= span(root.height + 1) {
            let above = make(phys, alloc()?, root.height + 1, 0);
            phys.page(above.frame).live.set(1);
            phys.words(above.frame)[0].store(node_word(root.frame), Ordering::Release);
            self.root.store(above.as_root(), Ordering::Release);
            root = above;
        }
        if phys.page(root.frame).refs.load(Ordering::Acquire) > 1 {
            let copy = copy(phys, self.locks.node, root, alloc()?);
            self.root.store(copy.as_root(), Ordering::Release);
            release(phys, self.locks.node, root);
            root = copy;
        }
        Ok(root)
    }
}
