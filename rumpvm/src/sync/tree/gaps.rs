//! Searching for holes, from the top down.

use super::Ranged;
use super::node::{Branch, Head, leaf_values};

pub(super) struct GapSearch<'f, F> {
    pub(super) lo: u64,
    pub(super) hi: u64,
    pub(super) need: u64,
    /// Start of the lowest value seen so far: the top of the next hole.
    pub(super) ceiling: u64,
    pub(super) f: &'f mut F,
}

impl<R, F: FnMut(u64, u64) -> Option<R>> GapSearch<'_, F> {
    /// The hole from `floor` to the ceiling.
    pub(super) fn test(&mut self, floor: u64) -> Option<R> {
        let floor = floor.max(self.lo);
        if floor < self.ceiling && self.ceiling - floor >= self.need {
            return (self.f)(floor, self.ceiling);
        }
        None
    }

    /// # Safety
    /// `node` is alive and at rest with all below it.
    pub(super) unsafe fn node<V: Ranged>(&mut self, node: *mut Head) -> Option<R> {
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
