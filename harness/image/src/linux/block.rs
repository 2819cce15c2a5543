//! Disks as programs see them: devices of blocks, `/dev/vda` and so on.
//!
//! Flow:  a program's bytes -> buffer -> the disk, and back. Nothing is kept between two calls, because pages of a cache
//!        would never be taken back: who wants a file's pages more than once copies them to a file in memory.
//! Locks: each disk's buffer, while bytes move; so what is written into the middle of a sector is one change.
//! Sleep: for the disk, and as faults of the program's memory do.
//! Owns:  the disks of the machine and a buffer for each, for good.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rumpvm::sync::{Mutex, try_box, try_push, try_reserve};
use rumpvm_bare::{Bare, Disk};
use rumpvm_files::node::{Call, partly};
use rumpvm_files::services::device_number;
use rumpvm_files::{Errno, Exchange, Sink, Source, Special, Walk};
use rumpvm_platform::{File, IoError};
use spin::Once;

use super::class;

/// Linux's number of virtio disks, which is the first that it gives to a driver without one of its own; and how many of
/// the numbers below belong to each disk, for its partitions.
const MAJOR: u32 = 254;
const PARTS: u32 = 16;
/// Disks that have names of one letter.
const MOST: usize = 26;
/// What the device can be asked for.
const SECTOR: usize = 512;
/// What it is asked for at a time, at most.
const BUFFER: usize = 32 << 10;

/// A disk.
pub(crate) struct Block {
    disk: Arc<Disk>,
    buffer: Mutex<Vec<u8>, Bare>,
}

static DISKS: Once<Vec<Block>> = Once::new();

/// The disks of the machine.
pub(crate) fn disks() -> &'static [Block] {
    DISKS.get().map_or(&[], |disks| disks)
}

/// The last letter of a disk's name, and its device number.
pub(crate) fn names() -> impl Iterator<Item = (char, u32, &'static Block)> {
    (0_u8..).zip(disks()).map(|(at, disk)| (char::from(b'a' + at), u32::from(at) * PARTS, disk))
}

/// The number of all of them.
pub(crate) const fn major() -> u32 {
    MAJOR
}

/// Finds the disks and gives them names.
pub(crate) fn start(walk: &Walk<'_, Bare>) -> Result<(), Errno> {
    const BLOCK: u32 = 0o060_000;
    let mut found = Vec::new();
    for disk in rumpvm_bare::find_disks().into_iter().take(MOST) {
        let mut buffer = Vec::new();
        try_reserve::<_, Bare>(&mut buffer, BUFFER)?;
        buffer.resize(BUFFER, 0);
        let block = Block { disk, buffer: Mutex::new(&class::DISK, buffer) };
        try_push::<_, Bare>(&mut found, block)?;
    }
    DISKS.call_once(|| found);
    for (letter, minor, _) in names() {
        let mut path = *b"/dev/vd?";
        path[7] = letter as u8;
        match walk.mknod(&path, BLOCK | 0o600, device_number(MAJOR, minor)) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The disk of that number.
pub(crate) fn device(number: u64) -> Result<Box<dyn Special<Bare>>, Errno> {
    let wanted = names().find(|(_, minor, _)| device_number(MAJOR, *minor) == number);
    let (_, _, disk) = wanted.ok_or(Errno::ENXIO)?;
    Ok(try_box::<_, Bare>(disk)?)
}

/// Makes what has been written to all of them durable.
pub(crate) fn sync() {
    for block in disks() {
        // Nobody asks sync(2) whether it has worked.
        block.sync().ok();
    }
}

/// Errors of disks have no more than this to say.
fn failed(_: IoError) -> Errno {
    Errno::EIO
}

impl Block {
    /// Bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.disk.length()
    }

    /// The whole sectors around `most` bytes from `at` on, as far as they fit into the buffer: where they begin, how many
    /// bytes before `at` that is, and how many of the bytes wanted are in them.
    fn around(&self, at: u64, most: usize) -> (u64, usize, usize) {
        let before = (at % SECTOR as u64) as usize;
        let left = usize::try_from(self.bytes() - at).unwrap_or(usize::MAX);
        (at - before as u64, before, most.min(left).min(BUFFER - before))
    }

    /// Completes the sectors around `buffer[from..to]`, which are to be written at `start`, by what is on the disk.
    fn complete(
        &self,
        start: u64,
        buffer: &mut [u8],
        (from, to): (usize, usize),
    ) -> Result<(), Errno> {
        let mut sector = [0; SECTOR];
        if from > 0 {
            self.disk.read(start, &mut sector).map_err(failed)?;
            buffer[..from].copy_from_slice(&sector[..from]);
        }
        let rest = to % SECTOR;
        if rest > 0 {
            let last = to - rest;
            self.disk.read(start + last as u64, &mut sector).map_err(failed)?;
            buffer[to..last + SECTOR].copy_from_slice(&sector[rest..]);
        }
        Ok(())
    }

    fn read_piece(&self, at: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        let mut buffer = self.buffer.lock();
        let (start, before, count) = self.around(at, into.room());
        let end = (before + count).next_multiple_of(SECTOR);
        self.disk.read(start, &mut buffer[..end]).map_err(failed)?;
        into.put(&buffer[before..before + count])
    }

    fn write_piece(&self, at: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let mut buffer = self.buffer.lock();
        let (start, before, count) = self.around(at, from.left());
        let count = from.take(&mut buffer[before..before + count])?;
        if count > 0 {
            let to = before + count;
            self.complete(start, &mut buffer, (before, to))?;
            let end = to.next_multiple_of(SECTOR);
            self.disk.write(start, &buffer[..end]).map_err(failed)?;
        }
        Ok(count)
    }
}

/// Goes on piece by piece, as long as something is left of `all` and of the disk.
fn pieces(
    (at, end): (u64, u64),
    all: usize,
    mut piece: impl FnMut(u64) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let mut done = 0;
    while done < all && at + (done as u64) < end {
        match piece(at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) => return partly(done, error),
        }
    }
    Ok(done)
}

