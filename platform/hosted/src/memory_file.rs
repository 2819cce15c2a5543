//! Files that are not there: contents in memory, and failures on demand. For tests.
//!
//! Flow:  pager -> bytes under one lock, or the failure that was ordered.
//! Locks: `contents`.
//! Owns:  the contents.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rumpvm_platform::{File, FileId, IoError};

use crate::cpu::lock;

/// No file system has this device number, so no [`crate::HostFile`] has such an identity.
const DEVICE: u64 = u64::MAX;
const EIO: i32 = 5;

/// A file in memory with an identity of its own, which can be told to fail.
pub struct MemoryFile {
    id: FileId,
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    bytes: Vec<u8>,
    reads: Fate,
    writes: Fate,
    resizes: Fate,
    synced: u64,
}

/// Operations so far, and the one that fails.
#[derive(Default)]
struct Fate {
    done: u64,
    fails_at: Option<u64>,
}

impl Fate {
    fn fail_nth(&mut self, nth: u64) {
        self.fails_at = Some(self.done + nth);
    }

    fn step(&mut self) -> Result<(), IoError> {
        self.done += 1;
        if self.fails_at == Some(self.done) { Err(IoError(EIO)) } else { Ok(()) }
    }
}

impl MemoryFile {
    /// A file with these contents.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = FileId { device: DEVICE, inode: NEXT.fetch_add(1, Ordering::Relaxed) };
        let contents = Contents { bytes: bytes.into(), ..Contents::default() };
        Self { id, contents: Mutex::new(contents) }
    }

    /// A file of `length` zeros.
    pub fn zeroed(length: usize) -> Self {
        Self::new(vec![0; length])
    }

    /// Cuts the file off at `length`, or extends it with zeros.
    pub fn resize(&self, length: usize) {
        lock(&self.contents).bytes.resize(length, 0);
    }

    /// A copy of what is in it now.
    pub fn contents(&self) -> Vec<u8> {
        lock(&self.contents).bytes.clone()
    }

    /// Makes the `nth` read from now fail, once.
    pub fn fail_nth_read(&self, nth: u64) {
        lock(&self.contents).reads.fail_nth(nth);
    }

    /// Makes the `nth` write from now fail, once. Nothing of it is written.
    pub fn fail_nth_write(&self, nth: u64) {
        lock(&self.contents).writes.fail_nth(nth);
    }

    /// Makes the `nth` change of the length by the component from now fail, once.
    pub fn fail_nth_resize(&self, nth: u64) {
        lock(&self.contents).resizes.fail_nth(nth);
    }

    /// Reads so far, failed ones included.
    pub fn reads(&self) -> u64 {
        lock(&self.contents).reads.done
    }

    /// Writes so far, failed ones included.
    pub fn writes(&self) -> u64 {
        lock(&self.contents).writes.done
    }

    /// Times that [`File::sync`] was called.
    pub fn syncs(&self) -> u64 {
        lock(&self.contents).synced
    }
}

impl File for MemoryFile {
    fn id(&self) -> FileId {
        self.id
    }

    fn length(&self) -> u64 {
        lock(&self.contents).bytes.len() as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        let mut contents = lock(&self.contents);
        contents.reads.step()?;
        let rest = contents.bytes.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result<(), IoError> {
        let mut contents = lock(&self.contents);
        contents.writes.step()?;
        let start = offset as usize;
        let end = start + from.len();
        // POSIX: a write beyond the end extends the file.
        if contents.bytes.len() < end {
            contents.bytes.resize(end, 0);
        }
        contents.bytes[start..end].copy_from_slice(from);
        Ok(())
    }

    fn set_length(&self, bytes: u64) -> Result<(), IoError> {
        let mut contents = lock(&self.contents);
        contents.resizes.step()?;
        contents.bytes.resize(bytes as usize, 0);
        Ok(())
    }

    fn sync(&self) -> Result<(), IoError> {
        lock(&self.contents).synced += 1;
        Ok(())
    }

    fn can_punch(&self) -> bool {
        true
    }

    /// Counts as a write.
    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        let mut contents = lock(&self.contents);
        contents.writes.step()?;
        let end = contents.bytes.len().min((offset + length) as usize);
        let start = end.min(offset as usize);
        contents.bytes[start..end].fill(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ordered_operation_fails_and_it_changes_nothing() {
        let file = MemoryFile::new("abc");
        file.fail_nth_write(2);
        file.fail_nth_read(1);

        assert_eq!(file.write(0, b"A"), Ok(()));
        assert_eq!(file.write(1, b"B"), Err(IoError(EIO)));
        assert_eq!(file.write(2, b"C"), Ok(()));

        let mut bytes = [0; 8];
        assert_eq!(file.read(0, &mut bytes), Err(IoError(EIO)));
        assert_eq!(file.read(0, &mut bytes), Ok(3));
        assert_eq!(file.contents(), b"AbC");
        assert_eq!((file.reads(), file.writes()), (2, 3));
    }

    #[test]
    fn a_file_cut_off_reads_short_and_an_extended_one_reads_zeros() {
        let file = MemoryFile::new("abcdef");
        let mut bytes = [9; 4];

        file.resize(3);
        assert_eq!(file.read(2, &mut bytes), Ok(1));
        assert_eq!(file.read(3, &mut bytes), Ok(0));

        file.resize(5);
        assert_eq!(file.read(2, &mut bytes), Ok(3));
        assert_eq!(&bytes[..3], b"c\0\0");
        assert_ne!(file.id(), MemoryFile::zeroed(1).id());
    }
}
