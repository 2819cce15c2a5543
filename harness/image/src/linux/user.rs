//! A program's memory, as the kernel reaches it: every address that a program names comes through here.
//!
//! Flow:  address of a program -> `Space::copy_in`, `copy_out` -> bytes, or [`Errno::EFAULT`].
//! Sleep: as a fault does.

use alloc::vec::Vec;

use rumpvm::sync::{try_push, try_reserve};
use rumpvm::{FaultError, Hold, Space};
use rumpvm_arch::{PAGE_SIZE, VirtAddr};
use rumpvm_bare::Bare;
use rumpvm_files::{Errno, Exchange, Sink, Source};

use crate::linux::system::system;

/// Longest path, its end included.
pub(crate) const PATH_MAX: usize = 4096;
/// Most bytes that one call reads or writes (`MAX_RW_COUNT`).
pub(crate) const MOST_BYTES: u64 = i32::MAX as u64 & !(PAGE_SIZE - 1);
/// Most pieces of one call (`UIO_MAXIOV`).
const MOST_PIECES: u64 = 1024;

/// The memory of one space.
#[derive(Clone)]
pub(crate) struct Memory {
    space: Hold<Space<Bare>, Bare>,
}

impl Memory {
    pub(crate) fn new(space: Hold<Space<Bare>, Bare>) -> Self {
        Self { space }
    }

    /// The space.
    pub(crate) fn space(&self) -> &Hold<Space<Bare>, Bare> {
        &self.space
    }

    /// Fills `into` from `at` on. On error the first part of it has been filled.
    pub(crate) fn read(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), Errno> {
        let kernel = system().kernel;
        loop {
            match self.space.copy_in(&kernel.vm, at, into) {
                Err(FaultError::NoMemory { .. }) if kernel.feed() => {}
                outcome => return outcome.map_err(|_| Errno::EFAULT),
            }
        }
    }

    /// Stores `from` at `at`. On error the first part of it has been stored.
    pub(crate) fn write(&self, at: VirtAddr, from: &[u8]) -> Result<(), Errno> {
        let kernel = system().kernel;
        loop {
            match self.space.copy_out(&kernel.vm, at, from) {
                Err(FaultError::NoMemory { .. }) if kernel.feed() => {}
                outcome => return outcome.map_err(|_| Errno::EFAULT),
            }
        }
    }

    /// So many bytes at `at`.
    pub(crate) fn load<const N: usize>(&self, at: VirtAddr) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// A word of 64 bits.
    pub(crate) fn word(&self, at: VirtAddr) -> Result<u64, Errno> {
        self.load(at).map(u64::from_le_bytes)
    }

    /// A word of 32 bits.
    pub(crate) fn half(&self, at: VirtAddr) -> Result<u32, Errno> {
        self.load(at).map(u32::from_le_bytes)
    }

    /// The words of 64 bits from `at` on.
    pub(crate) fn words<const N: usize>(&self, at: VirtAddr) -> Result<[u64; N], Errno> {
        let mut words = [0; N];
        for (number, word) in words.iter_mut().enumerate() {
            *word = self.word(VirtAddr(at.0.saturating_add(8 * number as u64)))?;
        }
        Ok(words)
    }

    /// Stores words of 64 bits.
    pub(crate) fn put_words(&self, at: VirtAddr, words: &[u64]) -> Result<(), Errno> {
        for (number, word) in words.iter().enumerate() {
            self.write(VirtAddr(at.0.saturating_add(8 * number as u64)), &word.to_le_bytes())?;
        }
        Ok(())
    }

    /// Stores a word of 32 bits.
    pub(crate) fn put_half(&self, at: VirtAddr, half: u32) -> Result<(), Errno> {
        self.write(at, &half.to_le_bytes())
    }

    /// Changes a word of 32 bits in one step; `None` leaves it. Returns what it was.
    pub(crate) fn change_half(
        &self,
        at: VirtAddr,
        change: impl Fn(u32) -> Option<u32>,
    ) -> Result<u32, Errno> {
        let kernel = system().kernel;
        loop {
            match self.space.change_word(&kernel.vm, at, &change) {
                Err(FaultError::NoMemory { .. }) if kernel.feed() => {}
                outcome => return outcome.map_err(|_| Errno::EFAULT),
            }
        }
    }

