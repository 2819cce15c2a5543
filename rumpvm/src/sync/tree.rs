//! An ordered tree of disjoint ranges that readers search without a lock.
//!
//! A B+ tree whose published nodes never change. A writer builds the new path beside the old one and
//! swings the root; readers that started earlier go on in the old version, whose replaced nodes are freed
//! an epoch later. So a call that must change several places at once prepares all of it in an [`Edit`],
//! where running out of memory is harmless, and commits with one store.
//!
//! Each branch also keeps the largest hole below each child, so that placing a mapping is a search too.
//!
//! Locks: readers pin the epoch; a writer holds the tree's [`Writer`], of which there is one.
//! Sleep: never.
//! Owns:  its nodes and values. Replaced nodes go to the epoch, removed values with them.
//!
//! T1. Values are disjoint and in order; every leaf is at the same depth; no node is empty.
//! T2. A published node is written only in its list links and its `fresh` and `dead` bits, which readers
//!     never look at.
//! T3. A value lives in exactly one leaf of the newest version. Copying a leaf moves its values bit by
//!     bit; of the old leaf only those marked `dead` are dropped when it is freed.

use alloc::boxed::Box;
use alloc::vec::{IntoIter, Vec};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::ControlFlow;
use core::ptr::{self, NonNull};

use rumpvm_platform::Seam;

use super::epoch::{Epoch, Pin, Retired};
use super::seam::{Atomic, AtomicPtr, Ordering, try_box, try_push, try_reserve};
use crate::NoMemory;

/// Values of a leaf, children of a branch: 16 starts are two cache lines, and compare without a branch.
const FANOUT: usize = 16;
/// A node with fewer than this is merged with a neighbour when both fit into three quarters of a node.
const SPARSE: usize = FANOUT / 4;

/// Something that covers a half-open range of keys. The range of a value in a tree must not change.
pub trait Ranged {
    /// First key.
    fn start(&self) -> u64;
    /// One past the last key.
    fn end(&self) -> u64;
}

#[repr(C)]
struct Head {
    retired: Retired,
    /// Next of the nodes that an edit has built.
    next_built: *mut Head,
    len: u16,
    /// 0 for a leaf.
    height: u16,
}

#[repr(C)]
struct Leaf<V> {
    head: Head,
    /// Values that came in with the edit that is under way.
    fresh: u16,
    /// Values that leave with this leaf.
    dead: u16,
    values: [MaybeUninit<V>; FANOUT],
}

#[repr(C)]
struct Branch {
    head: Head,
    /// First key of each child; beyond `len` the largest key, so that ranking needs no bound.
    start: [u64; FANOUT],
    end: [u64; FANOUT],
    /// Largest hole between two values below each child.
    gap: [u64; FANOUT],
    child: [*mut Head; FANOUT],
}

/// A child as its parent describes it.
#[derive(Clone, Copy)]
struct Child {
    start: u64,
    end: u64,
    gap: u64,
    node: *mut Head,
}

/// The tree.
pub struct Tree<V, S> {
    root: AtomicPtr<Head, S>,
    count: Atomic<u64, S>,
    owns: PhantomData<V>,
}

/// The right to change one tree. Keep it behind the lock that serializes writers.
pub struct Writer(());

/// A change that is being prepared. Dropping it without [`Edit::commit`] leaves the tree as it was.
#[must_use = "an edit that is not committed changes nothing"]
pub struct Edit<'t, V, S: Seam> {
    tree: &'t Tree<V, S>,
    root: *mut Head,
    count: u64,
    built: *mut Head,
    replaced: *mut Head,
    /// One edit at a time.
    _writer: &'t mut Writer,
}

// SAFETY: values are handed out by shared reference to any CPU, and dropped on any CPU.
unsafe impl<V: Send + Sync, S: Seam> Send for Tree<V, S> {}
// SAFETY: as above; readers and the one writer meet only at the root, which is atomic (T2).
unsafe impl<V: Send + Sync, S: Seam> Sync for Tree<V, S> {}

impl<V: Ranged, S: Seam> Tree<V, S> {
    /// An empty tree, and the right to change it.
    pub fn new() -> (Self, Writer) {
        let root = AtomicPtr::new(ptr::null_mut());
        (Self { root, count: Atomic::new(0), owns: PhantomData }, Writer(()))
    }

