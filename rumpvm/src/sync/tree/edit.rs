//! Edits: a new version of the tree, built beside the old one and published at once.

use alloc::boxed::Box;
use alloc::vec::{IntoIter, Vec};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::ControlFlow;
use core::ptr::{self, NonNull};

use rumpvm_platform::Seam;

use super::fill::{Fill, share};
use super::node::{
    Branch, Child, FANOUT, Head, Leaf, bits, describe, free_branch, free_leaf, leaf_values, rank,
    visit_node,
};
use super::{Ranged, Tree, Writer};
use crate::NoMemory;
use crate::sync::epoch::{Epoch, Retired};
use crate::sync::seam::{Ordering, try_box, try_push, try_reserve};

/// A node with fewer than this is merged with a neighbour when both fit into three quarters of a node.
pub(super) const SPARSE: usize = FANOUT / 4;

/// A change that is being prepared. Dropping it without [`Edit::commit`] leaves the tree as it was.
#[must_use = "an edit that is not committed changes nothing"]
pub struct Edit<'t, V, S: Seam> {
    pub(super) tree: &'t Tree<V, S>,
    pub(super) root: *mut Head,
    pub(super) count: u64,
    pub(super) built: *mut Head,
    pub(super) replaced: *mut Head,
    /// One edit at a time.
    pub(super) _writer: &'t mut Writer,
}

impl<V: Ranged, S: Seam> Edit<'_, V, S> {
    /// Replaces every value inside `lo..hi` by `new`.
    ///
    /// No value may straddle `lo` or `hi`, and `new` must be in order, disjoint, and inside `lo..hi`. On
    /// error the edit can only be dropped.
    pub fn splice(&mut self, lo: u64, hi: u64, new: Vec<V>) -> Result<(), NoMemory> {
        let Some(new) = self.splice_one_leaf(lo, hi, new)? else { return Ok(()) };
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

    /// Calls `f` with every value of the version under way that overlaps `lo..hi`, in order, until it
    /// breaks.
    pub fn visit<R>(
        &self,
        lo: u64,
        hi: u64,
        mut f: impl FnMut(&V) -> ControlFlow<R>,
    ) -> ControlFlow<R> {
        // SAFETY: the working version is alive and does not change during this call, which borrows `self`.
        unsafe { visit_node(self.root, lo, hi, &mut f) }
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
        let replaced = core::mem::replace(&mut self.replaced, ptr::null_mut());
        if let Some(replaced) = NonNull::new(replaced.cast::<Retired>()) {
            // SAFETY: the root no longer leads to these nodes (E1), each is on this list once, and `Head` begins
            // with `Retired`. Values may be dropped on any CPU because `V: Send` for a shared tree.
            unsafe { epoch.retire(replaced) };
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
    pub(super) fn keep(&mut self, node: *mut Head) -> *mut Head {
        // SAFETY: the node is fresh and ours.
        unsafe { (*node).next_built = self.built };
        self.built = node;
        node
    }

    /// Puts a node that the working version no longer has on the list of those to retire.
    pub(super) fn replace(&mut self, node: *mut Head) {
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

/// How many of `starts` are below `key`, which is not 0.
pub(super) fn rank_below(starts: &[u64; FANOUT], key: u64) -> usize {
    rank(starts, key - 1)
}