    /// Appends the bytes at `at` up to a zero to `into`, at most `most` with it; [`Errno::ENAMETOOLONG`] if there
    /// is none so far.
    pub(crate) fn string(
        &self,
        at: VirtAddr,
        most: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let (mut at, mut left) = (at, most);
        let mut piece = [0; 256];
        while left > 0 {
            // To the end of the page at most: the next one may not be there.
            let to_end = (PAGE_SIZE - at.page_offset()) as usize;
            let piece = &mut piece[..to_end.min(left).min(256)];
            self.read(at, piece)?;
            let end = piece.iter().position(|byte| *byte == 0);
            let text = &piece[..end.unwrap_or(piece.len())];
            try_reserve::<_, Bare>(into, text.len())?;
            into.extend_from_slice(text);
            if end.is_some() {
                return Ok(());
            }
            left -= piece.len();
            at = VirtAddr(at.0 + piece.len() as u64);
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// A path.
    pub(crate) fn path(&self, at: VirtAddr) -> Result<Vec<u8>, Errno> {
        let mut path = Vec::new();
        self.string(at, PATH_MAX, &mut path)?;
        Ok(path)
    }

    /// `length` bytes at `at`, as one piece. What is no address of a program is refused at once, as Linux does.
    pub(crate) fn buffer(&self, at: VirtAddr, length: u64) -> Result<Pieces, Errno> {
        let length = length.min(MOST_BYTES);
        check_range(at, length)?;
        let mut pieces = Vec::new();
        try_push::<_, Bare>(&mut pieces, (at, length))?;
        Ok(Pieces { memory: self.clone(), pieces, at: 0, total: length })
    }

    /// The list of `count` pieces at `at` (`struct iovec`).
    pub(crate) fn pieces(&self, at: VirtAddr, count: u64) -> Result<Pieces, Errno> {
        if count > MOST_PIECES {
            return Err(Errno::EINVAL);
        }
        let mut pieces = Vec::new();
        try_reserve::<_, Bare>(&mut pieces, count as usize)?;
        let mut total = 0;
        for number in 0..count {
            let [start, length] = self.words(VirtAddr(at.0.saturating_add(16 * number)))?;
            if length > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            let length = length.min(MOST_BYTES - total);
            check_range(VirtAddr(start), length)?;
            total += length;
            pieces.push((VirtAddr(start), length));
        }
        Ok(Pieces { memory: self.clone(), pieces, at: 0, total })
    }
}

fn check_range(at: VirtAddr, length: u64) -> Result<(), Errno> {
    use rumpvm_arch::Format;
    let end = at.0.checked_add(length).ok_or(Errno::EFAULT)?;
    let most = <rumpvm_bare::Kernel as Format>::USER_END.0;
    if end > most { Err(Errno::EFAULT) } else { Ok(()) }
}

/// Pieces of a program's memory, that bytes go to or come from, in order.
pub(crate) struct Pieces {
    memory: Memory,
    /// What is left of them.
    pieces: Vec<(VirtAddr, u64)>,
    /// The first of them that is not used up.
    at: usize,
    total: u64,
}

impl Pieces {
    /// The same places in another memory.
    pub(crate) fn of(self, memory: &Memory) -> Self {
        Self { memory: memory.clone(), ..self }
    }

    /// Leaves out what is beyond the next `most` bytes.
    pub(crate) fn cut(&mut self, most: u64) {
        let mut left = most;
        for (_, length) in &mut self.pieces[self.at..] {
            *length = left.min(*length);
            left -= *length;
        }
        self.total = self.total.min(most);
    }

    /// Goes on by up to `most` bytes: calls `copy` with where, from which byte of the whole, and how many. Returns how
    /// many; fewer if `copy` fails later, an error if it fails at once.
    fn advance(
        &mut self,
        most: usize,
        mut copy: impl FnMut(&Memory, VirtAddr, usize, usize) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < most && self.at < self.pieces.len() {
            let (start, length) = self.pieces[self.at];
            let to_end = PAGE_SIZE - start.page_offset();
            let count = length.min(to_end).min((most - done) as u64) as usize;
            if count > 0 {
                match copy(&self.memory, start, done, count) {
                    Ok(()) => {}
                    Err(error) if done == 0 => return Err(error),
                    Err(_) => return Ok(done),
                }
            }
            done += count;
            self.total -= count as u64;
            let left = length - count as u64;
            self.pieces[self.at] = (VirtAddr(start.0 + count as u64), left);
            if left == 0 {
                self.at += 1;
            }
        }
        Ok(done)
    }
}

impl Sink for Pieces {
    fn room(&self) -> usize {
        self.total as usize
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.advance(bytes.len(), |memory, at, from, count| {
            memory.write(at, &bytes[from..from + count])
        })
    }
}

impl Source for Pieces {
    fn left(&self) -> usize {
        self.total as usize
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let most = into.len();
        self.advance(most, |memory, at, from, count| memory.read(at, &mut into[from..from + count]))
    }
}

/// The argument of an ioctl.
pub(crate) struct Argument {
    pub(crate) memory: Memory,
    pub(crate) value: u64,
}

impl Exchange for Argument {
    fn value(&self) -> u64 {
        self.value
    }

    fn load(&self, into: &mut [u8]) -> Result<(), Errno> {
        self.memory.read(VirtAddr(self.value), into)
    }

    fn store(&mut self, from: &[u8]) -> Result<(), Errno> {
        self.memory.write(VirtAddr(self.value), from)
    }
}
