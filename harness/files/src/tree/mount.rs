//! Mounting: whole volumes that take the place of a directory.
//!
//! Locks: `mounts`, all the while.

use alloc::vec::Vec;

use rumpvm::Hold;
use rumpvm::sync::{try_push, try_reserve};
use rumpvm_platform::Platform;

use super::Tree;
use crate::entry::Entry;
use crate::errno::Errno;
use crate::name::Name;
use crate::node::Node;
use crate::volume::MountFlags;

/// A volume that is mounted.
pub struct Mounted<P: Platform> {
    /// What mount(2) was told to mount.
    pub source: Name,
    /// Its root.
    pub root: Hold<Entry<P>, P>,
}

/// What umount2(2) is to do with a volume that is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unmount {
    /// Leave it.
    IfIdle,
    /// Take it out of the tree; open files live on.
    Detach,
}

impl<P: Platform> Tree<P> {
    /// Mounts the volume whose root is `root` on `at`, which is what a walk found: on top of what is mounted there.
    pub fn mount(
        &self,
        at: &Hold<Entry<P>, P>,
        root: Hold<Entry<P>, P>,
        source: &[u8],
        flags: MountFlags,
    ) -> Result<(), Errno> {
        if !at.node().is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if at.is_removed() {
            return Err(Errno::ENOENT);
        }
        let source = Name::try_new::<P>(source)?;
        let mut mounts = self.mounts.lock();
        if at.is_covered() {
            return Err(Errno::EBUSY);
        }
        try_reserve::<_, P>(&mut mounts, 1)?;
        root.node().volume().set_flags(flags);
        Entry::cover(at, &root);
        mounts.push(Mounted { source, root });
        Ok(())
    }

    /// Unmounts the volume whose root is `root`; [`Errno::EINVAL`] if it is not the root of one, [`Errno::EBUSY`] if
    /// something is mounted in it or, unless it is detached, if a file of it is in use.
    pub fn unmount(&self, root: &Hold<Entry<P>, P>, how: Unmount) -> Result<(), Errno> {
        let below = root.mounted_on().ok_or(Errno::EINVAL)?;
        let volume = root.node().volume();
        let mut mounts = self.mounts.lock();
        let at = mounts.iter().position(|mount| mount.root.is(root)).ok_or(Errno::EINVAL)?;
        let is_in = |mount: &Mounted<P>| {
            let below = mount.root.mounted_on();
            below.is_some_and(|below| Hold::is(below.node().volume(), volume))
        };
        if mounts.iter().any(is_in) {
            return Err(Errno::EBUSY);
        }
        let changes = volume.changes().lock();
        if how == Unmount::IfIdle && is_in_use(root)? {
            return Err(Errno::EBUSY);
        }
        let cover = below.uncover();
        let mount = mounts.remove(at);
        drop(changes);
        drop(mounts);
        drop((cover, mount));
        empty(root);
        Ok(())
    }

    /// Calls `f` with every volume that is mounted, but for the root.
    pub fn for_each_mount(&self, mut f: impl FnMut(&Mounted<P>)) {
        self.mounts.lock().iter().for_each(&mut f);
    }
}

/// Whether anybody but the tree itself holds something below `root`, whose volume does not change meanwhile. The root is
/// held by the caller, the list of mounts, and what it covers.
fn is_in_use<P: Platform>(root: &Hold<Entry<P>, P>) -> Result<bool, Errno> {
    const OF_ROOT: u64 = 3;
    let mut waiting = Vec::new();
    try_push::<_, P>(&mut waiting, root.clone())?;
    while let Some(entry) = waiting.pop() {
        let node = entry.node();
        let mut children = 0;
        let mut failed = false;
        if let Some(directory) = node.directory() {
            directory.for_each(|child| {
                children += 1;
                failed |= try_push::<_, P>(&mut waiting, child.clone()).is_err();
            });
        }
        if failed {
            return Err(Errno::ENOMEM);
        }
        // Each child names its parent; its directory names it; we do.
        let own = if entry.is(root) { OF_ROOT } else { 1 };
        if entry.count() > children + own + 1 || is_node_in_use(node) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_node_in_use<P: Platform>(node: &Hold<Node<P>, P>) -> bool {
    let names = if node.is_directory() { 1 } else { u64::from(node.attributes().links) };
    let is_mapped = node.regular().is_some_and(|regular| regular.object().users() > 1);
    is_mapped || node.count() > names
}

/// Opens the circles of the tree below `root`, one entry after the other, so that all memory comes back.
fn empty<P: Platform>(root: &Hold<Entry<P>, P>) {
    let mut at = root.clone();
    loop {
        let child = at.node().directory().and_then(|directory| directory.pop());
        let Some(child) = child else {
            if at.is(root) {
                return;
            }
            let parent = Entry::parent(&at);
            at.mark_removed();
            at = parent;
            continue;
        };
        if child.node().is_directory() {
            at = child;
        } else {
            child.mark_removed();
        }
    }
}
