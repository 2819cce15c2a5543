//! open(2): from a path and flags to an open file, which is made if that is asked for.

use rumpvm::Hold;
use rumpvm_platform::Platform;

use super::{Open, OpenFlags};
use crate::access::Rights;
use crate::entry::Entry;
use crate::errno::Errno;
use crate::name::Name;
use crate::node::{FileType, Kind, Node, Regular};
use crate::volume::MountFlags;
use crate::wait::Waker;
use crate::walk::{End, Last, Walk, look_up};

/// What the walk came to.
struct Reached<P: Platform> {
    entry: Hold<Entry<P>, P>,
    /// It was made on the way, so whoever made it may do what he asked for.
    is_new: bool,
}

impl<P: Platform> Walk<'_, P> {
    /// open(2), openat(2). `mode` is that of a new file, the process's mask taken off already. Waits only for the
    /// other side of a pipe.
    pub fn open(
        &self,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
        waker: &Hold<Waker<P>, P>,
    ) -> Result<Hold<Open<P>, P>, Errno> {
        // Every file may be large here, and Linux says so.
        let flags = flags | OpenFlags::LARGE;
        let last = if flags.contains(OpenFlags::NO_FOLLOW) { Last::Stay } else { Last::Follow };
        if flags.contains(OpenFlags::PATH) {
            let entry = self.find(path, last)?;
            if flags.contains(OpenFlags::DIRECTORY) && !entry.node().is_directory() {
                return Err(Errno::ENOTDIR);
            }
            return Open::try_new(entry, flags, self.who, waker);
        }
        if flags.contains(OpenFlags::TEMPORARY) {
            return self.temporary(path, flags, mode);
        }
        let reached = match flags.contains(OpenFlags::CREATE) {
            true if flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::EINVAL),
            true => self.reach_or_make(path, flags, mode, last)?,
            false => Reached { entry: self.find(path, last)?, is_new: false },
        };
        let Reached { entry, is_new } = reached;
        if !is_new {
            self.may_open(entry.node(), flags)?;
        }
        let open = Open::try_new(entry, flags, self.who, waker)?;
        if flags.contains(OpenFlags::TRUNCATE)
            && !is_new
            && let Some(regular) = open.node().regular()
        {
            regular.resize(0)?;
            open.node().note_change();
        }
        Ok(open)
    }

    /// Opens what was found before, as exec does and `/proc` wants: with all checks, and nothing made or cut off.
    pub fn open_entry(
        &self,
        entry: &Hold<Entry<P>, P>,
        flags: OpenFlags,
        waker: &Hold<Waker<P>, P>,
    ) -> Result<Hold<Open<P>, P>, Errno> {
        self.may_open(entry.node(), flags)?;
        Open::try_new(entry.clone(), flags, self.who, waker)
    }

    fn reach_or_make(
        &self,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
        last: Last,
    ) -> Result<Reached<P>, Errno> {
        let exclusive = flags.contains(OpenFlags::EXCLUSIVE);
        let spot = self.spot(path, if exclusive { Last::Stay } else { last })?;
        let name = match &spot.end {
            End::Name(name) => name,
            // What is there cannot be made, and a directory cannot be written.
            End::Here | End::Up if exclusive => return Err(Errno::EEXIST),
            End::Here if !spot.parent.node().is_directory() => {
                return Ok(Reached { entry: spot.parent, is_new: false });
            }
            End::Here | End::Up => return Err(Errno::EISDIR),
        };
        if spot.wants_directory {
            return Err(Errno::EISDIR);
        }
        loop {
            match look_up(&spot.parent, name)? {
                Some(_) if exclusive => return Err(Errno::EEXIST),
                Some(entry) => return Ok(Reached { entry: Entry::seen(&entry), is_new: false }),
                None => {}
            }
            match self.make_file(&spot, mode) {
                Ok(entry) => return Ok(Reached { entry, is_new: true }),
                // Somebody was quicker.
                Err(Errno::EEXIST) if !exclusive => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn may_open(&self, node: &Node<P>, flags: OpenFlags) -> Result<(), Errno> {
        let (needs, is_directory) = (flags.needs(), node.is_directory());
        let writes = needs.contains(Rights::WRITE);
        if is_directory && flags.contains(OpenFlags::CREATE) {
            return Err(Errno::EISDIR);
        }
        if flags.contains(OpenFlags::DIRECTORY) && !is_directory {
            return Err(Errno::ENOTDIR);
        }
        if matches!(node.kind(), Kind::Link(_) | Kind::Jump(_)) {
            return Err(Errno::ELOOP);
        }
        if is_directory && writes {
            return Err(Errno::EISDIR);
        }
        let is_read_only = node.volume().flags().contains(MountFlags::READ_ONLY);
        if writes && is_read_only && node.regular().is_some() {
            return Err(Errno::EROFS);
        }
        self.who.check(node, needs)?;
        if flags.contains(OpenFlags::NO_ACCESS_TIME) && !self.who.owns(&node.attributes()) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// A file without a name in the volume of a directory, `O_TMPFILE`.
    fn temporary(
        &self,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Hold<Open<P>, P>, Errno> {
        if !flags.contains(OpenFlags::DIRECTORY) || !flags.rights().contains(Rights::WRITE) {
            return Err(Errno::EINVAL);
        }
        let above = self.find(path, Last::Follow)?;
        let volume = above.node().volume();
        if !above.node().is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.who.check(above.node(), Rights::WRITE | Rights::EXECUTE)?;
        if volume.flags().contains(MountFlags::READ_ONLY) {
            return Err(Errno::EROFS);
        }
        let kind = Kind::File(Regular::try_new(volume.services())?);
        let node = Node::try_new(volume, kind, FileType::Regular, mode, self.who)?;
        node.change(|attributes| attributes.links = 0);
        let entry = Entry::unnamed(node, Name::try_new::<P>(b"/(deleted)")?)?;
        Open::opened(entry, flags, self.who)
    }
}