impl Special<Bare> for Block {
    fn read(&self, _: &Call<'_, Bare>, at: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        pieces((at, self.bytes()), into.room(), |at| self.read_piece(at, into))
    }

    fn write(&self, _: &Call<'_, Bare>, at: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let all = from.left();
        match () {
            () if self.disk.is_read_only() => Err(Errno::EPERM),
            () if all > 0 && at >= self.bytes() => Err(Errno::ENOSPC),
            () => pieces((at, self.bytes()), all, |at| self.write_piece(at, from)),
        }
    }

    fn has_position(&self) -> bool {
        true
    }

    fn length(&self) -> u64 {
        self.bytes()
    }

    fn sync(&self) -> Result<(), Errno> {
        // With the buffer's lock nobody else waits for the device meanwhile, which is locked to be flushed.
        let _buffer = self.buffer.lock();
        self.disk.sync().map_err(failed)
    }

    fn control(&self, request: u32, argument: &mut dyn Exchange) -> Result<u64, Errno> {
        const READ_ONLY: u32 = 0x125e;
        const SECTORS: u32 = 0x1260;
        const FLUSH: u32 = 0x1261;
        const SECTOR_SIZE: u32 = 0x1268;
        const LEAST_REQUEST: u32 = 0x1278;
        const BEST_REQUEST: u32 = 0x1279;
        const DISK_SECTOR_SIZE: u32 = 0x127b;
        const BLOCK_SIZE: u32 = 0x8008_1270;
        const BYTES: u32 = 0x8008_1272;
        let half = |number: u32| number.to_le_bytes();
        match request {
            READ_ONLY => argument.store(&half(u32::from(self.disk.is_read_only())))?,
            SECTORS => argument.store(&(self.bytes() / SECTOR as u64).to_le_bytes())?,
            FLUSH => self.sync()?,
            SECTOR_SIZE | LEAST_REQUEST | DISK_SECTOR_SIZE => {
                argument.store(&half(SECTOR as u32))?;
            }
            BEST_REQUEST => argument.store(&half(0))?,
            BLOCK_SIZE => argument.store(&half(4096))?,
            BYTES => argument.store(&self.bytes().to_le_bytes())?,
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
}
