//! Volumes: one file system each, which numbers its nodes and serialises the changes of its names.
//!
//! Locks: `changes`, by whoever adds, moves or removes a name, from looking to done.

use rumpvm::sync::{Atomic, Mutex, Ordering};
use rumpvm::{Hold, NoMemory};
use rumpvm_platform::Platform;

use bitflags::bitflags;

use crate::class;
use crate::lock::Locks;
use crate::services::Services;

/// What a volume is called, and known by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// Its name in `/proc/mounts`.
    pub name: &'static str,
    /// Its number in statfs(2).
    pub magic: u64,
}

/// Files in memory.
pub const TMPFS: Style = Style { name: "tmpfs", magic: 0x0102_1994 };
/// The processes.
pub const PROC: Style = Style { name: "proc", magic: 0x9fa0 };
/// What has no name.
pub const PIPES: Style = Style { name: "pipefs", magic: 0x5049_5045 };

bitflags! {
    /// How a volume is mounted, with the values of mount(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MountFlags: u32 {
        /// Nothing is changed.
        const READ_ONLY = 1;
        /// Set-user-id bits do nothing.
        const NO_SUID = 2;
        /// Devices cannot be opened.
        const NO_DEVICES = 4;
        /// Nothing is executed.
        const NO_EXECUTE = 8;
        /// Writes are done at once, as they are anyway.
        const SYNCHRONOUS = 16;
        /// The flags of what is mounted already change.
        const REMOUNT = 32;
        /// Reads leave no trace.
        const NO_ACCESS_TIME = 1024;
        /// Listing leaves no trace.
        const NO_DIRECTORY_ACCESS_TIME = 2048;
    }
}

/// One file system.
pub struct Volume<P: Platform> {
    services: Services<P>,
    style: Style,
    device: u64,
    flags: Atomic<u32, P>,
    next: Atomic<u64, P>,
    changes: Mutex<(), P>,
    locks: Locks<P>,
}

impl<P: Platform> Volume<P> {
    /// An empty one, with this number as stat(2) shows it.
    pub fn try_new(
        services: Services<P>,
        style: Style,
        device: u64,
    ) -> Result<Hold<Self, P>, NoMemory> {
        Hold::try_new(Self {
            services,
            style,
            device,
            flags: Atomic::new(0),
            next: Atomic::new(1),
            changes: Mutex::new(&class::CHANGES, ()),
            locks: Locks::new(),
        })
    }

    /// What the kernel does for it.
    pub fn services(&self) -> &Services<P> {
        &self.services
    }

    /// What it is.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Its device's number.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// How it is mounted.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Acquire))
    }

    /// Mounts it otherwise.
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Release);
    }

    /// The number of a new node.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that the next node will have, unless another comes in between.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Nodes so far.
    pub(crate) fn numbered(&self) -> u64 {
        self.next.load(Ordering::Relaxed) - 1
    }

    pub(crate) fn locks(&self) -> &Locks<P> {
        &self.locks
    }

    pub(crate) fn changes(&self) -> &Mutex<(), P> {
        &self.changes
    }
}
