//! Files of the host, as a pager sees them.
//!
//! Flow:  pager -> pread or pwrite at an offset -> the host's file system.
//! Locks: none; the host kernel orders what overlaps.
//! Sleep: I/O blocks the CPU that asks, host thread and all.
//! Owns:  the open file.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::FallocateFlags;

use rumpvm_platform::{File, FileId, IoError};

/// `EIO`, for errors of the host library that have no number.
const EIO: i32 = 5;

/// A file of the host. Its identity is device and inode, so two opens of it share pages.
pub struct HostFile {
    file: std::fs::File,
    id: FileId,
}

impl HostFile {
    /// Wraps an open file. What it was opened for decides whether writes work.
    pub fn new(file: std::fs::File) -> io::Result<Self> {
        let facts = file.metadata()?;
        Ok(Self { file, id: FileId { device: facts.dev(), inode: facts.ino() } })
    }

    /// Opens `path` for reading.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::new(std::fs::File::open(path)?)
    }

    /// Opens `path` for reading and writing; it must exist.
    pub fn open_writable(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::new(OpenOptions::new().read(true).write(true).open(path)?)
    }
}

impl File for HostFile {
    fn id(&self) -> FileId {
        self.id
    }

    fn length(&self) -> u64 {
        // A descriptor that the host no longer knows has no bytes to map.
        self.file.metadata().map_or(0, |facts| facts.len())
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(code(&error)),
            }
        }
        Ok(done)
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result<(), IoError> {
        self.file.write_all_at(from, offset).map_err(|error| code(&error))
    }

    fn set_length(&self, bytes: u64) -> Result<(), IoError> {
        self.file.set_len(bytes).map_err(|error| code(&error))
    }

    fn sync(&self) -> Result<(), IoError> {
        self.file.sync_data().map_err(|error| code(&error))
    }

    fn can_punch(&self) -> bool {
        true
    }

    /// On a file system that cannot, the error is the host's.
    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let punched = rustix::fs::fallocate(&self.file, how, offset, length);
        punched.map_err(|error| IoError(error.raw_os_error()))
    }
}

fn code(error: &io::Error) -> IoError {
    IoError(error.raw_os_error().unwrap_or(EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("rumpvm-{}-{name}", std::process::id()));
        fs::write(&path, b"0123456789").unwrap();
        path
    }

    #[test]
    fn two_opens_of_a_file_have_one_identity_and_see_each_others_writes() {
        let path = scratch("identity");
        let (one, other) =
            (HostFile::open_writable(&path).unwrap(), HostFile::open(&path).unwrap());
        assert_eq!(one.id(), other.id());

        one.write(4, b"xy").unwrap();
        one.sync().unwrap();

        let mut bytes = [0; 4];
        assert_eq!(other.read(3, &mut bytes), Ok(4));
        assert_eq!(&bytes, b"3xy6");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_read_is_short_only_at_the_end_of_the_file() {
        let path = scratch("short");
        let file = HostFile::open(&path).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(file.length(), 10);
        assert_eq!(file.read(6, &mut bytes), Ok(4));
        assert_eq!(file.read(10, &mut bytes), Ok(0));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_write_to_a_file_opened_for_reading_gives_the_hosts_error_number() {
        const EBADF: i32 = 9;
        let path = scratch("readonly");
        assert_eq!(HostFile::open(&path).unwrap().write(0, b"x"), Err(IoError(EBADF)));
        fs::remove_file(path).unwrap();
    }
}
