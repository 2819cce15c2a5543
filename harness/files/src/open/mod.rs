//! Open files: what a descriptor stands for, shared by all its copies.
//!
//! | file | what |
//! |---|---|
//! | `by_path` | open(2): from a path and flags to an open file |
//! | `data` | read, write, seek, truncate, ioctl, what mmap maps |
//!
//! Locks: `position`, while bytes move from or to something that has one.
//! Sleep: as what stands behind it does.
//! Owns:  the entry, hence the node.

mod by_path;
mod data;
mod flags;

use alloc::boxed::Box;
use core::any::Any;

use rumpvm::Hold;
use rumpvm::sync::{Atomic, Mutex, Ordering};
use rumpvm_platform::Platform;

pub use data::Whence;
pub use flags::OpenFlags;

use crate::access::{Capabilities, Credentials, Rights};
use crate::class;
use crate::entry::Entry;
use crate::errno::Errno;
use crate::lock::Owner;
use crate::name::Name;
use crate::node::{Call, FileType, Kind, Node, Ready, Regular, Special, driver};
use crate::volume::{MountFlags, Volume};
use crate::wait::Waker;

/// An open file.
pub struct Open<P: Platform> {
    entry: Hold<Entry<P>, P>,
    behind: Behind<P>,
    rights: Rights,
    /// [`OpenFlags`] as they are now.
    flags: Atomic<u32, P>,
    /// Where the next read or write begins; in a directory, the cookie of the name that came last.
    position: Mutex<u64, P>,
    /// As whose locks of flock(2) are noted, and those that fcntl(2) calls open file description locks.
    owner: Owner,
    /// Who opened it may write without taking set-user-id bits away.
    keeps_privileges: bool,
}

/// What answers for an open file.
enum Behind<P: Platform> {
    /// The node.
    Node,
    /// Something made for this open file.
    Own(Box<dyn Special<P>>),
    /// Nothing: it only names its file.
    Path,
}

impl<P: Platform> Open<P> {
    /// Opens what `entry` names, with rights that have been checked. A pipe with a name waits for its other side.
    pub fn try_new(
        entry: Hold<Entry<P>, P>,
        flags: OpenFlags,
        who: &Credentials,
        waker: &Hold<Waker<P>, P>,
    ) -> Result<Hold<Self, P>, Errno> {
        let node = entry.node();
        let rights = flags.rights();
        let call = Call { waker, nonblocking: flags.contains(OpenFlags::NONBLOCK) };
        let no_devices = node.volume().flags().contains(MountFlags::NO_DEVICES);
        let behind = match node.kind() {
            _ if flags.contains(OpenFlags::PATH) => Behind::Path,
            Kind::File(_) | Kind::Directory(_) | Kind::Listing(_) => Behind::Node,
            Kind::Link(_) | Kind::Jump(_) => return Err(Errno::ELOOP),
            Kind::Device(_) if no_devices => return Err(Errno::EACCES),
            Kind::Device(number) => {
                let device = driver(node.services(), node.file_type(), *number)?;
                Behind::Own(device.opened(&call, rights)?.unwrap_or(device))
            }
            Kind::Special(special) => match special.opened(&call, rights)? {
                Some(own) => Behind::Own(own),
                None => Behind::Node,
            },
        };
        Self::behind(entry, behind, flags, who)
    }

    /// Something without a name: a new node of `volume`, already opened with the rights that `flags` give.
    pub fn unnamed(
        volume: &Hold<Volume<P>, P>,
        file_type: FileType,
        special: Box<dyn Special<P>>,
        label: &[u8],
        flags: OpenFlags,
        who: &Credentials,
    ) -> Result<Hold<Self, P>, Errno> {
        let node = Node::try_new(volume, Kind::Special(special), file_type, 0o600, who)?;
        let entry = Entry::unnamed(node, Name::try_new::<P>(label)?)?;
        Self::opened(entry, flags, who)
    }

    /// An open file of `entry`, whose special file, if it is one, counts it already.
    pub(crate) fn opened(
        entry: Hold<Entry<P>, P>,
        flags: OpenFlags,
        who: &Credentials,
    ) -> Result<Hold<Self, P>, Errno> {
        Self::behind(entry, Behind::Node, flags, who)
    }

    /// If there is no memory for it, what was opened is closed again.
    fn behind(
        entry: Hold<Entry<P>, P>,
        behind: Behind<P>,
        flags: OpenFlags,
        who: &Credentials,
    ) -> Result<Hold<Self, P>, Errno> {
        let rights = flags.rights();
        if let Some(regular) = written(&entry, rights) {
            regular.users().begin_writing()?;
        }
        Ok(Hold::try_new(Self {
            entry,
            behind,
            rights,
            flags: Atomic::new((flags & OpenFlags::KEPT).bits()),
            position: Mutex::new(&class::POSITION, 0),
            owner: Owner::new(),
            keeps_privileges: who.can(Capabilities::FSETID),
        })?)
    }

    /// What it was opened by.
    pub fn entry(&self) -> &Hold<Entry<P>, P> {
        &self.entry
    }

    /// The file.
    pub fn node(&self) -> &Hold<Node<P>, P> {
        self.entry.node()
    }

    /// What it was opened for: reading, writing, both, neither.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Its flags as they are now, for `F_GETFL`.
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Acquire))
    }

    /// Changes those flags that can be changed: `F_SETFL`.
    pub fn set_flags(&self, flags: OpenFlags) {
        let kept = self.flags() - OpenFlags::CHANGEABLE;
        let flags = kept | (flags & OpenFlags::CHANGEABLE);
        self.flags.store(flags.bits(), Ordering::Release);
    }

    /// Whether it only names its file, `O_PATH`.
    pub fn is_path(&self) -> bool {
        matches!(self.behind, Behind::Path)
    }

    /// Whose locks are those of the open file itself.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn position(&self) -> &Mutex<u64, P> {
        &self.position
    }

    /// What could be done with it at once.
    pub fn ready(&self) -> Ready {
        match self.driver() {
            Some(special) => special.ready(self.rights),
            None if self.is_path() => Ready::INVALID,
            None => Ready::ALWAYS,
        }
    }

    /// The special file behind it, if it is a `T`.
    pub fn special<T: Any>(&self) -> Option<&T> {
        self.driver()?.as_any()?.downcast_ref()
    }

    /// The special file behind it.
    pub(crate) fn driver(&self) -> Option<&dyn Special<P>> {
        match (&self.behind, self.node().kind()) {
            (Behind::Own(special), _) => Some(&**special),
            (Behind::Node, Kind::Special(special)) => Some(&**special),
            _ => None,
        }
    }
}

impl<P: Platform> Drop for Open<P> {
    fn drop(&mut self) {
        self.node().forget_locks(self.owner);
        if let Some(special) = self.driver() {
            special.closed(self.rights);
        }
        if let Some(regular) = written(&self.entry, self.rights) {
            regular.users().end_writing();
        }
    }
}

/// The regular file that somebody with these rights could write.
fn written<P: Platform>(entry: &Entry<P>, rights: Rights) -> Option<&Regular<P>> {
    entry.node().regular().filter(|_| rights.contains(Rights::WRITE))
}
