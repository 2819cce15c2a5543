//! Entries: one name of one node each, and where that name is (Linux's dentries).
//!
//! Locks: `place`, for a few instructions.
//! Owns:  its node and the directory entry above it. Directories own the entries in them, so the tree is full of
//!        circles; they are opened when a name goes.
//!
//! E1. An entry that is somebody's child stands in that directory under that name; one that was removed does not.

use alloc::vec::Vec;
use core::mem;

use rumpvm::sync::{Atomic, Ordering, Spin, try_reserve};
use rumpvm::{Hold, NoMemory};
use rumpvm_platform::Platform;

use crate::class;
use crate::errno::Errno;
use crate::name::Name;
use crate::node::Node;

/// One name of a node.
pub struct Entry<P: Platform> {
    node: Hold<Node<P>, P>,
    place: Spin<Placed<P>, P>,
    /// Something is mounted here.
    is_covered: Atomic<u32, P>,
}

/// Where an entry is.
struct Placed<P: Platform> {
    place: Place<P>,
    /// The root of what is mounted here.
    cover: Option<Hold<Entry<P>, P>>,
}

enum Place<P: Platform> {
    /// Nowhere: the root of all, or without a name.
    Nowhere,
    /// The root of a volume, mounted on this.
    On(Hold<Entry<P>, P>),
    /// In a directory.
    Child { parent: Hold<Entry<P>, P>, name: Name },
    /// It was in a directory.
    Removed { parent: Hold<Entry<P>, P>, name: Name },
    /// It never had a place in the tree; the text is for `/proc`.
    Label(Name),
}

/// How far up a path goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    /// To the root that was given.
    Root,
    /// To another root: what was asked for lies outside.
    Elsewhere,
    /// It was removed on the way.
    Removed,
}

impl<P: Platform> Entry<P> {
    fn at(node: Hold<Node<P>, P>, place: Place<P>) -> Result<Hold<Self, P>, NoMemory> {
        let placed = Placed { place, cover: None };
        let place = Spin::new(&class::PLACE, placed);
        Hold::try_new(Self { node, place, is_covered: Atomic::new(0) })
    }

    /// The root of a volume.
    pub fn root(node: Hold<Node<P>, P>) -> Result<Hold<Self, P>, NoMemory> {
        Self::at(node, Place::Nowhere)
    }

    /// Something without a place in the tree; `label` is what `/proc` calls it.
    pub fn unnamed(node: Hold<Node<P>, P>, label: Name) -> Result<Hold<Self, P>, NoMemory> {
        Self::at(node, Place::Label(label))
    }

    /// `name` in `parent`, which does not have it yet (E1 is the caller's; directories that are made up have none).
    pub(crate) fn child(
        parent: &Hold<Self, P>,
        name: Name,
        node: Hold<Node<P>, P>,
    ) -> Result<Hold<Self, P>, NoMemory> {
        Self::at(node, Place::Child { parent: parent.clone(), name })
    }

    /// The file.
    pub fn node(&self) -> &Hold<Node<P>, P> {
        &self.node
    }

    /// Whether its name has gone.
    pub fn is_removed(&self) -> bool {
        matches!(self.place.lock().place, Place::Removed { .. })
    }

    /// Whether it has a place in the tree, or had one.
    pub fn has_place(&self) -> bool {
        !matches!(self.place.lock().place, Place::Label(_))
    }

