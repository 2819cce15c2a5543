//! A file without an end, for mappings whose file was not recorded.
//!
//! Locks: `written`.
//! Owns:  the pages that were written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::{File, FileId, IoError};

/// No file system has this device number, nor has a `MemoryFile` of the hosted home.
const DEVICE: u64 = u64::MAX - 1;

/// Length of every file: no file system of Linux allows a longer one, so no recorded mapping reaches
/// beyond it.
const LENGTH: u64 = i64::MAX as u64;

const PAGE_BYTES: usize = PAGE_SIZE as usize;
type Contents = Box<[u8; PAGE_BYTES]>;

/// A file so long that nothing is beyond its end. A page that nobody wrote repeats its own number, so
/// pages that were mixed up show.
pub(super) struct EndlessFile {
    id: FileId,
    written: Mutex<BTreeMap<u64, Contents>>,
}

impl EndlessFile {
    /// A file with an identity of its own.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let inode = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id: FileId { device: DEVICE, inode }, written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, BTreeMap<u64, Contents>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File for EndlessFile {
    fn id(&self) -> FileId {
        self.id
    }

    fn length(&self) -> u64 {
        LENGTH
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        let written = self.written();
        for (at, page, inside, length) in pieces(offset, into.len()) {
            let into = &mut into[at..at + length];
            match written.get(&page) {
                Some(contents) => into.copy_from_slice(&contents[inside..inside + length]),
                None => into.copy_from_slice(&fresh(page)[inside..inside + length]),
            }
        }
        Ok(into.len())
    }

    fn can_punch(&self) -> bool {
        true
    }

    /// What it holds is made up anyway.
    fn punch(&self, _offset: u64, _length: u64) -> Result<(), IoError> {
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result<(), IoError> {
        let mut written = self.written();
        for (at, page, inside, length) in pieces(offset, from.len()) {
            let contents = written.entry(page).or_insert_with(|| fresh(page));
            contents[inside..inside + length].copy_from_slice(&from[at..at + length]);
        }
        Ok(())
    }

    /// It stays endless: no recorded program is shown what it has cut off.
    fn set_length(&self, _bytes: u64) -> Result<(), IoError> {
        Ok(())
    }

    fn sync(&self) -> Result<(), IoError> {
        Ok(())
    }
}

/// The page called `page`, as nobody has written it.
fn fresh(page: u64) -> Contents {
    let word = page.to_le_bytes();
    Box::new(std::array::from_fn(|at| word[at % word.len()]))
}

/// Cuts `length` bytes from `offset` on at page ends: where in the buffer, which page, where in it,
/// how many.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (usize, u64, usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let place = offset + at as u64;
        let inside = (place % PAGE_SIZE) as usize;
        let piece = (length - at).min(PAGE_BYTES - inside);
        let start = at;
        at += piece;
        (piece > 0).then_some((start, place / PAGE_SIZE, inside, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_the_rest_is_the_number_of_the_page() {
        let file = EndlessFile::new();
        file.write(PAGE_SIZE - 1, b"ab").expect("memory does not fail");

        let mut bytes = [0; 4];
        assert_eq!(file.read(PAGE_SIZE - 2, &mut bytes), Ok(4));
        assert_eq!(bytes, [0, b'a', b'b', 0]);
        assert_eq!(file.read(5 * PAGE_SIZE, &mut bytes[..2]), Ok(2));
        assert_eq!(bytes[..2], [5, 0]);
        assert_ne!(file.id(), EndlessFile::new().id());
    }
}