    /// Number of values.
    pub fn len(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value that covers `key`.
    #[inline]
    pub fn get<'g>(&'g self, _pin: &'g Pin<'_, S>, key: u64) -> Option<&'g V> {
        let mut node = self.root.load(Ordering::Acquire);
        if node.is_null() {
            return None;
        }
        // SAFETY: a node that is reached from the root under a pin is alive while the pin is (E2), and its
        // parts that are read here do not change (T2). `height` tells leaves from branches.
        unsafe {
            while (*node).height > 0 {
                let branch = node.cast::<Branch>();
                let rank = rank(&(*branch).start, key);
                if rank == 0 {
                    return None;
                }
                node = (*branch).child[rank - 1];
            }
            let values = leaf_values::<V>(node);
            let rank = values.iter().filter(|value| value.start() <= key).count();
            values[..rank].last().filter(|value| key < value.end())
        }
    }

    /// The first value that ends above `key`: the one that covers it, or the next one.
    pub fn at_or_after<'g>(&'g self, pin: &'g Pin<'_, S>, key: u64) -> Option<&'g V> {
        match self.visit(pin, key, u64::MAX, |value| ControlFlow::Break(ptr::from_ref(value))) {
            // SAFETY: it came out of this tree under this pin.
            ControlFlow::Break(value) => Some(unsafe { &*value }),
            ControlFlow::Continue(()) => None,
        }
    }

    /// The last value that starts below `key`.
    pub fn before<'g>(&'g self, _pin: &'g Pin<'_, S>, key: u64) -> Option<&'g V> {
        let mut node = self.root.load(Ordering::Acquire);
        let below = key.checked_sub(1)?;
        if node.is_null() {
            return None;
        }
        // SAFETY: as in `get`.
        unsafe {
            while (*node).height > 0 {
                let branch = node.cast::<Branch>();
                let rank = rank(&(*branch).start, below);
                if rank == 0 {
                    return None;
                }
                node = (*branch).child[rank - 1];
            }
            leaf_values::<V>(node).iter().rfind(|value| value.start() <= below)
        }
    }

    /// Calls `f` with every value that overlaps `lo..hi`, in order, until it breaks.
    pub fn visit<R>(
        &self,
        _pin: &Pin<'_, S>,
        lo: u64,
        hi: u64,
        mut f: impl FnMut(&V) -> ControlFlow<R>,
    ) -> ControlFlow<R> {
        let root = self.root.load(Ordering::Acquire);
        // SAFETY: the root was loaded under the pin, so all below it is alive and at rest.
        unsafe { visit_node(root, lo, hi, &mut f) }
    }

    /// Calls `f` with the bounds of every hole of at least `need` keys inside `lo..hi`, highest first,
    /// until it returns something. Bounds are clipped to `lo..hi`.
    pub fn highest_gap<R>(
        &self,
        _pin: &Pin<'_, S>,
        (lo, hi): (u64, u64),
        need: u64,
        mut f: impl FnMut(u64, u64) -> Option<R>,
    ) -> Option<R> {
        let root = self.root.load(Ordering::Acquire);
        let mut search = GapSearch { lo, hi, need, ceiling: hi, f: &mut f };
        // SAFETY: the root was loaded under the pin, so all below it is alive and at rest.
        let found = if root.is_null() { None } else { unsafe { search.node::<V>(root) } };
        found.or_else(|| search.test(lo))
    }

    /// Begins a change.
    pub fn edit<'t>(&'t self, writer: &'t mut Writer) -> Edit<'t, V, S> {
        Edit {
            tree: self,
            root: self.root.load(Ordering::Relaxed),
            count: self.len(),
            built: ptr::null_mut(),
            replaced: ptr::null_mut(),
            _writer: writer,
        }
    }
}

/// How many of `starts` are at or below `key`.
#[inline]
fn rank(starts: &[u64; FANOUT], key: u64) -> usize {
    starts.iter().map(|start| usize::from(*start <= key)).sum()
}

