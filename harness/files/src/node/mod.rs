//! Nodes: one file each, whatever names it has (Linux's inodes).
//!
//! Locks: `attributes`, for a few instructions.
//! Sleep: when a file's last hold goes, for the component's locks; so no hold is dropped under a spin lock.
//! Owns:  what the file consists of.

mod attributes;
mod device;
mod directory;
mod regular;
mod special;

use alloc::boxed::Box;

use rumpvm::sync::Spin;
use rumpvm::{Hold, NoMemory};
use rumpvm_platform::Platform;

pub use attributes::{Attributes, FileType};
pub use directory::Directory;
pub use regular::{Regular, partly};
pub use special::{Call, Item, Jump, Listing, Memory, Ready, Special};

pub(crate) use attributes::{SET_GROUP, STICKY};
pub(crate) use device::driver;
pub(crate) use regular::MAX_SIZE;

use crate::access::Credentials;
use crate::class;
use crate::name::Name;
use crate::services::Services;
use crate::volume::Volume;

/// What a file is made of.
pub enum Kind<P: Platform> {
    /// Bytes.
    File(Regular<P>),
    /// Names.
    Directory(Directory<P>),
    /// Names that are made when somebody asks.
    Listing(Box<dyn Listing<P>>),
    /// A path.
    Link(Name),
    /// A path, or a way without one, that is made when somebody asks.
    Jump(Box<dyn Jump<P>>),
    /// A device, by its number; looked up when it is opened.
    Device(u64),
    /// Anything else that can be read or written.
    Special(Box<dyn Special<P>>),
}

/// A file.
pub struct Node<P: Platform> {
    number: u64,
    file_type: FileType,
    volume: Hold<Volume<P>, P>,
    kind: Kind<P>,
    attributes: Spin<Attributes, P>,
}

impl<P: Platform> Node<P> {
    /// A file of `volume` that belongs to `who` and has no name yet.
    pub fn try_new(
        volume: &Hold<Volume<P>, P>,
        kind: Kind<P>,
        file_type: FileType,
        mode: u32,
        who: &Credentials,
    ) -> Result<Hold<Self, P>, NoMemory> {
        Self::numbered(volume.number(), volume, kind, file_type, mode, who)
    }

    /// The same with a number that is the caller's to keep apart from others.
    pub(crate) fn numbered(
        number: u64,
        volume: &Hold<Volume<P>, P>,
        kind: Kind<P>,
        file_type: FileType,
        mode: u32,
        who: &Credentials,
    ) -> Result<Hold<Self, P>, NoMemory> {
        let now = (volume.services().now)();
        let attributes = Attributes {
            mode: mode & 0o7777,
            links: if file_type == FileType::Directory { 2 } else { 1 },
            user: who.user,
            group: who.group,
            accessed: now,
            modified: now,
            changed: now,
            born: now,
        };
        Hold::try_new(Self {
            number,
            file_type,
            volume: volume.clone(),
            kind,
            attributes: Spin::new(&class::ATTRIBUTES, attributes),
        })
    }

    /// Its number, unique in its volume.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What it is, for stat(2).
    pub fn file_type(&self) -> FileType {
        self.file_type
    }

    /// Where it is.
    pub fn volume(&self) -> &Hold<Volume<P>, P> {
        &self.volume
    }

    /// What the kernel does for it.
    pub fn services(&self) -> &Services<P> {
        self.volume.services()
    }

    /// What it is made of.
    pub fn kind(&self) -> &Kind<P> {
        &self.kind
    }

    /// Whether names can be looked up in it.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_) | Kind::Listing(_))
    }

    /// Its names, if it is a directory in memory.
    pub fn directory(&self) -> Option<&Directory<P>> {
        match &self.kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Its bytes, if it is a file in memory.
    pub fn regular(&self) -> Option<&Regular<P>> {
        match &self.kind {
            Kind::File(regular) => Some(regular),
            _ => None,
        }
    }

    /// Mode, owner, times, as they are now.
    pub fn attributes(&self) -> Attributes {
        *self.attributes.lock()
    }

    /// Changes them and, with them, the time of the last change.
    pub fn change<T>(&self, change: impl FnOnce(&mut Attributes) -> T) -> T {
        let now = (self.services().now)();
        let mut attributes = self.attributes.lock();
        attributes.changed = now;
        change(&mut attributes)
    }

    /// Its content has just been changed.
    pub(crate) fn note_change(&self) {
        let now = (self.services().now)();
        let mut attributes = self.attributes.lock();
        (attributes.modified, attributes.changed) = (now, now);
    }

    /// Its content has just been read. The time is noted if it says more than what is there: that somebody has read
    /// since the last change, or on another day (Linux's `relatime`).
    pub(crate) fn note_access(&self) {
        const DAY: i64 = 24 * 60 * 60;
        let now = (self.services().now)();
        let mut attributes = self.attributes.lock();
        let accessed = attributes.accessed;
        let is_news = accessed <= attributes.modified.max(attributes.changed);
        if is_news || now.seconds - accessed.seconds >= DAY {
            attributes.accessed = now;
        }
    }
}
