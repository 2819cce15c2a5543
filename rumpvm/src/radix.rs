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
//! R2. A node with more than one reference does not change, and neither does anything below it.
//! R3. `live` of a node is the number of its slots that are not empty. An empty node, which a fault can
//!     leave behind that failed, is harmless and goes with the next clearing of its range.
//! R4. An unlinked node is stray before its lock is given up, and retired, so readers under a pin may
//!     still follow it.

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use crate::NoMemory;
use crate::phys::{Fresh, Page, PageKind, Phys};
use crate::stats::Event;
use crate::sync::{Atomic, Ordering, Pin, RawSpin, spin::RawGuard};

/// log2 of the slots in a node.
pub const NODE_BITS: u32 = 9;
/// Slots in a node.
pub const SLOTS: usize = 1 << NODE_BITS;
/// Most levels: 5-level page tables reach 2^44 pages of user memory, a file 2^45.
const MAX_HEIGHT: u32 = 5;
/// Nodes that clearing a range copies at most: those that the two ends of the range cut, level by level.
const MAX_SPARES: usize = 2 * MAX_HEIGHT as usize;

/// What a leaf slot says. Swapped-out pages and cells shared between amaps get tags of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Nothing is there.
    Empty,
    /// This frame is there; the slot counts as one of its references.
    Page(Frame),
}

const TAG_BITS: u32 = 12;
const TAG_PAGE: u64 = 1;
const TAG_NODE: u64 = 2;

impl Slot {
    #[inline]
    fn encode(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Page(frame) => u64::from(frame.0) << TAG_BITS | TAG_PAGE,
        }
    }

    #[inline]
    fn decode(word: u64) -> Self {
        if word == 0 { Self::Empty } else { Self::Page(Frame((word >> TAG_BITS) as u32)) }
    }
}

/// A link to a node: its frame and its height, 1 for a leaf.
#[derive(Clone, Copy)]
struct Link {
    frame: Frame,
    height: u32,
}

impl Link {
    fn root(word: u64) -> Option<Self> {
        let frame = Frame((word >> TAG_BITS) as u32);
        (word != 0).then_some(Self { frame, height: word as u32 & 0xf })
    }

    fn as_root(self) -> u64 {
        u64::from(self.frame.0) << TAG_BITS | u64::from(self.height)
    }

    /// The child that `word`, a slot of this node, names.
    fn child(self, word: u64) -> Option<Self> {
        let frame = Frame((word >> TAG_BITS) as u32);
        (word & TAG_NODE != 0).then_some(Self { frame, height: self.height - 1 })
    }

    /// Which slot of this node leads to `index`.
    fn slot(self, index: u64) -> usize {
        (index >> (NODE_BITS * (self.height - 1))) as usize & (SLOTS - 1)
    }
}

/// Indices below one slot of a node at `height`.
const fn span(height: u32) -> u64 {
    1 << (NODE_BITS * (height - 1))
}

/// A tree of pages by index.
pub struct Radix<P> {
    root: Atomic<u64, P>,
    path: RawSpin<P>,
}

/// A locked leaf.
pub struct Leaf<'p, P: Platform> {
    page: &'p Page<P>,
    words: &'p [Atomic<u64, P>; SLOTS],
    /// Index of its first slot.
    base: u64,
    _lock: RawGuard<'p, P>,
}

/// Frames set aside for an operation that must not fail half-way.
pub struct Spares<'p, P: Platform> {
    phys: &'p Phys<P>,
    frames: [Option<Fresh>; MAX_SPARES],
}