/// The values of a leaf.
///
/// # Safety
/// `node` is a live leaf of a tree of `V`, and its values stay where they are for `'g`.
unsafe fn leaf_values<'g, V>(node: *mut Head) -> &'g [V] {
    let leaf = node.cast::<Leaf<V>>();
    // SAFETY: by the caller's promise; the first `len` values are initialized (T1).
    unsafe {
        let first = (&raw const (*leaf).values).cast::<V>();
        core::slice::from_raw_parts(first, (*node).len as usize)
    }
}

/// # Safety
/// `node` is null, or alive and at rest with all below it for the length of the call.
unsafe fn visit_node<V: Ranged, R>(
    node: *mut Head,
    lo: u64,
    hi: u64,
    f: &mut impl FnMut(&V) -> ControlFlow<R>,
) -> ControlFlow<R> {
    if node.is_null() {
        return ControlFlow::Continue(());
    }
    // SAFETY: by the caller's promise.
    unsafe {
        if (*node).height == 0 {
            for value in leaf_values::<V>(node) {
                if value.end() > lo && value.start() < hi {
                    f(value)?;
                }
            }
            return ControlFlow::Continue(());
        }
        let branch = node.cast::<Branch>();
        for at in 0..(*node).len as usize {
            if (*branch).end[at] > lo && (*branch).start[at] < hi {
                visit_node((*branch).child[at], lo, hi, f)?;
            }
        }
    }
    ControlFlow::Continue(())
}

struct GapSearch<'f, F> {
    lo: u64,
    hi: u64,
    need: u64,
    /// Start of the lowest value seen so far: the top of the next hole.
    ceiling: u64,
    f: &'f mut F,
}

impl<R, F: FnMut(u64, u64) -> Option<R>> GapSearch<'_, F> {
    /// The hole from `floor` to the ceiling.
    fn test(&mut self, floor: u64) -> Option<R> {
        let floor = floor.max(self.lo);
        if floor < self.ceiling && self.ceiling - floor >= self.need {
            return (self.f)(floor, self.ceiling);
        }
        None
    }

    /// # Safety
    /// `node` is alive and at rest with all below it.
    unsafe fn node<V: Ranged>(&mut self, node: *mut Head) -> Option<R> {
        // SAFETY: by the caller's promise.
        unsafe {
            if (*node).height == 0 {
                for value in leaf_values::<V>(node).iter().rev() {
                    if self.ceiling <= self.lo {
                        return None;
                    }
                    if value.start() < self.hi {
                        if let Some(found) = self.test(value.end()) {
                            return Some(found);
                        }
                        self.ceiling = self.ceiling.min(value.start());
                    }
                }
                return None;
            }
            let branch = node.cast::<Branch>();
            for at in (0..(*node).len as usize).rev() {
                let (start, end) = ((*branch).start[at], (*branch).end[at]);
                if self.ceiling <= self.lo {
                    return None;
                }
                if start >= self.hi {
                    continue;
                }
                let found = if (*branch).gap[at] >= self.need || end > self.hi {
                    self.node::<V>((*branch).child[at])
                } else {
                    self.test(end)
                };
                if found.is_some() {
                    return found;
                }
                self.ceiling = self.ceiling.min(start);
            }
        }
        None
    }
}

