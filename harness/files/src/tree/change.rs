//! Attributes: chmod, chown, truncate, utimensat, access, readlink. All work on an entry that a walk has found.

use alloc::vec::Vec;

use rumpvm_platform::Platform;

use crate::access::{Capabilities, Credentials, Rights};
use crate::entry::Entry;
use crate::errno::Errno;
use crate::node::{Kind, Node, SET_GROUP};
use crate::services::Time;
use crate::volume::MountFlags;

/// Who is to own a file; `None` leaves that part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owner {
    /// User.
    pub user: Option<u32>,
    /// Group.
    pub group: Option<u32>,
}

/// What a time is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// As it is (`UTIME_OMIT`).
    Same,
    /// The time of day (`UTIME_NOW`).
    Now,
    /// This.
    At(Time),
}

impl<P: Platform> Entry<P> {
    /// chmod(2).
    pub fn chmod(&self, who: &Credentials, mode: u32) -> Result<(), Errno> {
        let node = self.writable_volume()?;
        if matches!(node.kind(), Kind::Link(_) | Kind::Jump(_)) {
            return Err(Errno::EOPNOTSUPP);
        }
        node.change(|attributes| {
            if !who.owns(attributes) {
                return Err(Errno::EPERM);
            }
            attributes.mode = mode & 0o7777;
            if !who.is_in(attributes.group) && !who.can(Capabilities::FSETID) {
                attributes.mode &= !SET_GROUP;
            }
            Ok(())
        })
    }

    /// chown(2). Who is not allowed to give files away may give his own to his groups.
    pub fn chown(&self, who: &Credentials, owner: Owner) -> Result<(), Errno> {
        let node = self.writable_volume()?;
        let is_directory = node.is_directory();
        node.change(|attributes| {
            let user = owner.user.unwrap_or(attributes.user);
            let group = owner.group.unwrap_or(attributes.group);
            let owns = who.user == attributes.user;
            let keeps_user = owns && user == attributes.user;
            let may_group = owner.group.is_none() || who.is_in(group) || group == attributes.group;
            let allowed = (keeps_user && may_group) || owner == Owner::default();
            if !allowed && !who.can(Capabilities::CHOWN) {
                return Err(Errno::EPERM);
            }
            (attributes.user, attributes.group) = (user, group);
            if !is_directory && owner != Owner::default() {
                attributes.drop_privileges();
            }
            Ok(())
        })
    }

    /// utimensat(2): when it was last accessed and modified.
    pub fn set_times(
        &self,
        who: &Credentials,
        accessed: When,
        modified: When,
    ) -> Result<(), Errno> {
        if (accessed, modified) == (When::Same, When::Same) {
            return Ok(());
        }
        let node = self.writable_volume()?;
        let owns = who.owns(&node.attributes());
        match (accessed, modified) {
            _ if owns => {}
            (When::Now, When::Now) => who.check(node, Rights::WRITE)?,
            _ => return Err(Errno::EPERM),
        }
        let now = (node.services().now)();
        let time = |when, before| match when {
            When::Same => before,
            When::Now => now,
            When::At(time) => time,
        };
        node.change(|attributes| {
            attributes.accessed = time(accessed, attributes.accessed);
            attributes.modified = time(modified, attributes.modified);
        });
        Ok(())
    }

    /// truncate(2).
    pub fn truncate(&self, who: &Credentials, bytes: u64) -> Result<(), Errno> {
        if self.node().is_directory() {
            return Err(Errno::EISDIR);
        }
        let regular = self.node().regular().ok_or(Errno::EINVAL)?;
        who.check(self.node(), Rights::WRITE)?;
        let node = self.writable_volume()?;
        regular.users().begin_writing()?;
        let resized = regular.resize(bytes);
        regular.users().end_writing();
        resized?;
        node.note_change();
        if !who.can(Capabilities::FSETID) {
            node.change(|attributes| attributes.drop_privileges());
        }
        Ok(())
    }

    /// access(2), for whoever `who` says.
    pub fn access(&self, who: &Credentials, wanted: Rights) -> Result<(), Errno> {
        let flags = self.node().volume().flags();
        let is_device = matches!(self.node().kind(), Kind::Device(_) | Kind::Special(_));
        if wanted.contains(Rights::WRITE) && flags.contains(MountFlags::READ_ONLY) && !is_device {
            return Err(Errno::EROFS);
        }
        if wanted.is_empty() { Ok(()) } else { who.check(self.node(), wanted) }
    }

    /// readlink(2): calls `f` with the text.
    pub fn read_link<T>(&self, f: impl FnOnce(&[u8]) -> T) -> Result<T, Errno> {
        match self.node().kind() {
            Kind::Link(target) => Ok(f(target)),
            Kind::Jump(jump) => {
                let text: Vec<u8> = jump.text()?;
                Ok(f(&text))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn writable_volume(&self) -> Result<&Node<P>, Errno> {
        if self.node().volume().flags().contains(MountFlags::READ_ONLY) {
            return Err(Errno::EROFS);
        }
        Ok(self.node())
    }
}