    /// Calls `f` with its name.
    pub(crate) fn with_name<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        match &self.place.lock().place {
            Place::Child { name, .. } | Place::Removed { name, .. } | Place::Label(name) => f(name),
            Place::Nowhere | Place::On(_) => f(b""),
        }
    }

    /// The entry of the directory that it is in; of the root itself. Mounted volumes are looked through.
    pub fn parent(entry: &Hold<Self, P>) -> Hold<Self, P> {
        let mut at = entry.clone();
        loop {
            let up = match &at.place.lock().place {
                Place::Child { parent, .. } | Place::Removed { parent, .. } => {
                    return parent.clone();
                }
                Place::On(below) => Some(below.clone()),
                Place::Nowhere | Place::Label(_) => None,
            };
            match up {
                Some(below) => at = below,
                None => return at,
            }
        }
    }

    /// What is seen at its place: itself, or the root of what is mounted there.
    pub fn seen(entry: &Hold<Self, P>) -> Hold<Self, P> {
        let mut at = entry.clone();
        while at.is_covered.load(Ordering::Acquire) != 0 {
            let cover = at.place.lock().cover.clone();
            match cover {
                Some(cover) => at = cover,
                None => break,
            }
        }
        at
    }

    /// Whether something is mounted here.
    pub fn is_covered(&self) -> bool {
        self.is_covered.load(Ordering::Acquire) != 0
    }

    /// What it is mounted on, if it is the root of a volume.
    pub fn mounted_on(&self) -> Option<Hold<Self, P>> {
        match &self.place.lock().place {
            Place::On(below) => Some(below.clone()),
            _ => None,
        }
    }

    /// Mounts the volume of `root` here.
    pub(crate) fn cover(entry: &Hold<Self, P>, root: &Hold<Self, P>) {
        root.place.lock().place = Place::On(entry.clone());
        entry.place.lock().cover = Some(root.clone());
        entry.is_covered.store(1, Ordering::Release);
    }

    /// Takes away what is mounted here.
    pub(crate) fn uncover(&self) -> Option<Hold<Self, P>> {
        self.is_covered.store(0, Ordering::Release);
        let cover = self.place.lock().cover.take()?;
        let below = mem::replace(&mut cover.place.lock().place, Place::Nowhere);
        drop(below);
        Some(cover)
    }

    /// It stands in `parent` under `name` from now on; the directories are the caller's to change (E1).
    pub(crate) fn move_to(&self, parent: &Hold<Self, P>, name: Name) {
        let place = Place::Child { parent: parent.clone(), name };
        let before = mem::replace(&mut self.place.lock().place, place);
        drop(before);
    }

    /// Its name has gone from the directory.
    pub(crate) fn mark_removed(&self) {
        let mut placed = self.place.lock();
        placed.place = match mem::replace(&mut placed.place, Place::Nowhere) {
            Place::Child { parent, name } => Place::Removed { parent, name },
            other => other,
        };
    }

    /// Whether `self` is `other` or lies below it, in one volume.
    pub(crate) fn is_below(entry: &Hold<Self, P>, other: &Hold<Self, P>) -> bool {
        let mut at = entry.clone();
        loop {
            if at.is(other) {
                return true;
            }
            let parent = match &at.place.lock().place {
                Place::Child { parent, .. } | Place::Removed { parent, .. } => parent.clone(),
                Place::Nowhere | Place::On(_) | Place::Label(_) => return false,
            };
            at = parent;
        }
    }

    /// Appends its path as seen from `root` to `text`, and says how far it goes.
    pub fn path(
        entry: &Hold<Self, P>,
        root: &Hold<Self, P>,
        text: &mut Vec<u8>,
    ) -> Result<Reached, Errno> {
        let start = text.len();
        let mut reached = Reached::Root;
        // From its end to its beginning; turned round at last.
        let mut at = entry.clone();
        while !at.is(root) {
            let up = {
                let placed = at.place.lock();
                match &placed.place {
                    Place::Child { parent, name } | Place::Removed { parent, name } => {
                        if matches!(placed.place, Place::Removed { .. }) {
                            reached = Reached::Removed;
                        }
                        try_reserve::<_, P>(text, name.len() + 1)?;
                        text.extend(name.iter().rev());
                        text.push(b'/');
                        parent.clone()
                    }
                    Place::On(below) => below.clone(),
                    Place::Nowhere => {
                        reached =
                            if reached == Reached::Removed { reached } else { Reached::Elsewhere };
                        break;
                    }
                    Place::Label(label) => {
                        try_reserve::<_, P>(text, label.len())?;
                        text.extend(label.iter().rev());
                        break;
                    }
                }
            };
            at = up;
        }
        if text.len() == start {
            try_reserve::<_, P>(text, 1)?;
            text.push(b'/');
        }
        text[start..].reverse();
        Ok(reached)
    }
}

/// A chain of removed directories may be as long as somebody likes; it is taken apart from one end, not by recursion.
impl<P: Platform> Drop for Entry<P> {
    fn drop(&mut self) {
        let mut above = self.leave();
        while let Some(entry) = above {
            above = if entry.count() == 1 { entry.leave() } else { None };
        }
    }
}

impl<P: Platform> Entry<P> {
    fn leave(&self) -> Option<Hold<Self, P>> {
        match mem::replace(&mut self.place.lock().place, Place::Nowhere) {
            Place::Child { parent, .. } | Place::Removed { parent, .. } => Some(parent),
            Place::On(below) => Some(below),
            Place::Nowhere | Place::Label(_) => None,
        }
    }
}
