//! The tree: every volume that is mounted, under one root; and the calls that change names and attributes.
//!
//! | file | calls |
//! |---|---|
//! | `make` | mkdir, mknod, symlink, link, creat |
//! | `remove` | unlink, rmdir |
//! | `rename` | rename, with its flags |
//! | `change` | chmod, chown, truncate, utimensat, access, readlink |
//! | `mount` | mount and umount of volumes |
//!
//! Locks: a volume's `changes`, by whoever changes its names, from the look to the end.
//! Owns:  the root, and the volume of what has no name.
//!
//! T1. A change that fails has changed nothing: room is made first, and what follows cannot fail.

mod change;
mod make;
mod mount;
mod remove;
mod rename;

use alloc::vec::Vec;

use rumpvm::Hold;
use rumpvm::sync::{Atomic, Mutex, Ordering};
use rumpvm_platform::Platform;

pub use change::{Owner, When};
pub use mount::{Mounted, Unmount};
pub use rename::RenameFlags;

use crate::access::Credentials;
use crate::class;
use crate::entry::Entry;
use crate::errno::Errno;
use crate::node::{Directory, FileType, Kind, Node};
use crate::services::Services;
use crate::volume::{PIPES, Style, TMPFS, Volume};

/// The tree of one machine.
pub struct Tree<P: Platform> {
    services: Services<P>,
    root: Hold<Entry<P>, P>,
    unnamed: Hold<Volume<P>, P>,
    mounts: Mutex<Vec<Mounted<P>>, P>,
    volumes: Atomic<u64, P>,
}

impl<P: Platform> Tree<P> {
    /// A tree that consists of an empty root.
    pub fn try_new(services: Services<P>) -> Result<Self, Errno> {
        let volume = Volume::try_new(services, TMPFS, 1)?;
        let root = new_root(&volume, 0o755)?;
        let unnamed = Volume::try_new(services, PIPES, 2)?;
        let mounts = Mutex::new(&class::MOUNTS, Vec::new());
        Ok(Self { services, root, unnamed, mounts, volumes: Atomic::new(2) })
    }

    /// Its root.
    pub fn root(&self) -> &Hold<Entry<P>, P> {
        &self.root
    }

    /// What the kernel does for it.
    pub fn services(&self) -> &Services<P> {
        &self.services
    }

    /// The volume of pipes, sockets, memory files and the like.
    pub fn unnamed(&self) -> &Hold<Volume<P>, P> {
        &self.unnamed
    }

    /// A volume of some style, which is mounted nowhere yet.
    pub fn volume(&self, style: Style) -> Result<Hold<Volume<P>, P>, Errno> {
        let device = self.volumes.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Volume::try_new(self.services, style, device)?)
    }
}

/// An empty directory in memory as the root of `volume`.
pub fn new_root<P: Platform>(
    volume: &Hold<Volume<P>, P>,
    mode: u32,
) -> Result<Hold<Entry<P>, P>, Errno> {
    let kind = Kind::Directory(Directory::new());
    let node = Node::try_new(volume, kind, FileType::Directory, mode, &Credentials::root())?;
    Ok(Entry::root(node)?)
}