impl<V: Ranged, S: Seam> Edit<'_, V, S> {
    /// Replaces every value inside `lo..hi` by `new`.
    ///
    /// No value may straddle `lo` or `hi`, and `new` must be in order, disjoint, and inside `lo..hi`. On
    /// error the edit can only be dropped.
    pub fn splice(&mut self, lo: u64, hi: u64, new: Vec<V>) -> Result<(), NoMemory> {
        let mut new = new.into_iter();
        let mut level = Vec::new();
        let mut height = 0;
        if self.root.is_null() {
            self.pack_leaves(&mut new, &mut level)?;
        } else {
            // SAFETY: the working root is alive: published and not replaced, or built by this edit.
            height = unsafe { (*self.root).height };
            self.splice_node(self.root, lo, hi, &mut new, &mut level)?;
        }
        while level.len() > 1 {
            height += 1;
            let mut above = Vec::new();
            self.pack_branches(height, &level, &mut above)?;
            level = above;
        }
        let mut root = level.pop().map_or(ptr::null_mut(), |child| child.node);
        // SAFETY: as above, for each node on the way down.
        unsafe {
            while !root.is_null() && (*root).height > 0 && (*root).len == 1 {
                let only = (*root.cast::<Branch>()).child[0];
                self.replace(root);
                root = only;
            }
        }
        self.root = root;
        Ok(())
    }

    /// Number of values that the tree will have.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether the tree will be empty.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Publishes the change. Cannot fail.
    pub fn commit(mut self, epoch: &Epoch<S>) {
        let mut node = self.built;
        while !node.is_null() {
            // SAFETY: nodes on this list were built by this edit and not freed since.
            unsafe {
                if (*node).height == 0 {
                    (*node.cast::<Leaf<V>>()).fresh = 0;
                }
                node = (*node).next_built;
            }
        }
        self.built = ptr::null_mut();
        self.tree.root.store(self.root, Ordering::Release);
        self.tree.count.store(self.count, Ordering::Relaxed);
        let mut node = core::mem::replace(&mut self.replaced, ptr::null_mut());
        while !node.is_null() {
            // SAFETY: the root no longer leads to `node` (E1), it is on this list once, and `Head` begins
            // with `Retired`. Values may be dropped on any CPU because `V: Send` for a shared tree.
            unsafe {
                let next = (*node).retired.next.cast::<Head>();
                epoch.retire(NonNull::new_unchecked(node.cast::<Retired>()));
                node = next;
            }
        }
    }

    fn splice_node(
        &mut self,
        node: *mut Head,
        lo: u64,
        hi: u64,
        new: &mut IntoIter<V>,
        out: &mut Vec<Child>,
    ) -> Result<(), NoMemory> {
        // SAFETY: `node` belongs to the working version, which is alive.
        if unsafe { (*node).height } == 0 {
            self.splice_leaf(node, lo, hi, new, out)
        } else {
            self.splice_branch(node, lo, hi, new, out)
        }
    }

    fn splice_leaf(
        &mut self,
        node: *mut Head,
        lo: u64,
        hi: u64,
        new: &mut IntoIter<V>,
        out: &mut Vec<Child>,
    ) -> Result<(), NoMemory> {
        // SAFETY: a live leaf of the working version; nothing moves while we look.
        let values = unsafe { leaf_values::<V>(node) };
        let left = values.iter().filter(|value| value.end() <= lo).count();
        let right = values.iter().filter(|value| value.start() < hi).count().max(left);
        debug_assert!(values[left..right].iter().all(|v| v.start() >= lo && v.end() <= hi));
        if left == right && new.len() == 0 {
            return try_push::<_, S>(out, describe::<V>(node));
        }
        let total = left + new.len() + (values.len() - right);
        let mut fill = self.leaves_for(total, out)?;
        self.count = self.count + new.len() as u64 - (right - left) as u64;
        fill.take(node, 0..left);
        fill.extend(new);
        fill.take(node, right..values.len());
        fill.describe(out);
        // SAFETY: the leaf is alive, and only the writer looks at these bits (T2).
        unsafe { (*node.cast::<Leaf<V>>()).dead |= bits(left..right) };
        self.replace(node);
        Ok(())
    }

    fn splice_branch(
        &mut self,
        node: *mut Head,
        lo: u64,
        hi: u64,
        new: &mut IntoIter<V>,
        out: &mut Vec<Child>,
    ) -> Result<(), NoMemory> {
        // SAFETY: a live branch of the working version, at rest while we look.
        let (branch, len) = unsafe { (&*node.cast::<Branch>(), (*node).len as usize) };
        let first = branch.end[..len].iter().filter(|end| **end <= lo).count();
        let last = rank_below(&branch.start, hi).min(len).max(first);
        let whole = |at: usize| branch.start[at] >= lo && branch.end[at] <= hi;
        // New values go to the first child that keeps some of its own, else to a neighbour.
        let target = match (first..last).find(|at| !whole(*at)) {
            Some(partial) => Some(partial),
            None if new.len() == 0 => None,
            None if first > 0 => Some(first - 1),
            None if last < len => Some(last),
            None => None,
        };
        if first == last && target.is_none() && new.len() == 0 {
            return try_push::<_, S>(out, describe::<V>(node));
        }
        let mut children = Vec::new();
        try_reserve::<_, S>(&mut children, len + 2)?;
        for at in 0..len {
            let inside = (first..last).contains(&at);
            let child = branch.describe(at);
            if Some(at) == target || (inside && !whole(at)) {
                self.splice_node(child.node, lo, hi, new, &mut children)?;
            } else if inside {
                self.discard(child.node);
            } else {
                try_push::<_, S>(&mut children, child)?;
            }
        }
        if new.len() > 0 {
            // Every child went: grow a new subtree of the same height.
            self.pack_leaves(new, &mut children)?;
            // SAFETY: as above.
            for height in 1..unsafe { (*node).height } {
                let mut above = Vec::new();
                self.pack_branches(height, &children, &mut above)?;
                children = above;
            }
        }
        self.merge_sparse(&mut children)?;
        // SAFETY: as above.
        self.pack_branches(unsafe { (*node).height }, &children, out)?;
        self.replace(node);
        Ok(())
    }

    /// Takes a whole subtree out.
    fn discard(&mut self, node: *mut Head) {
        // SAFETY: `node` belongs to the working version; its `dead` bits are the writer's (T2).
        unsafe {
            let len = (*node).len as usize;
            if (*node).height == 0 {
                (*node.cast::<Leaf<V>>()).dead |= bits(0..len);
                self.count -= len as u64;
            } else {
                for at in 0..len {
                    self.discard((*node.cast::<Branch>()).child[at]);
                }
            }
        }
        self.replace(node);
    }

    /// Merges neighbours of which one is sparse, so that removals do not leave a tree of crumbs.
    fn merge_sparse(&mut self, children: &mut Vec<Child>) -> Result<(), NoMemory> {
        let mut at = 1;
        while at < children.len() {
            let (a, b) = (children[at - 1], children[at]);
            // SAFETY: both belong to the working version.
            let (len_a, len_b, height) =
                unsafe { ((*a.node).len as usize, (*b.node).len as usize, (*a.node).height) };
            if len_a.min(len_b) >= SPARSE || len_a + len_b > FANOUT - SPARSE {
                at += 1;
                continue;
            }
            let mut merged = Vec::new();
            if height == 0 {
                let mut fill = self.leaves_for(len_a + len_b, &mut merged)?;
                fill.take(a.node, 0..len_a);
                fill.take(b.node, 0..len_b);
                fill.describe(&mut merged);
            } else {
                let mut below = Vec::new();
                try_reserve::<_, S>(&mut below, len_a + len_b)?;
                // SAFETY: both are live branches.
                unsafe {
                    below.extend((0..len_a).map(|i| (*a.node.cast::<Branch>()).describe(i)));
                    below.extend((0..len_b).map(|i| (*b.node.cast::<Branch>()).describe(i)));
                }
                self.pack_branches(height, &below, &mut merged)?;
            }
            self.replace(a.node);
            self.replace(b.node);
            children[at - 1] = merged[0];
            children.remove(at);
        }
        Ok(())
    }

    /// Leaves for all of `new`.
    fn pack_leaves(&mut self, new: &mut IntoIter<V>, out: &mut Vec<Child>) -> Result<(), NoMemory> {
        if new.len() == 0 {
            return Ok(());
        }
        let mut fill = self.leaves_for(new.len(), out)?;
        self.count += new.len() as u64;
        fill.extend(new);
        fill.describe(out);
        Ok(())
    }

    /// Empty leaves for `total` values, evenly filled, and room in `out` for their descriptions. After
    /// this nothing can fail.
    fn leaves_for(&mut self, total: usize, out: &mut Vec<Child>) -> Result<Fill<V>, NoMemory> {
        let nodes = total.div_ceil(FANOUT);
        try_reserve::<_, S>(out, nodes)?;
        let mut leaves = Vec::new();
        try_reserve::<_, S>(&mut leaves, nodes)?;
        for _ in 0..nodes {
            let leaf = try_box::<_, S>(Leaf::<V> {
                head: Head::new(0, 0, free_leaf::<V>),
                fresh: 0,
                dead: 0,
                values: [const { MaybeUninit::uninit() }; FANOUT],
            })?;
            leaves.push(self.keep(Box::into_raw(leaf).cast()));
        }
        Ok(Fill { leaves, total, filled: 0, values: PhantomData })
    }

    /// Branches of `height` over `children`, appended to `out`.
    fn pack_branches(
        &mut self,
        height: u16,
        children: &[Child],
        out: &mut Vec<Child>,
    ) -> Result<(), NoMemory> {
        let nodes = children.len().div_ceil(FANOUT);
        try_reserve::<_, S>(out, nodes)?;
        for at in 0..nodes {
            let share = share(children.len(), nodes, at);
            let mut branch = try_box::<_, S>(Branch {
                head: Head::new(share.len() as u16, height, free_branch),
                start: [u64::MAX; FANOUT],
                end: [0; FANOUT],
                gap: [0; FANOUT],
                child: [ptr::null_mut(); FANOUT],
            })?;
            for (slot, child) in children[share].iter().enumerate() {
                branch.start[slot] = child.start;
                branch.end[slot] = child.end;
                branch.gap[slot] = child.gap;
                branch.child[slot] = child.node;
            }
            let node = self.keep(Box::into_raw(branch).cast());
            out.push(describe::<V>(node));
        }
        Ok(())
    }

    /// Puts a node that was just built on the list of those to free if the edit is dropped.
    fn keep(&mut self, node: *mut Head) -> *mut Head {
        // SAFETY: the node is fresh and ours.
        unsafe { (*node).next_built = self.built };
        self.built = node;
        node
    }

    /// Puts a node that the working version no longer has on the list of those to retire.
    fn replace(&mut self, node: *mut Head) {
        // SAFETY: the node is alive, and its link is the writer's (T2).
        unsafe { (*node).retired.next = self.replaced.cast() };
        self.replaced = node;
    }
}

