//! New names: mkdir, mknod, symlink, link, and the making part of open.

use rumpvm::Hold;
use rumpvm_platform::Platform;

use crate::access::{Capabilities, Rights};
use crate::entry::Entry;
use crate::errno::Errno;
use crate::name::{Name, PATH_MAX};
use crate::node::{Directory, FileType, Kind, Node, Regular, SET_GROUP};
use crate::pipe;
use crate::volume::{MountFlags, Volume};
use crate::walk::{End, Last, Spot, Walk, changeable};

/// Most names of one file; nobody gets there, but the count must not run over.
const MOST_LINKS: u32 = u32::MAX / 2;

impl<P: Platform> Walk<'_, P> {
    /// mkdir(2).
    pub fn mkdir(&self, path: &[u8], mode: u32) -> Result<Hold<Entry<P>, P>, Errno> {
        let spot = self.spot(path, Last::Stay)?;
        let made = |_: &Hold<Volume<P>, P>| Ok(Kind::Directory(Directory::new()));
        self.make(&spot, FileType::Directory, mode & 0o1777, made)
    }

    /// mknod(2), of a regular file, a pipe, or the device with that number.
    pub fn mknod(&self, path: &[u8], mode: u32, device: u64) -> Result<Hold<Entry<P>, P>, Errno> {
        let file_type = FileType::of_mode(mode).ok_or(Errno::EINVAL)?;
        match file_type {
            FileType::Directory | FileType::Link => return Err(Errno::EPERM),
            FileType::Character | FileType::Block if !self.who.can(Capabilities::MKNOD) => {
                return Err(Errno::EPERM);
            }
            _ => {}
        }
        let spot = self.spot(path, Last::Stay)?;
        let made = |volume: &Hold<Volume<P>, P>| match file_type {
            FileType::Regular => Ok(Kind::File(Regular::try_new(volume.services())?)),
            FileType::Pipe => Ok(Kind::Special(pipe::named()?)),
            _ => Ok(Kind::Device(device)),
        };
        self.make(&spot, file_type, mode, made)
    }

    /// symlink(2).
    pub fn symlink(&self, target: &[u8], path: &[u8]) -> Result<Hold<Entry<P>, P>, Errno> {
        match target.len() {
            0 => return Err(Errno::ENOENT),
            PATH_MAX.. => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        let spot = self.spot(path, Last::Stay)?;
        let made = |_: &Hold<Volume<P>, P>| Ok(Kind::Link(Name::try_new::<P>(target)?));
        self.make(&spot, FileType::Link, 0o777, made)
    }

    /// link(2): another name for what `old` names already.
    pub fn link(&self, old: &Hold<Entry<P>, P>, path: &[u8]) -> Result<(), Errno> {
        let spot = self.spot(path, Last::Stay)?;
        let name = new_name(&spot)?;
        let node = old.node();
        let parent = spot.parent.node();
        let directory = extendable(&spot.parent, name)?;
        let _changes = parent.volume().changes().lock();
        self.may_add(&spot, directory, name, FileType::Regular)?;
        if !Hold::is(parent.volume(), node.volume()) {
            return Err(Errno::EXDEV);
        }
        if node.is_directory() {
            return Err(Errno::EPERM);
        }
        // What has lost its last name gets no new one.
        if node.attributes().links == 0 {
            return Err(Errno::ENOENT);
        }
        if node.attributes().links >= MOST_LINKS {
            return Err(Errno::EMLINK);
        }
        directory.reserve(1)?;
        let entry = Entry::child(&spot.parent, name.clone(), node.clone())?;
        node.change(|attributes| attributes.links += 1);
        directory.add(entry);
        parent.note_change();
        Ok(())
    }

    /// An empty regular file, for open(2).
    pub(crate) fn make_file(&self, spot: &Spot<P>, mode: u32) -> Result<Hold<Entry<P>, P>, Errno> {
        let made =
            |volume: &Hold<Volume<P>, P>| Ok(Kind::File(Regular::try_new(volume.services())?));
        self.make(spot, FileType::Regular, mode, made)
    }

    /// Puts something new at `spot`, where nothing is yet.
    fn make(
        &self,
        spot: &Spot<P>,
        file_type: FileType,
        mode: u32,
        kind: impl FnOnce(&Hold<Volume<P>, P>) -> Result<Kind<P>, Errno>,
    ) -> Result<Hold<Entry<P>, P>, Errno> {
        let name = new_name(spot)?;
        let parent = spot.parent.node();
        let volume = parent.volume();
        let directory = extendable(&spot.parent, name)?;
        let _changes = volume.changes().lock();
        self.may_add(spot, directory, name, file_type)?;
        directory.reserve(1)?;
        let node = Node::try_new(volume, kind(volume)?, file_type, mode, self.who)?;
        let above = parent.attributes();
        if above.mode & SET_GROUP != 0 {
            node.change(|attributes| {
                attributes.group = above.group;
                if file_type == FileType::Directory {
                    attributes.mode |= SET_GROUP;
                }
            });
        }
        let entry = Entry::child(&spot.parent, name.clone(), node)?;
        directory.add(entry.clone());
        if file_type == FileType::Directory {
            parent.change(|attributes| attributes.links += 1);
        }
        parent.note_change();
        Ok(entry)
    }

    /// Checks that `name` can be added at `spot`, whose volume's changes the caller has locked.
    fn may_add(
        &self,
        spot: &Spot<P>,
        directory: &Directory<P>,
        name: &[u8],
        file_type: FileType,
    ) -> Result<(), Errno> {
        let parent = &spot.parent;
        if directory.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        // Only a directory's name may have a slash behind it.
        if spot.wants_directory && file_type != FileType::Directory {
            return Err(Errno::ENOENT);
        }
        if parent.node().volume().flags().contains(MountFlags::READ_ONLY) {
            return Err(Errno::EROFS);
        }
        if parent.is_removed() {
            return Err(Errno::ENOENT);
        }
        self.who.check(parent.node(), Rights::WRITE | Rights::EXECUTE)
    }
}

/// The directory in memory at `parent`, to which `name` is to be added.
fn extendable<'e, P: Platform>(
    parent: &'e Hold<Entry<P>, P>,
    name: &[u8],
) -> Result<&'e Directory<P>, Errno> {
    match changeable(parent, name) {
        // What is there already says so; what is made up has no room for more.
        Err(Errno::EPERM) => Err(Errno::EEXIST),
        Err(Errno::ENOENT) => Err(Errno::EPERM),
        outcome => outcome,
    }
}

/// The name that something new is to have. What a path that ends otherwise names is there already.
fn new_name<P: Platform>(spot: &Spot<P>) -> Result<&Name, Errno> {
    match &spot.end {
        End::Name(name) => Ok(name),
        End::Here | End::Up => Err(Errno::EEXIST),
    }
}
