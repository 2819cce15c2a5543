//! A file for scenarios: every transfer gives the CPU up, and may fail if the scenario lets it.
//!
//! Locks: none that is held across a transfer. Sleep: in every transfer.
//! Owns:  its contents, as they are on the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rumpvm_arch::PAGE_SIZE;
use rumpvm_hosted::explored::Chance;
use rumpvm_platform::{File, FileId, IoError};

use crate::Pc;

/// EIO.
const FAILED: IoError = IoError(5);

/// A file of a few pages.
pub struct Disk {
    inode: u64,
    contents: Mutex<Contents>,
}

struct Contents {
    bytes: Vec<u8>,
    /// Offsets of the transfers under way.
    moving: Vec<u64>,
}

impl Disk {
    /// A file of `pages` pages, each of which begins with its number plus one.
    pub fn new(inode: u64, pages: u64) -> Arc<Self> {
        let mut bytes = vec![0; (pages * PAGE_SIZE) as usize];
        for page in 0..pages {
            bytes[(page * PAGE_SIZE) as usize] = page as u8 + 1;
        }
        let contents = Contents { bytes, moving: Vec::new() };
        Arc::new(Self { inode, contents: Mutex::new(contents) })
    }

    /// The first byte of page `page`, as it is on the disk.
    pub fn byte(&self, page: u64) -> u8 {
        self.contents().bytes[(page * PAGE_SIZE) as usize]
    }

    /// Cuts the file off behind `pages` pages.
    pub fn truncate(&self, pages: u64) {
        self.contents().bytes.truncate((pages * PAGE_SIZE) as usize);
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The CPU is somebody else's while the disk turns.
    fn turn(&self, offset: u64) -> Result<(), IoError> {
        let mut contents = self.contents();
        assert!(!contents.moving.contains(&offset), "the page at {offset:#x} moves twice at once");
        contents.moving.push(offset);
        drop(contents);
        let machine = Pc::here();
        machine.pause_for_io();
        self.contents().moving.retain(|moving| *moving != offset);
        if machine.takes(Chance::Io) { Err(FAILED) } else { Ok(()) }
    }
}

impl File for Disk {
    fn id(&self) -> FileId {
        FileId { device: 1, inode: self.inode }
    }

    fn length(&self) -> u64 {
        self.contents().bytes.len() as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        self.turn(offset)?;
        let contents = self.contents();
        let there = contents.bytes.get(offset as usize..).unwrap_or_default();
        let length = into.len().min(there.len());
        into[..length].copy_from_slice(&there[..length]);
        Ok(length)
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result<(), IoError> {
        self.turn(offset)?;
        let mut contents = self.contents();
        let to = contents.bytes.get_mut(offset as usize..offset as usize + from.len());
        to.expect("nothing is written beyond the end").copy_from_slice(from);
        Ok(())
    }

    fn set_length(&self, bytes: u64) -> Result<(), IoError> {
        let machine = Pc::here();
        machine.pause_for_io();
        if machine.takes(Chance::Io) {
            return Err(FAILED);
        }
        self.contents().bytes.resize(bytes as usize, 0);
        Ok(())
    }

    fn sync(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn can_punch(&self) -> bool {
        true
    }

    /// As a write to a place of its own: it meets those of pages.
    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.turn(!offset)?;
        let mut contents = self.contents();
        let hole = contents.bytes.get_mut(offset as usize..(offset + length) as usize);
        hole.expect("no hole reaches beyond the end").fill(0);
        Ok(())
    }
}