impl<V, S: Seam> Drop for Edit<'_, V, S> {
    /// Abandons what was not committed: the published nodes are as before, the built ones go.
    fn drop(&mut self) {
        let mut node = self.replaced;
        while !node.is_null() {
            // SAFETY: nodes on this list are alive; `dead` is the writer's (T2).
            unsafe {
                if (*node).height == 0 {
                    (*node.cast::<Leaf<V>>()).dead = 0;
                }
                node = (*node).retired.next.cast();
            }
        }
        let mut node = self.built;
        while !node.is_null() {
            // SAFETY: built here, never published, on this list once. What is `fresh` in it was moved in
            // by the edit and is in no other leaf (`Fill::take` clears the bit where it takes from).
            unsafe {
                let next = (*node).next_built;
                if (*node).height == 0 {
                    let leaf = node.cast::<Leaf<V>>();
                    (*leaf).dead = (*leaf).fresh;
                }
                ((*node).retired.free)(node.cast());
                node = next;
            }
        }
    }
}

/// Leaves that are being filled from left to right.
struct Fill<V> {
    leaves: Vec<*mut Head>,
    total: usize,
    filled: usize,
    values: PhantomData<V>,
}

impl<V: Ranged> Fill<V> {
    fn put(&mut self, value: MaybeUninit<V>, fresh: bool) {
        let nodes = self.leaves.len();
        let mut at = self.filled * nodes / self.total;
        while share(self.total, nodes, at).end <= self.filled {
            at += 1;
        }
        while share(self.total, nodes, at).start > self.filled {
            at -= 1;
        }
        let leaf = self.leaves[at].cast::<Leaf<V>>();
        // SAFETY: the leaf is fresh and ours, and its share has a place left for this value.
        unsafe {
            let slot = (*leaf).head.len as usize;
            (&raw mut (*leaf).values[slot]).write(value);
            (*leaf).fresh |= u16::from(fresh) << slot;
            (*leaf).head.len += 1;
        }
        self.filled += 1;
    }

