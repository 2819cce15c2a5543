//! What stat(2) says of a file besides its content.

use crate::services::Time;

/// What kind of file it is, with the values of `st_mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum FileType {
    /// A pipe, with a name or without.
    Pipe = 0o010_000,
    /// A device that is read and written as a stream.
    Character = 0o020_000,
    /// A directory.
    Directory = 0o040_000,
    /// A device of blocks.
    Block = 0o060_000,
    /// Bytes.
    Regular = 0o100_000,
    /// A symbolic link.
    Link = 0o120_000,
    /// A socket.
    Socket = 0o140_000,
}

impl FileType {
    /// Its bits in `st_mode`.
    pub const fn bits(self) -> u32 {
        self as u32
    }

    /// Its number in a directory's records (`DT_REG` and so on).
    pub const fn record(self) -> u8 {
        (self as u32 >> 12) as u8
    }

    /// What the bits of a mode ask for; none is a regular file, as in mknod(2).
    pub const fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o010_000 => Self::Pipe,
            0o020_000 => Self::Character,
            0o040_000 => Self::Directory,
            0o060_000 => Self::Block,
            0 | 0o100_000 => Self::Regular,
            0o120_000 => Self::Link,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }
}

/// Set the user on execution.
pub(crate) const SET_USER: u32 = 0o4000;
/// Set the group on execution; in a directory, what is made there gets its group.
pub(crate) const SET_GROUP: u32 = 0o2000;
/// Only owners remove names.
pub(crate) const STICKY: u32 = 0o1000;

/// Mode, owner, links and times of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// Permissions, with the three bits above them; not the type.
    pub mode: u32,
    /// Names that it has; of a directory, two and one for each directory in it.
    pub links: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Content last read.
    pub accessed: Time,
    /// Content last changed.
    pub modified: Time,
    /// Anything last changed.
    pub changed: Time,
    /// Made.
    pub born: Time,
}

impl Attributes {
    /// Takes the set-user-id bit away, and set-group-id if it means that: somebody has changed the content.
    pub(crate) fn drop_privileges(&mut self) {
        self.mode &= !SET_USER;
        if self.mode & 0o010 != 0 {
            self.mode &= !SET_GROUP;
        }
    }
}
