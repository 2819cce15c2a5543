//! What a worker knows of the bytes in memory: contents that have names, stored and compared page by page.
//!
//! Built of the worker's own verbs alone, so `harness/guest` has it too.

use rumpvm::map::MapFlags;
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

use super::pattern;
use super::stop::Stop;
use super::worker::{ANONYMOUS, Worker};

impl Worker<'_> {
    /// mmap of `length` bytes of private anonymous memory, to load and store.
    pub(super) fn map_anonymous(&mut self, length: u64) -> Result<VirtAddr, Stop> {
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
        self.map(VirtAddr(0), length, Prot::RW, flags, ANONYMOUS)
    }

    /// Loads a number.
    pub(super) fn load_number(&mut self, at: VirtAddr) -> Result<u64, Stop> {
        let mut bytes = [0; 8];
        self.load(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Stores a number.
    pub(super) fn store_number(&mut self, at: VirtAddr, number: u64) -> Result<(), Stop> {
        self.store(at, &number.to_le_bytes())
    }

    /// Stores the content called `key` at `at`, from the content's own byte `offset` on, page by page.
    pub(super) fn fill(
        &mut self,
        at: VirtAddr,
        length: u64,
        key: u64,
        offset: u64,
    ) -> Result<(), Stop> {
        self.by_page(at, length, |worker, at, from, page| {
            pattern::fill(key, offset + from, page);
            worker.store(at, page)
        })
    }

    /// Loads `length` bytes at `at` and compares them with the content called `key`.
    pub(super) fn verify(
        &mut self,
        at: VirtAddr,
        length: u64,
        key: u64,
        offset: u64,
    ) -> Result<(), Stop> {
        self.by_page(at, length, |worker, at, from, page| {
            worker.load(at, page)?;
            match pattern::difference(key, offset + from, page) {
                None => Ok(()),
                Some(place) => Err(wrong(at + place as u64, page[place])),
            }
        })
    }

    /// Loads `length` bytes at `at`, which must all be zero.
    pub(super) fn verify_zero(&mut self, at: VirtAddr, length: u64) -> Result<(), Stop> {
        self.by_page(at, length, |worker, at, _, page| {
            worker.load(at, page)?;
            match page.iter().position(|byte| *byte != 0) {
                None => Ok(()),
                Some(place) => Err(wrong(at + place as u64, page[place])),
            }
        })
    }

    /// Calls `each` with a buffer for every page's share of a range, and with its distance from the start.
    fn by_page(
        &mut self,
        at: VirtAddr,
        length: u64,
        mut each: impl FnMut(&mut Self, VirtAddr, u64, &mut [u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut from = 0;
        let mut result = Ok(());
        while from < length && result.is_ok() {
            let here = at + from;
            let size = (PAGE_SIZE - here.page_offset()).min(length - from);
            result = each(self, here, from, &mut buffer[..size as usize]);
            from += size;
        }
        self.buffer = buffer;
        result
    }
}

fn wrong(at: VirtAddr, byte: u8) -> Stop {
    Stop::Broken(format!("the byte at {at} is {byte:#04x}, which nobody has stored there"))
}