    /// Moves values of another leaf here, bit by bit (T3).
    fn take(&mut self, from: *mut Head, which: core::ops::Range<usize>) {
        let leaf = from.cast::<Leaf<V>>();
        for at in which {
            // SAFETY: `from` is a live leaf; the value is copied, and from now on it counts as being here.
            unsafe {
                let fresh = (*leaf).fresh & (1 << at) != 0;
                (*leaf).fresh &= !(1 << at);
                self.put((&raw const (*leaf).values[at]).read(), fresh);
            }
        }
    }

    fn extend(&mut self, new: &mut IntoIter<V>) {
        for value in new {
            self.put(MaybeUninit::new(value), true);
        }
    }

    /// Appends a description of each leaf; `leaves_for` made the room.
    fn describe(self, out: &mut Vec<Child>) {
        debug_assert_eq!(self.filled, self.total);
        out.extend(self.leaves.iter().map(|leaf| describe::<V>(*leaf)));
    }
}

/// The part of `total` things that node `at` of `nodes` gets.
fn share(total: usize, nodes: usize, at: usize) -> core::ops::Range<usize> {
    total * at / nodes..total * (at + 1) / nodes
}

/// A bit for each index in `range`.
fn bits(range: core::ops::Range<usize>) -> u16 {
    range.fold(0, |bits, at| bits | 1 << at)
}

