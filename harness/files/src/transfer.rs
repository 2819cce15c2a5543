//! Bytes on their way between files and the caller's memory, whatever that is: a program's pages, or a slice.
//!
//! A file offers what it has ([`Sink::put`]) or asks for what comes ([`Source::take`]). Where bytes cannot be shown as a
//! slice, because their page must not be held while the other side faults, [`Sink::put_with`] and
//! [`Source::take_with`] carry them through a small buffer; a caller that knows a shorter way implements these itself.

use crate::errno::Errno;

/// Bytes that are carried at a time; on the kernel's stack.
const PIECE: usize = 4096;

/// Where read bytes go.
pub trait Sink {
    /// Bytes that it still takes.
    fn room(&self) -> usize;

    /// Takes the first of `bytes`, as many as there is room for, and returns how many. Fewer if the memory behind it
    /// ends earlier; if it ends at once, [`Errno::EFAULT`].
    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno>;

    /// Has `make` write up to `limit` bytes and takes them. May be fewer than there is room for.
    fn put_with(
        &mut self,
        limit: usize,
        make: &mut dyn FnMut(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut bytes = [0; PIECE];
        let most = limit.min(PIECE).min(self.room());
        let made = make(&mut bytes[..most])?;
        if made == 0 { Ok(0) } else { self.put(&bytes[..made]) }
    }
}

/// Where bytes to be written come from.
pub trait Source {
    /// Bytes that are left.
    fn left(&self) -> usize;

    /// Gives the next bytes, as many as there are and `into` holds, and returns how many. Fewer if the memory behind
    /// it ends earlier; if it ends at once, [`Errno::EFAULT`].
    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno>;

    /// Shows up to `limit` bytes to `using`, which says how many it could use. What it could not use may be lost.
    fn take_with(
        &mut self,
        limit: usize,
        using: &mut dyn FnMut(&[u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut bytes = [0; PIECE];
        let most = limit.min(PIECE).min(self.left());
        let taken = self.take(&mut bytes[..most])?;
        if taken == 0 { Ok(0) } else { using(&bytes[..taken]) }
    }
}

impl Sink for &mut [u8] {
    fn room(&self) -> usize {
        self.len()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let count = bytes.len().min(self.len());
        let (filled, rest) = core::mem::take(self).split_at_mut(count);
        filled.copy_from_slice(&bytes[..count]);
        *self = rest;
        Ok(count)
    }

    fn put_with(
        &mut self,
        limit: usize,
        make: &mut dyn FnMut(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let most = limit.min(self.len());
        let made = make(&mut self[..most])?;
        *self = &mut core::mem::take(self)[made..];
        Ok(made)
    }
}

impl Source for &[u8] {
    fn left(&self) -> usize {
        self.len()
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let count = into.len().min(self.len());
        let (taken, rest) = self.split_at(count);
        into[..count].copy_from_slice(taken);
        *self = rest;
        Ok(count)
    }

    fn take_with(
        &mut self,
        limit: usize,
        using: &mut dyn FnMut(&[u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let used = using(&self[..limit.min(self.len())])?;
        *self = &self[used..];
        Ok(used)
    }
}

/// The argument of an ioctl: a number, or the address of something to read or write.
pub trait Exchange {
    /// The number.
    fn value(&self) -> u64;

    /// Reads from where it points to.
    fn load(&self, into: &mut [u8]) -> Result<(), Errno>;

    /// Writes to where it points to.
    fn store(&mut self, from: &[u8]) -> Result<(), Errno>;
}

/// Memory of the kernel's own.
impl Exchange for &mut [u8] {
    fn value(&self) -> u64 {
        0
    }

    fn load(&self, into: &mut [u8]) -> Result<(), Errno> {
        into.copy_from_slice(self.get(..into.len()).ok_or(Errno::EFAULT)?);
        Ok(())
    }

    fn store(&mut self, from: &[u8]) -> Result<(), Errno> {
        self.get_mut(..from.len()).ok_or(Errno::EFAULT)?.copy_from_slice(from);
        Ok(())
    }
}

/// A plain number.
impl Exchange for u64 {
    fn value(&self) -> u64 {
        *self
    }

    fn load(&self, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }

    fn store(&mut self, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }
}