impl<P: Platform> Default for Radix<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Radix<P> {
    /// An empty tree.
    pub fn new() -> Self {
        Self { root: Atomic::new(0), path: RawSpin::new() }
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
            let locked = Leaf::lock(phys, leaf.frame, index);
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
            if let Some((leaf, true)) = self.find(phys, index) {
                let locked = Leaf::lock(phys, leaf.frame, index);
                if !locked.page.is_stray() && locked.is_sole() {
                    return Ok(locked);
                }
            }
            let path = self.path.lock();
            self.own(phys, index, 1, &mut || phys.alloc_zeroed())?;
            drop(path);
        }
    }

    /// The same tree once more: both then copy what they change. The other CPUs' faults that began before
    /// must be told (`Space::generation`), because they may have found the path to be theirs alone.
    pub fn share(&self, phys: &Phys<P>) -> Self {
        let _path = self.path.lock();
        let word = self.root.load(Ordering::Acquire);
        if let Some(root) = Link::root(word) {
            phys.page(root.frame).refs.fetch_add(1, Ordering::AcqRel);
        }
        Self { root: Atomic::new(word), path: RawSpin::new() }
    }

    /// Calls `f` with every page in `lo..hi`, in order, until it returns false. Takes no lock: what
    /// changes meanwhile may be seen or not.
    pub fn for_each(
        &self,
        phys: &Phys<P>,
        _pin: &Pin<'_, P>,
        (lo, hi): (u64, u64),
        mut f: impl FnMut(u64, Frame) -> bool,
    ) {
        fn walk<P: Platform>(
            phys: &Phys<P>,
            node: Link,
            base: u64,
            (lo, hi): (u64, u64),
            f: &mut impl FnMut(u64, Frame) -> bool,
        ) -> bool {
            let span = span(node.height);
            let first = (lo.max(base) - base) / span;
            for slot in first..SLOTS as u64 {
                let index = base + slot * span;
                if index >= hi {
                    break;
                }
                let word = phys.words(node.frame)[slot as usize].load(Ordering::Acquire);
                let go_on = match (word, node.child(word)) {
                    (0, _) => true,
                    (_, Some(child)) => walk(phys, child, index, (lo, hi), f),
                    (_, None) => match Slot::decode(word) {
                        Slot::Page(frame) => f(index, frame),
                        Slot::Empty => true,
                    },
                };
                if !go_on {
                    return false;
                }
            }
            true
        }
        if let Some(root) = Link::root(self.root.load(Ordering::Acquire)) {
            walk(phys, root, 0, (lo, hi), &mut f);
        }
    }

    /// Follows every reference of the tree, for checks: calls `named` with each frame that the root or a
    /// slot names, and descends into a node if `enter`, given its frame and the number of its slots that
    /// are not empty, says so.
    pub fn for_each_reference(
        &self,
        phys: &Phys<P>,
        enter: &mut dyn FnMut(Frame, u32) -> bool,
        named: &mut dyn FnMut(Frame),
    ) {
        fn walk<P: Platform>(
            phys: &Phys<P>,
            node: Link,
            enter: &mut dyn FnMut(Frame, u32) -> bool,
            named: &mut dyn FnMut(Frame),
        ) {
            named(node.frame);
            let slots = phys.words(node.frame);
            let live = slots.iter().filter(|word| word.load(Ordering::Acquire) != 0).count();
            if !enter(node.frame, live as u32) {
                return;
            }
            for word in slots {
                let word = word.load(Ordering::Acquire);
                match (node.child(word), Slot::decode(word)) {
                    (Some(child), _) => walk(phys, child, enter, named),
                    (None, Slot::Page(frame)) => named(frame),
                    (None, Slot::Empty) => {}
                }
            }
        }
        if let Some(root) = Link::root(self.root.load(Ordering::Acquire)) {
            walk(phys, root, enter, named);
        }
    }

    /// Whether every node on the way to `index` has one reference only. For checks.
    pub fn is_sole(&self, phys: &Phys<P>, index: u64) -> bool {
        self.find(phys, index).is_some_and(|(_, sole)| sole)
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

    /// Empties `lo..hi` and gives up its references to the pages there; pages without any are freed. No
    /// page of the range may be mapped through this tree any more.
    pub fn clear(&self, phys: &Phys<P>, (lo, hi): (u64, u64), spares: &mut Spares<'_, P>) {
        let mut from = lo;
        while from < hi {
            let path = self.path.lock();
            let Some(target) = self.first_live(phys, from, hi) else { break };
            let (node, index) = target;
            if node.height == 1 && (index < lo || index + SLOTS as u64 > hi) {
                self.clear_part(phys, index, (lo, hi), spares);
            } else {
                let unlinked = self.unlink(phys, node, index, spares);
                drop(path);
                release(phys, unlinked);
            }
            from = index + span(node.height + 1);
        }
    }

    /// Takes the page at `index` out and returns it with the reference that the slot had. The path must
    /// be this tree's alone.
    pub fn take(&self, phys: &Phys<P>, pin: &Pin<'_, P>, index: u64) -> Option<Frame> {
        let mut leaf = self.leaf(phys, pin, index)?;
        let Slot::Page(frame) = leaf.get(index) else { return None };
        leaf.set(index, Slot::Empty);
        let empty = leaf.live() == 0;
        drop(leaf);
        if empty {
            let _path = self.path.lock();
            self.prune(phys, index);
        }
        Some(frame)
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
                    let copy = copy(phys, shared, alloc()?);
                    slot.store(node_word(copy.frame), Ordering::Release);
                    release(phys, shared);
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
            let copy = copy(phys, root, alloc()?);
            self.root.store(copy.as_root(), Ordering::Release);
            release(phys, root);
            root = copy;
        }
        Ok(root)
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
        let mut leaf = Leaf::lock(phys, link.frame, base);
        for index in part {
            if let Slot::Page(frame) = leaf.get(index) {
                leaf.set(index, Slot::Empty);
                put_page(phys, frame);
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
            let lock = page.lock.lock();
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

impl<'p, P: Platform> Leaf<'p, P> {
    fn lock(phys: &'p Phys<P>, frame: Frame, index: u64) -> Self {
        let page = phys.page(frame);
        let lock = page.lock.lock();
        let base = index & !(SLOTS as u64 - 1);
        Self { page, words: phys.words(frame), base, _lock: lock }
    }

    /// What is at `index`, which this leaf covers.
    #[inline]
    pub fn get(&self, index: u64) -> Slot {
        debug_assert_eq!(index & !(SLOTS as u64 - 1), self.base);
        Slot::decode(self.words[index as usize & (SLOTS - 1)].load(Ordering::Relaxed))
    }

    /// Changes what is at `index`. References move with the slot: the caller brings the new one and takes
    /// over the old one.
    #[inline]
    pub fn set(&mut self, index: u64, slot: Slot) {
        let word = &self.words[index as usize & (SLOTS - 1)];
        let (before, after) = (word.load(Ordering::Relaxed) != 0, slot != Slot::Empty);
        word.store(slot.encode(), Ordering::Release);
        let live = self.page.live.get() + u32::from(after) - u32::from(before);
        self.page.live.set(live);
    }

    /// Slots that are not empty.
    pub fn live(&self) -> u32 {
        self.page.live.get()
    }

    /// Indices that this leaf covers.
    #[inline]
    pub fn range(&self) -> (u64, u64) {
        (self.base, self.base + SLOTS as u64)
    }

    fn is_sole(&self) -> bool {
        self.page.refs.load(Ordering::Acquire) == 1
    }
}

impl<'p, P: Platform> Spares<'p, P> {
    /// None, for clearing whole trees.
    pub fn none(phys: &'p Phys<P>) -> Self {
        Self { phys, frames: [const { None }; MAX_SPARES] }
    }

    /// As many as clearing any range of any tree can need.
    pub fn worst_case(phys: &'p Phys<P>) -> Result<Self, NoMemory> {
        Self::try_new(phys, MAX_SPARES)
    }

    fn try_new(phys: &'p Phys<P>, count: usize) -> Result<Self, NoMemory> {
        let mut spares = Self::none(phys);
        for place in &mut spares.frames[..count] {
            *place = Some(phys.alloc_zeroed()?);
        }
        Ok(spares)
    }

    fn take(&mut self) -> Result<Fresh, NoMemory> {
        self.frames.iter_mut().find_map(Option::take).ok_or(NoMemory)
    }
}

impl<P: Platform> Drop for Spares<'_, P> {
    fn drop(&mut self) {
        for fresh in self.frames.iter_mut().filter_map(Option::take) {
            self.phys.free(fresh);
        }
    }
}

fn node_word(frame: Frame) -> u64 {
    u64::from(frame.0) << TAG_BITS | TAG_NODE
}

/// Turns a zeroed frame into an empty node on the way to `index`, with one reference.
fn make<P: Platform>(phys: &Phys<P>, zeroed: Fresh, height: u32, index: u64) -> Link {
    let page = phys.page(zeroed.frame());
    page.refs.set(1);
    page.live.set(0);
    page.index.set(index & !(span(height + 1) - 1));
    let frame = phys.give(zeroed, PageKind::Node);
    phys.counters.count(Event::NodeMade);
    Link { frame, height }
}

/// A copy of a shared node; everything that it names gets one more reference (R1).
fn copy<P: Platform>(phys: &Phys<P>, shared: Link, zeroed: Fresh) -> Link {
    let from = phys.page(shared.frame);
    let copy = make(phys, zeroed, shared.height, from.index.get());
    let (old, new) = (phys.words(shared.frame), phys.words(copy.frame));
    let mut live = 0;
    let lock = from.lock.lock();
    for (old, new) in old.iter().zip(new) {
        let word = old.load(Ordering::Acquire);
        if word != 0 {
            phys.page(Frame((word >> TAG_BITS) as u32)).refs.fetch_add(1, Ordering::Relaxed);
            new.store(word, Ordering::Relaxed);
            live += 1;
        }
    }
    drop(lock);
    phys.page(copy.frame).live.set(live);
    phys.counters.count(Event::NodeUnshared);
    copy
}

/// Gives up one reference to a node; the last one takes the node apart.
fn release<P: Platform>(phys: &Phys<P>, node: Link) {
    let page = phys.page(node.frame);
    if page.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    let words = phys.words(node.frame);
    let lock = page.lock.lock();
    page.set_stray();
    drop(lock);
    // Stray under its lock: nobody changes it any more.
    for word in words {
        let word = word.load(Ordering::Acquire);
        match (word, node.child(word)) {
            (0, _) => {}
            (_, Some(child)) => release(phys, child),
            (_, None) => put_page(phys, Frame((word >> TAG_BITS) as u32)),
        }
    }
    phys.retire(node.frame);
    phys.counters.count(Event::NodeFreed);
}

/// Gives up one reference to a page; the last one frees it.
pub fn put_page<P: Platform>(phys: &Phys<P>, frame: Frame) {
    if phys.page(frame).refs.fetch_sub(1, Ordering::AcqRel) == 1 {
        phys.free(phys.take(frame));
    }
}