/// How many of `starts` are below `key`.
fn rank_below(starts: &[u64; FANOUT], key: u64) -> usize {
    starts.iter().filter(|start| **start < key).count()
}

impl Head {
    fn new(len: u16, height: u16, free: unsafe fn(*mut Retired)) -> Self {
        Self { retired: Retired::new(free), next_built: ptr::null_mut(), len, height }
    }
}

impl Branch {
    fn describe(&self, at: usize) -> Child {
        let (start, end) = (self.start[at], self.end[at]);
        Child { start, end, gap: self.gap[at], node: self.child[at] }
    }
}

/// What a parent has to know of `node`, which is alive and not empty.
fn describe<V: Ranged>(node: *mut Head) -> Child {
    // SAFETY: callers pass nodes of the working version; the first `len` slots are initialized (T1).
    unsafe {
        let len = (*node).len as usize;
        if (*node).height == 0 {
            let values = leaf_values::<V>(node);
            let gap = values.windows(2).map(|pair| pair[1].start() - pair[0].end()).max();
            let (start, end) = (values[0].start(), values[len - 1].end());
            return Child { start, end, gap: gap.unwrap_or(0), node };
        }
        let branch = &*node.cast::<Branch>();
        let inner = branch.gap[..len].iter().copied().max().unwrap_or(0);
        let between = (1..len).map(|at| branch.start[at] - branch.end[at - 1]).max();
        let gap = inner.max(between.unwrap_or(0));
        Child { start: branch.start[0], end: branch.end[len - 1], gap, node }
    }
}

/// # Safety
/// `record` is a leaf of a tree of `V` that nobody else has any more.
unsafe fn free_leaf<V>(record: *mut Retired) {
    // SAFETY: by the caller's promise; leaves come out of a `Box`, and dead values are initialized and
    // nowhere else (T3).
    unsafe {
        let mut leaf = Box::from_raw(record.cast::<Leaf<V>>());
        for at in 0..FANOUT {
            if leaf.dead & (1 << at) != 0 {
                leaf.values[at].assume_init_drop();
            }
        }
    }
}

/// # Safety
/// `record` is a branch that nobody else has any more.
unsafe fn free_branch(record: *mut Retired) {
    // SAFETY: by the caller's promise; branches come out of a `Box`.
    drop(unsafe { Box::from_raw(record.cast::<Branch>()) });
}

impl<V, S> Drop for Tree<V, S> {
    fn drop(&mut self) {
        /// # Safety
        /// `node` and all below it are the caller's alone.
        unsafe fn free<V>(node: *mut Head) {
            // SAFETY: by the caller's promise.
            unsafe {
                let len = (*node).len as usize;
                if (*node).height == 0 {
                    (*node.cast::<Leaf<V>>()).dead = bits(0..len);
                } else {
                    for at in 0..len {
                        free::<V>((*node.cast::<Branch>()).child[at]);
                    }
                }
                ((*node).retired.free)(node.cast());
            }
        }
        let root = *self.root.get_mut();
        if !root.is_null() {
            // SAFETY: the tree is being dropped, so nobody reads it.
            unsafe { free::<V>(root) };
        }
    }
}

#[cfg(test)]
mod tests;
