//! A slot: pages at a fixed place that one thread owns, with a model of what each must be.
//!
//! S1. The model changes only after the call or store that it follows from has succeeded, and a call that
//!     fails has changed nothing.

use std::ops::Range;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use rumpvm::map::MapFlags;
use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr};

use super::stop::Stop;
use super::worker::{Source, Worker};

/// What must be in a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// Zeros.
    Zero,
    /// The page of the file that was mapped there.
    File,
    /// What this thread has stored.
    Stored(u64),
}

/// A mapped page.
#[derive(Clone, Copy)]
struct Mapped {
    prot: Prot,
    content: Content,
    /// What the page holds again when its content is discarded.
    below: Content,
}

/// See the header.
pub(super) struct Slot {
    at: VirtAddr,
    pages: Vec<Option<Mapped>>,
    file: u64,
}

/// Rights that mappings have. x86 cannot express write without read, so it is left out.
const RIGHTS: [Prot; 5] =
    [Prot::empty(), Prot::READ, Prot::RW, Prot::READ.union(Prot::EXEC), Prot::ALL];

impl Slot {
    /// `pages` unmapped pages at `at`; `file` is the content of the file that is mapped there at times,
    /// each page showing the file's page of the same number.
    pub(super) fn new(at: VirtAddr, pages: usize, file: u64) -> Self {
        Self { at, pages: vec![None; pages], file }
    }

    /// Some pages, at least one.
    pub(super) fn random_range(&self, rng: &mut Xoshiro256PlusPlus) -> Range<usize> {
        let start = rng.random_range(0..self.pages.len());
        start..rng.random_range(start + 1..=self.pages.len())
    }

    fn place(&self, page: usize) -> VirtAddr {
        self.at + page as u64 * PAGE_SIZE
    }

    /// Maps `range` anew, private, with random rights. A slot of writable pages has most to tell.
    pub(super) fn map(
        &mut self,
        worker: &mut Worker<'_>,
        range: Range<usize>,
        content: Content,
        source: Source<'_>,
    ) -> Result<(), Stop> {
        let writable = worker.rng.random_bool(0.7);
        let prot = if writable { Prot::RW } else { random_rights(worker) };
        let mut flags = MapFlags::PRIVATE | MapFlags::FIXED;
        flags.set(MapFlags::ANONYMOUS, content != Content::File);
        let at = self.place(range.start);
        let found = worker.map(at, bytes(&range), prot, flags, source)?;
        if found != at {
            return Err(Stop::Broken(format!("mmap, fixed at {at}, mapped {found}")));
        }
        self.pages[range].fill(Some(Mapped { prot, content, below: content }));
        Ok(())
    }

    /// Unmaps `range`, whatever is there.
    pub(super) fn unmap(
        &mut self,
        worker: &mut Worker<'_>,
        range: Range<usize>,
    ) -> Result<(), Stop> {
        worker.unmap(self.place(range.start), bytes(&range))?;
        self.pages[range].fill(None);
        Ok(())
    }

    /// Gives the mapped pages from the start of `range` on random rights.
    pub(super) fn protect(
        &mut self,
        worker: &mut Worker<'_>,
        range: Range<usize>,
    ) -> Result<(), Stop> {
        let prot = random_rights(worker);
        let Some(range) = self.mapped(range) else { return Ok(()) };
        worker.protect(self.place(range.start), bytes(&range), prot)?;
        for page in self.pages[range].iter_mut().flatten() {
            page.prot = prot;
        }
        Ok(())
    }

    /// Discards the contents of the mapped pages from the start of `range` on.
    pub(super) fn discard(
        &mut self,
        worker: &mut Worker<'_>,
        range: Range<usize>,
    ) -> Result<(), Stop> {
        let Some(range) = self.mapped(range) else { return Ok(()) };
        worker.discard(self.place(range.start), bytes(&range))?;
        for page in self.pages[range].iter_mut().flatten() {
            page.content = page.below;
        }
        Ok(())
    }

    /// The part of `range` up to its first hole.
    fn mapped(&self, range: Range<usize>) -> Option<Range<usize>> {
        let pages = self.pages[range.clone()].iter();
        let end = range.start + pages.take_while(|page| page.is_some()).count();
        (end > range.start).then_some(range.start..end)
    }

    /// Stores to page `page`, or finds that it is refused.
    pub(super) fn store(&mut self, worker: &mut Worker<'_>, page: usize) -> Result<(), Stop> {
        let at = self.place(page);
        match &mut self.pages[page] {
            Some(mapped) if mapped.prot.allows(Access::Write, true) => {
                let key = worker.rng.random();
                worker.fill(at, PAGE_SIZE, key, 0)?;
                mapped.content = Content::Stored(key);
                Ok(())
            }
            _ => {
                let result = worker.user.store(at, &[0]);
                worker.refused(result)
            }
        }
    }

    /// Loads page `page` and compares it, or finds that it is refused.
    pub(super) fn load(&self, worker: &mut Worker<'_>, page: usize) -> Result<(), Stop> {
        let at = self.place(page);
        match &self.pages[page] {
            Some(mapped) if mapped.prot.allows(Access::Read, true) => match mapped.content {
                Content::Zero => worker.verify_zero(at, PAGE_SIZE),
                Content::File => worker.verify(at, PAGE_SIZE, self.file, page as u64 * PAGE_SIZE),
                Content::Stored(key) => worker.verify(at, PAGE_SIZE, key, 0),
            },
            _ => {
                let result = worker.user.load(at, &mut [0]);
                worker.refused(result)
            }
        }
    }

    /// Loads every page.
    pub(super) fn verify(&self, worker: &mut Worker<'_>) -> Result<(), Stop> {
        (0..self.pages.len()).try_for_each(|page| self.load(worker, page))
    }
}

fn bytes(range: &Range<usize>) -> u64 {
    range.len() as u64 * PAGE_SIZE
}

fn random_rights(worker: &mut Worker<'_>) -> Prot {
    RIGHTS[worker.rng.random_range(0..RIGHTS.len())]
}
