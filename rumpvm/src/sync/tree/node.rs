//! Nodes of the tree: layout, reading, and how each kind is freed.

use alloc::boxed::Box;
use core::mem::MaybeUninit;
use core::ops::ControlFlow;
use core::ptr;

use super::Ranged;
use crate::sync::epoch::Retired;

/// Values of a leaf, children of a branch: 16 starts are two cache lines, and compare without a branch.
pub(super) const FANOUT: usize = 16;

#[repr(C)]
pub(super) struct Head {
    pub(super) retired: Retired,
    /// Next of the nodes that an edit has built.
    pub(super) next_built: *mut Head,
    pub(super) len: u16,
    /// 0 for a leaf.
    pub(super) height: u16,
}

#[repr(C)]
pub(super) struct Leaf<V> {
    pub(super) head: Head,
    /// Values that came in with the edit that is under way.
    pub(super) fresh: u16,
    /// Values that leave with this leaf.
    pub(super) dead: u16,
    pub(super) values: [MaybeUninit<V>; FANOUT],
}

#[repr(C)]
pub(super) struct Branch {
    pub(super) head: Head,
    /// First key of each child; beyond `len` the largest key, so that ranking needs no bound.
    pub(super) start: [u64; FANOUT],
    pub(super) end: [u64; FANOUT],
    /// Largest hole between two values below each child.
    pub(super) gap: [u64; FANOUT],
    pub(super) child: [*mut Head; FANOUT],
}

/// A child as its parent describes it.
#[derive(Clone, Copy)]
pub(super) struct Child {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) gap: u64,
    pub(super) node: *mut Head,
}

/// How many of `starts` are at or below `key`. Halving without a branch that could be guessed wrong.
#[inline]
pub(super) fn rank(starts: &[u64; FANOUT], key: u64) -> usize {
    let mut rank = 0;
    for half in [8, 4, 2, 1] {
        rank += if starts[rank + half - 1] <= key { half } else { 0 };
    }
    rank + usize::from(starts[rank] <= key)
}

const _: () = assert!(FANOUT == 16, "`rank` halves it four times");

/// The values of a leaf.
///
/// # Safety
/// `node` is a live leaf of a tree of `V`, and its values stay where they are for `'g`.
pub(super) unsafe fn leaf_values<'g, V>(node: *mut Head) -> &'g [V] {
    let leaf = node.cast::<Leaf<V>>();
    // SAFETY: by the caller's promise; the first `len` values are initialized (T1).
    unsafe {
        let first = (&raw const (*leaf).values).cast::<V>();
        core::slice::from_raw_parts(first, (*node).len as usize)
    }
}

/// # Safety
/// `node` is null, or alive and at rest with all below it for the length of the call.
pub(super) unsafe fn visit_node<V: Ranged, R>(
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
            let values = leaf_values::<V>(node);
            let first = values.partition_point(|value| value.end() <= lo);
            for value in values[first..].iter().take_while(|value| value.start() < hi) {
                f(value)?;
            }
            return ControlFlow::Continue(());
        }
        let (branch, len) = (&*node.cast::<Branch>(), (*node).len as usize);
        let first = branch.end[..len].partition_point(|end| *end <= lo);
        for at in (first..len).take_while(|at| branch.start[*at] < hi) {
            visit_node(branch.child[at], lo, hi, f)?;
        }
    }
    ControlFlow::Continue(())
}

impl Head {
    pub(super) fn new(len: u16, height: u16, free: unsafe fn(*mut Retired)) -> Self {
        Self { retired: Retired::new(free), next_built: ptr::null_mut(), len, height }
    }
}

impl Branch {
    pub(super) fn describe(&self, at: usize) -> Child {
        let (start, end) = (self.start[at], self.end[at]);
        Child { start, end, gap: self.gap[at], node: self.child[at] }
    }
}

/// What a parent has to know of `node`, which is alive and not empty.
pub(super) fn describe<V: Ranged>(node: *mut Head) -> Child {
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
        let mut gap = branch.gap[0];
        let later = branch.start[1..len].iter().zip(&branch.gap[1..len]);
        for ((start, below), end_before) in later.zip(&branch.end) {
            gap = gap.max(*below).max(start - end_before);
        }
        Child { start: branch.start[0], end: branch.end[len - 1], gap, node }
    }
}

/// # Safety
/// `record` is a leaf of a tree of `V` that nobody else has any more.
pub(super) unsafe fn free_leaf<V>(record: *mut Retired) {
    // SAFETY: by the caller's promise; leaves come out of a `Box`, and dead values are initialized and
    // nowhere else (T3).
    unsafe {
        let mut leaf = Box::from_raw(record.cast::<Leaf<V>>());
        let mut dead = leaf.dead;
        while dead != 0 {
            leaf.values[dead.trailing_zeros() as usize].assume_init_drop();
            dead &= dead - 1;
        }
    }
}

/// # Safety
/// `record` is a branch that nobody else has any more.
pub(super) unsafe fn free_branch(record: *mut Retired) {
    // SAFETY: by the caller's promise; branches come out of a `Box`.
    drop(unsafe { Box::from_raw(record.cast::<Branch>()) });
}

/// A bit for each index in `range`.
pub(super) fn bits(range: core::ops::Range<usize>) -> u16 {
    let below = |end: usize| ((1u32 << end) - 1) as u16;
    below(range.end) & !below(range.start)
}
