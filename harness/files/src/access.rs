//! Who somebody is, and what he may do with a file.

use alloc::vec::Vec;

use bitflags::bitflags;
use rumpvm::NoMemory;
use rumpvm::sync::try_reserve;
use rumpvm_platform::{Platform, Seam};

use crate::errno::Errno;
use crate::node::{Attributes, FileType, Node};

bitflags! {
    /// What is asked of a file, with the values of access(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Rights: u32 {
        /// To execute it; to search a directory.
        const EXECUTE = 1;
        /// To write it; to change names in a directory.
        const WRITE = 2;
        /// To read it; to list a directory.
        const READ = 4;
    }
}

bitflags! {
    /// The capabilities that matter to files, at Linux's places.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Capabilities: u64 {
        /// To give files away.
        const CHOWN = 1 << 0;
        /// To read and write whatever it is.
        const DAC_OVERRIDE = 1 << 1;
        /// To read whatever it is.
        const DAC_READ_SEARCH = 1 << 2;
        /// To do what only a file's owner may.
        const FOWNER = 1 << 3;
        /// To keep the bits for set-user-id.
        const FSETID = 1 << 4;
        /// To change the root.
        const SYS_CHROOT = 1 << 18;
        /// To mount.
        const SYS_ADMIN = 1 << 21;
        /// To make devices.
        const MKNOD = 1 << 27;
        /// Others, which files do not look at.
        const _ = !0;
    }
}

/// Who somebody is, as files see it (`fsuid` and `fsgid` on Linux).
#[derive(Debug)]
pub struct Credentials {
    /// User.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// What he may do beyond that.
    pub capabilities: Capabilities,
}

impl Credentials {
    /// The administrator, who may do everything.
    pub const fn root() -> Self {
        Self { user: 0, group: 0, groups: Vec::new(), capabilities: Capabilities::all() }
    }

    /// An ordinary user.
    pub const fn of_user(user: u32, group: u32) -> Self {
        Self { user, group, groups: Vec::new(), capabilities: Capabilities::empty() }
    }

    /// A copy.
    pub fn try_clone<S: Seam>(&self) -> Result<Self, NoMemory> {
        let mut groups = Vec::new();
        try_reserve::<_, S>(&mut groups, self.groups.len())?;
        groups.extend_from_slice(&self.groups);
        Ok(Self { groups, ..*self })
    }

    /// Whether he may do all of that.
    pub fn can(&self, capabilities: Capabilities) -> bool {
        self.capabilities.contains(capabilities)
    }

    /// Whether he is in `group`.
    pub fn is_in(&self, group: u32) -> bool {
        self.group == group || self.groups.contains(&group)
    }

    /// Whether what only the owner may do is allowed to him.
    pub fn owns(&self, attributes: &Attributes) -> bool {
        self.user == attributes.user || self.can(Capabilities::FOWNER)
    }

    /// Checks that he has `wanted` of `node`: [`Errno::EACCES`] otherwise.
    pub fn check<P: Platform>(&self, node: &Node<P>, wanted: Rights) -> Result<(), Errno> {
        let attributes = node.attributes();
        let shift = match () {
            () if self.user == attributes.user => 6,
            () if self.is_in(attributes.group) => 3,
            () => 0,
        };
        let granted = Rights::from_bits_truncate(attributes.mode >> shift);
        if granted.contains(wanted) {
            return Ok(());
        }
        let is_directory = node.file_type() == FileType::Directory;
        if self.can(Capabilities::DAC_OVERRIDE) {
            let executes = wanted.contains(Rights::EXECUTE) && !is_directory;
            if !executes || attributes.mode & 0o111 != 0 {
                return Ok(());
            }
        }
        let harmless = if is_directory { Rights::READ | Rights::EXECUTE } else { Rights::READ };
        if self.can(Capabilities::DAC_READ_SEARCH) && harmless.contains(wanted) {
            return Ok(());
        }
        Err(Errno::EACCES)
    }
}
