//! Walks over all that a tree names.

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::leaf::Slot;
use super::node::{Link, span};
use super::{Radix, SLOTS};
use crate::phys::Phys;
use crate::sync::{Ordering, Pin};

impl<P: Platform> Radix<P> {
    /// Calls `f` with every page in `lo..hi`, in order, until it returns false. Takes no lock: what
    /// changes meanwhile may be seen or not.
    pub fn for_each(
        &self,
        phys: &Phys<P>,
        pin: &Pin<'_, P>,
        range: (u64, u64),
        mut f: impl FnMut(u64, Frame) -> bool,
    ) {
        self.for_each_slot(phys, pin, range, |index, slot| match slot {
            Slot::Page(frame) => f(index, frame),
            Slot::Empty | Slot::Guard => true,
        });
    }

    /// As [`Radix::for_each`], with every slot that is not empty.
    pub fn for_each_slot(
        &self,
        phys: &Phys<P>,
        _pin: &Pin<'_, P>,
        (lo, hi): (u64, u64),
        mut f: impl FnMut(u64, Slot) -> bool,
    ) {
        fn walk<P: Platform>(
            phys: &Phys<P>,
            node: Link,
            base: u64,
            (lo, hi): (u64, u64),
            f: &mut impl FnMut(u64, Slot) -> bool,
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
                    (_, None) => f(index, Slot::decode(word)),
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
                    (None, Slot::Empty | Slot::Guard) => {}
                }
            }
        }
        if let Some(root) = Link::root(self.root.load(Ordering::Acquire)) {
            walk(phys, root, enter, named);
        }
    }
}
