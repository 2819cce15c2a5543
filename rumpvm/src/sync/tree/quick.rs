//! The usual splice: a few values of one leaf come or go, and every node keeps its number of children.
//!
//! Then a new version is a copy of each node on the way from the root, with one slot changed: no lists of
//! children, no packing, one allocation for each level. Whatever does not fit goes the general way (`edit`).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ptr;

use rumpvm_platform::Seam;

use super::Ranged;
use super::edit::{Edit, SPARSE, rank_below};
use super::node::{
    Branch, FANOUT, Head, Leaf, bits, describe, free_branch, free_leaf, leaf_values,
};
use crate::NoMemory;
use crate::sync::seam::try_box;

/// Levels of branches: 16^8 leaves are more than there are addresses to map.
const MAX_HEIGHT: usize = 8;

/// Where a splice goes.
struct Way {
    /// Branches from the root down, each with the slot that leads on.
    branches: [(*mut Branch, usize); MAX_HEIGHT],
    height: usize,
    leaf: *mut Head,
    /// Values of the leaf below `lo`, and those below `hi`.
    left: usize,
    right: usize,
}

impl<V: Ranged, S: Seam> Edit<'_, V, S> {
    /// Replaces every value inside `lo..hi` by `new` if that changes one leaf and no other node's size; gives `new`
    /// back if it does not.
    pub(super) fn splice_one_leaf(
        &mut self,
        lo: u64,
        hi: u64,
        new: Vec<V>,
    ) -> Result<Option<Vec<V>>, NoMemory> {
        let Some(way) = self.way(lo, hi, new.len()) else { return Ok(Some(new)) };
        if way.left == way.right && new.is_empty() {
            return Ok(None);
        }
        self.count = self.count + new.len() as u64 - (way.right - way.left) as u64;
        let mut below = self.copy_leaf(&way, new)?;
        for (branch, slot) in way.branches[..way.height].iter().rev() {
            below = self.copy_branch(*branch, *slot, below)?;
        }
        self.root = below;
        Ok(None)
    }

    /// The way to the one leaf that holds what overlaps `lo..hi`, and has room for `new` more values; none if there
    /// is no such leaf, or if it would become sparse.
    fn way(&self, lo: u64, hi: u64, new: usize) -> Option<Way> {
        let branches = [(ptr::null_mut(), 0); MAX_HEIGHT];
        let mut way = Way { branches, height: 0, leaf: self.root, left: 0, right: 0 };
        if self.root.is_null() {
            return None;
        }
        // SAFETY: the nodes of the working version are alive, and at rest while we look. `height` tells leaves from
        // branches.
        unsafe {
            while (*way.leaf).height > 0 {
                let node = way.leaf.cast::<Branch>();
                let (branch, len) = (&*node, (*way.leaf).len as usize);
                let first = branch.end[..len].partition_point(|end| *end <= lo);
                let last = rank_below(&branch.start, hi).min(len).max(first);
                let slot = match last - first {
                    0 => first.saturating_sub(1),
                    1 if branch.start[first] < lo || branch.end[first] > hi => first,
                    _ => return None,
                };
                *way.branches.get_mut(way.height)? = (node, slot);
                way.height += 1;
                way.leaf = branch.child[slot];
            }
            let values = leaf_values::<V>(way.leaf);
            way.left = values.partition_point(|value| value.end() <= lo);
            way.right = values.partition_point(|value| value.start() < hi).max(way.left);
            let total = values.len() - (way.right - way.left) + new;
            // A root may be as small as it likes.
            let least = if way.height == 0 { 1 } else { SPARSE };
            let fits = (least..=FANOUT).contains(&total);
            fits.then_some(way)
        }
    }

    /// A copy of the leaf of `way`, with `new` for the values in between. Moves values bit by bit (T3).
    fn copy_leaf(&mut self, way: &Way, new: Vec<V>) -> Result<*mut Head, NoMemory> {
        let (left, right, added) = (way.left, way.right, new.len());
        let copy =
            Box::into_raw(try_box::<_, S>(MaybeUninit::<Leaf<V>>::uninit())?).cast::<Leaf<V>>();
        // SAFETY:
        // - The old leaf is alive, and only the writer looks at its bits (T2); the copy is fresh and ours.
        // - `left`, `right` and the new length were computed from the old one's values, and found to fit (`way`).
        // - A value that is copied counts as being in the copy from now on: the old leaf drops only what is `dead`
        //   in it, and the copy's `fresh` bits say which values came with this edit.
        unsafe {
            let old = way.leaf.cast::<Leaf<V>>();
            let len = (*old).head.len as usize;
            let from = (&raw const (*old).values).cast::<MaybeUninit<V>>();
            let to = (&raw mut (*copy).values).cast::<MaybeUninit<V>>();
            ptr::copy_nonoverlapping(from, to, left);
            ptr::copy_nonoverlapping(from.add(right), to.add(left + added), len - right);
            for (at, value) in new.into_iter().enumerate() {
                to.add(left + at).write(MaybeUninit::new(value));
            }
            let (low, high) = (bits(0..left), bits(right..len));
            // In 32 bits: a full leaf's are shifted out by 16.
            let moved = (u32::from((*old).fresh & high) >> right << (left + added)) as u16;
            (*copy).fresh = (*old).fresh & low | bits(left..left + added) | moved;
            (*copy).dead = 0;
            let len = (left + added + len - right) as u16;
            (&raw mut (*copy).head).write(Head::new(len, 0, free_leaf::<V>));
            (*old).fresh &= !(low | high);
            (*old).dead |= bits(left..right);
        }
        self.replace(way.leaf);
        Ok(self.keep(copy.cast()))
    }

    /// A copy of `branch` whose child in `slot` is `child`.
    fn copy_branch(
        &mut self,
        branch: *mut Branch,
        slot: usize,
        child: *mut Head,
    ) -> Result<*mut Head, NoMemory> {
        let child = describe::<V>(child);
        let copy =
            Box::into_raw(try_box::<_, S>(MaybeUninit::<Branch>::uninit())?).cast::<Branch>();
        // SAFETY: the branch belongs to the working version, which is alive and at rest; the copy is fresh and ours,
        // and a branch is plain data.
        unsafe {
            ptr::copy_nonoverlapping(branch, copy, 1);
            (*copy).head = Head::new((*branch).head.len, (*branch).head.height, free_branch);
            (*copy).start[slot] = child.start;
            (*copy).end[slot] = child.end;
            (*copy).gap[slot] = child.gap;
            (*copy).child[slot] = child.node;
        }
        self.replace(branch.cast());
        Ok(self.keep(copy.cast()))
    }
}
