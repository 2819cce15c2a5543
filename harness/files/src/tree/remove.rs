//! Names that go: unlink, rmdir.

use rumpvm_platform::Platform;

use crate::access::{Capabilities, Rights};
use crate::errno::Errno;
use crate::node::{Node, STICKY};
use crate::volume::MountFlags;
use crate::walk::{End, Last, Walk, changeable};

impl<P: Platform> Walk<'_, P> {
    /// unlink(2).
    pub fn unlink(&self, path: &[u8]) -> Result<(), Errno> {
        let spot = self.spot(path, Last::Stay)?;
        let End::Name(name) = &spot.end else { return Err(Errno::EISDIR) };
        let parent = spot.parent.node();
        let directory = changeable(&spot.parent, name)?;
        let changes = parent.volume().changes().lock();
        let entry = directory.get(name).ok_or(Errno::ENOENT)?;
        let node = entry.node();
        if spot.wants_directory && !node.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.may_remove(parent, node)?;
        if node.is_directory() {
            return Err(Errno::EISDIR);
        }
        if entry.is_covered() {
            return Err(Errno::EBUSY);
        }
        let removed = directory.remove(name);
        entry.mark_removed();
        node.change(|attributes| attributes.links = attributes.links.saturating_sub(1));
        parent.note_change();
        drop(changes);
        // The file may end here, and its pages take a while.
        drop(removed);
        Ok(())
    }

    /// rmdir(2).
    pub fn rmdir(&self, path: &[u8]) -> Result<(), Errno> {
        let spot = self.spot(path, Last::Stay)?;
        let name = match &spot.end {
            End::Name(name) => name,
            // The root, `.`, and `..`, which is not empty.
            End::Here if path.iter().all(|byte| *byte == b'/') => return Err(Errno::EBUSY),
            End::Here => return Err(Errno::EINVAL),
            End::Up => return Err(Errno::ENOTEMPTY),
        };
        let parent = spot.parent.node();
        let directory = changeable(&spot.parent, name)?;
        let changes = parent.volume().changes().lock();
        let entry = directory.get(name).ok_or(Errno::ENOENT)?;
        let node = entry.node();
        self.may_remove(parent, node)?;
        if !node.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if entry.is_covered() {
            return Err(Errno::EBUSY);
        }
        if node.directory().is_none_or(|names| !names.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        let removed = directory.remove(name);
        entry.mark_removed();
        node.change(|attributes| attributes.links = 0);
        parent.change(|attributes| attributes.links -= 1);
        parent.note_change();
        drop(changes);
        drop(removed);
        Ok(())
    }

    /// Checks that the name of `node` can be taken out of `above`: who writes there may, and in a sticky directory only
    /// the owners of one of both.
    pub(crate) fn may_remove(&self, above: &Node<P>, node: &Node<P>) -> Result<(), Errno> {
        self.who.check(above, Rights::WRITE | Rights::EXECUTE)?;
        let attributes = above.attributes();
        let owns = self.who.user == attributes.user || self.who.owns(&node.attributes());
        if attributes.mode & STICKY != 0 && !owns && !self.who.can(Capabilities::FOWNER) {
            return Err(Errno::EPERM);
        }
        if above.volume().flags().contains(MountFlags::READ_ONLY) {
            return Err(Errno::EROFS);
        }
        Ok(())
    }
}
