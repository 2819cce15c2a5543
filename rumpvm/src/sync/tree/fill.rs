//! Filling fresh leaves from left to right, with values that are new or moved.

use alloc::vec::{IntoIter, Vec};
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use super::Ranged;
use super::node::{Child, Head, Leaf, describe};

/// Leaves that are being filled from left to right.
pub(super) struct Fill<V> {
    pub(super) leaves: Vec<*mut Head>,
    pub(super) total: usize,
    pub(super) filled: usize,
    pub(super) values: PhantomData<V>,
}

impl<V: Ranged> Fill<V> {
    pub(super) fn put(&mut self, value: MaybeUninit<V>, fresh: bool) {
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
    pub(super) fn take(&mut self, from: *mut Head, which: core::ops::Range<usize>) {
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

    pub(super) fn extend(&mut self, new: &mut IntoIter<V>) {
        for value in new {
            self.put(MaybeUninit::new(value), true);
        }
    }

    /// Appends a description of each leaf; `leaves_for` made the room.
    pub(super) fn describe(self, out: &mut Vec<Child>) {
        debug_assert_eq!(self.filled, self.total);
        out.extend(self.leaves.iter().map(|leaf| describe::<V>(*leaf)));
    }
}

/// The part of `total` things that node `at` of `nodes` gets.
pub(super) fn share(total: usize, nodes: usize, at: usize) -> core::ops::Range<usize> {
    total * at / nodes..total * (at + 1) / nodes
}
