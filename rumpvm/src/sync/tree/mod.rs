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

mod edit;
mod fill;
mod gaps;
mod node;
mod quick;

use core::marker::PhantomData;
use core::ops::ControlFlow;
use core::ptr;

use rumpvm_platform::Seam;

use super::epoch::Pin;
use super::seam::{Atomic, AtomicPtr, Ordering};
use gaps::GapSearch;
use node::{Branch, Head, Leaf, bits, leaf_values, rank, visit_node};

pub use edit::Edit;

/// Something that covers a half-open range of keys. The range of a value in a tree must not change.
pub trait Ranged {
    /// First key.
    fn start(&self) -> u64;
    /// One past the last key.
    fn end(&self) -> u64;
}

/// The tree.
pub struct Tree<V, S> {
    root: AtomicPtr<Head, S>,
    count: Atomic<u64, S>,
    owns: PhantomData<V>,
}

/// The right to change one tree. Keep it behind the lock that serializes writers.
pub struct Writer(());

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
            let rank = values.partition_point(|value| value.start() <= key);
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
        let root = self.root.take();
        if !root.is_null() {
            // SAFETY: the tree is being dropped, so nobody reads it.
            unsafe { free::<V>(root) };
        }
    }
}

#[cfg(test)]
mod tests;
