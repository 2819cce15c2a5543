//! Files as a pager sees them: named contents of some length, read and written by page.

use alloc::sync::Arc;
use core::fmt;

/// Which file this is, on whatever the home calls a file system (POSIX: device and inode). Two opens
/// of one file have the same identity, so that their mappings share pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId {
    /// The volume.
    pub device: u64,
    /// The file on it.
    pub inode: u64,
}

/// An I/O operation failed. The code is the home's (an errno where it has them).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoError(pub i32);

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I/O error {}", self.0)
    }
}

/// Not supported.
const EOPNOTSUPP: i32 = 95;

/// An open file that can be mapped.
///
/// Calls may block the thread; they are made without any lock held. They may come from several CPUs at
/// once, but never twice at once for the same page.
pub trait File: Send + Sync {
    /// Its identity.
    fn id(&self) -> FileId;

    /// Its length in bytes, now.
    fn length(&self) -> u64;

    /// Fills `into` from byte `offset` on and returns how many bytes there were; fewer than asked for
    /// only at the end of the file.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, IoError>;

    /// Writes all of `from` at byte `offset`. The component never writes beyond [`File::length`].
    fn write(&self, offset: u64, from: &[u8]) -> Result<(), IoError>;

    /// Cuts the file off at `bytes`, or extends it with zeros. On an error its length is what it was. Called
    /// while nobody else changes the length of the file's object, and with no page beyond `bytes` in transit.
    fn set_length(&self, bytes: u64) -> Result<(), IoError>;

    /// Makes what has been written durable.
    fn sync(&self) -> Result<(), IoError>;

    /// Whether [`File::punch`] works.
    fn can_punch(&self) -> bool {
        false
    }

    /// Makes `length` bytes from `offset` on, which lie inside the file, read as zeros and need no room,
    /// if the file system can do that. By default it cannot.
    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        let _ = (offset, length);
        Err(IoError(EOPNOTSUPP))
    }
}

/// A shared file is a file: whoever opens it can keep a handle of his own.
impl<T: File + ?Sized> File for Arc<T> {
    fn id(&self) -> FileId {
        (**self).id()
    }

    fn length(&self) -> u64 {
        (**self).length()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        (**self).read(offset, into)
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result<(), IoError> {
        (**self).write(offset, from)
    }

    fn set_length(&self, bytes: u64) -> Result<(), IoError> {
        (**self).set_length(bytes)
    }

    fn sync(&self) -> Result<(), IoError> {
        (**self).sync()
    }

    fn can_punch(&self) -> bool {
        (**self).can_punch()
    }

    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        (**self).punch(offset, length)
    }
}
