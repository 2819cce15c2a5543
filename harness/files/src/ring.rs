//! A ring of bytes that grows as it fills, up to a size: what is written and not read yet.

use alloc::vec::Vec;

use rumpvm::NoMemory;
use rumpvm::sync::try_reserve;
use rumpvm_platform::Seam;

use crate::errno::Errno;
use crate::node::partly;
use crate::transfer::{Sink, Source};

/// It grows by doubling from here.
const LEAST: usize = 4096;

/// Bytes in the order in which they came.
pub(crate) struct Ring {
    bytes: Vec<u8>,
    head: usize,
    len: usize,
    /// Most bytes that it holds.
    most: usize,
}

impl Ring {
    /// An empty one, for so many bytes at most.
    pub(crate) const fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), head: 0, len: 0, most }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(self.len)
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Makes it hold so many bytes at most, if no more are in it.
    pub(crate) fn set_most(&mut self, most: usize) -> Result<(), Errno> {
        if most < self.len {
            return Err(Errno::EBUSY);
        }
        self.most = most;
        Ok(())
    }

    /// Makes place for `more` further bytes, for which there is room.
    fn reserve<S: Seam>(&mut self, more: usize) -> Result<(), NoMemory> {
        let wanted = self.len + more;
        if wanted <= self.bytes.len() {
            return Ok(());
        }
        let size = wanted.next_power_of_two().max(LEAST).min(self.most.max(wanted));
        let mut bytes = Vec::new();
        try_reserve::<_, S>(&mut bytes, size)?;
        let (first, second) = self.filled();
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        bytes.resize(size, 0);
        (self.bytes, self.head) = (bytes, 0);
        Ok(())
    }

    /// What is in it, in two parts.
    fn filled(&self) -> (&[u8], &[u8]) {
        let first = self.len.min(self.bytes.len() - self.head);
        (&self.bytes[self.head..self.head + first], &self.bytes[..self.len - first])
    }

    /// Takes up to `limit` bytes from `from`, as many as there is room for.
    pub(crate) fn fill<S: Seam>(
        &mut self,
        from: &mut dyn Source,
        limit: usize,
    ) -> Result<usize, Errno> {
        let wanted = limit.min(from.left()).min(self.room());
        self.reserve::<S>(wanted)?;
        let mut done = 0;
        while done < wanted {
            let size = self.bytes.len();
            let at = (self.head + self.len) % size;
            let end = size.min(at + wanted - done);
            match from.take(&mut self.bytes[at..end]) {
                Ok(0) => break,
                Ok(count) => {
                    self.len += count;
                    done += count;
                    if count < end - at {
                        break;
                    }
                }
                Err(error) => return partly(done, error),
            }
        }
        Ok(done)
    }

    /// Gives up to `limit` bytes to `into`, as many as it takes.
    pub(crate) fn drain(&mut self, into: &mut dyn Sink, limit: usize) -> Result<usize, Errno> {
        let count = self.show(0, into, limit)?;
        self.skip(count);
        Ok(count)
    }

    /// Copies up to `limit` bytes from `at` on to `into`, as many as it takes. They stay.
    pub(crate) fn show(
        &self,
        at: usize,
        into: &mut dyn Sink,
        limit: usize,
    ) -> Result<usize, Errno> {
        let wanted = limit.min(into.room()).min(self.len - at);
        let (first, second) = self.filled();
        let mut done = 0;
        while done < wanted {
            let at = at + done;
            let part = if at < first.len() { &first[at..] } else { &second[at - first.len()..] };
            let part = &part[..part.len().min(wanted - done)];
            match into.put(part) {
                Ok(count) => {
                    done += count;
                    if count < part.len() {
                        break;
                    }
                }
                Err(error) => return partly(done, error),
            }
        }
        Ok(done)
    }

    /// Forgets all but the first `len` bytes.
    pub(crate) fn cut_off(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn skip(&mut self, count: usize) {
        self.len -= count;
        self.head = if self.len == 0 { 0 } else { (self.head + count) % self.bytes.len() };
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use rumpvm_hosted::Hosted;

    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_however_it_is_cut() {
        let mut ring = Ring::new(10_000);
        let bytes: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut source, mut seen) = (&bytes[..], Vec::new());
        let mut round = 0;
        while seen.len() < bytes.len() {
            round += 1;
            ring.fill::<Hosted>(&mut source, round * 37 % 9_000).unwrap();
            let mut piece = [0; 7_000];
            let most = round * 53 % 7_000;
            let count = ring.drain(&mut &mut piece[..most], usize::MAX).unwrap();
            seen.extend_from_slice(&piece[..count]);
            assert!(ring.len() <= 10_000);
        }
        assert!(seen == bytes);
    }
}
