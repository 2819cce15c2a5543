//! What memory should look like: one flat window for each process, and the bytes of every object.
//!
//! Owns:  plain values. It knows no area, no page table and no sharing but that of objects; where areas
//!        begin and end, which mremap(2) shows, it works out from the pages.

use rumpvm::{CallError, FaultError};
use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr};

/// Half of the window is served by one leaf table, half by the next, in every format.
pub(crate) const BASE: VirtAddr = VirtAddr(0x4000_0000 - 32 * PAGE_SIZE);
/// Pages of the window.
pub(crate) const WINDOW: usize = 64;
const PAGE: usize = PAGE_SIZE as usize;

pub(crate) fn address(page: usize) -> VirtAddr {
    BASE + page as u64 * PAGE_SIZE
}

/// Memory that several mappings see.
pub(crate) struct Contents {
    /// In bytes. What lies beyond it in `bytes` is zero.
    pub(crate) size: usize,
    /// As many as it can ever have.
    pub(crate) bytes: Vec<u8>,
}

impl Contents {
    pub(crate) fn resize(&mut self, size: usize) {
        if size < self.size {
            self.bytes[size..].fill(0);
        }
        self.size = size;
    }
}

/// What one page of a window is.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) prot: Prot,
    pub(crate) shared: bool,
    /// Which object, and which page of it.
    pub(crate) object: Option<(usize, usize)>,
    pub(crate) no_fork: bool,
    /// The private copy, once there is one.
    pub(crate) private: Option<Vec<u8>>,
}

impl Page {
    /// What a page so much further in the same area is before it is touched.
    fn further(&self, pages: usize) -> Self {
        let object = self.object.map(|(object, index)| (object, index + pages));
        Self { object, private: None, ..*self }
    }

    fn continues_in(&self, next: &Self) -> bool {
        let further = self.further(1);
        further.object == next.object
            && (self.prot, self.shared, self.no_fork) == (next.prot, next.shared, next.no_fork)
    }

    fn bytes(&self, objects: &[Contents]) -> Vec<u8> {
        match (&self.private, self.object) {
            (Some(bytes), _) => bytes.clone(),
            (None, Some((object, index))) => {
                objects[object].bytes[index * PAGE..(index + 1) * PAGE].to_vec()
            }
            (None, None) => vec![0; PAGE],
        }
    }
}

/// The memory of one process.
pub(crate) struct Window {
    pub(crate) pages: Vec<Option<Page>>,
    has_nx: bool,
}

impl Window {
    pub(crate) fn new(has_nx: bool) -> Self {
        Self { pages: vec![None; WINDOW], has_nx }
    }

    pub(crate) fn fork(&self) -> Self {
        let inherited = |page: &Option<Page>| page.clone().filter(|page| !page.no_fork);
        Self { pages: self.pages.iter().map(inherited).collect(), ..*self }
    }

    fn index(at: VirtAddr) -> Option<usize> {
        let inside = at >= BASE && at < address(WINDOW);
        inside.then(|| ((at.0 - BASE.0) / PAGE_SIZE) as usize)
    }

    fn fault(
        &mut self,
        objects: &[Contents],
        at: VirtAddr,
        access: Access,
    ) -> Result<&mut Page, FaultError> {
        let page = Self::index(at).and_then(|index| self.pages[index].as_mut());
        let page = page.ok_or(FaultError::Unmapped { at })?;
        let allowed = match access {
            Access::Read => !page.prot.is_empty(),
            Access::Write => page.prot.contains(Prot::WRITE),
            Access::Execute if self.has_nx => page.prot.contains(Prot::EXEC),
            Access::Execute => !page.prot.is_empty(),
        };
        if !allowed {
            return Err(FaultError::Denied { at, wanted: access.needs() });
        }
        if page.private.is_none()
            && let Some((object, index)) = page.object
            && index * PAGE >= objects[object].size
        {
            return Err(FaultError::BeyondEnd { at });
        }
        if access == Access::Write && !page.shared && page.private.is_none() {
            page.private = Some(page.bytes(objects));
        }
        Ok(page)
    }

    pub(crate) fn execute(&mut self, objects: &[Contents], at: VirtAddr) -> Result<(), FaultError> {
        self.fault(objects, at, Access::Execute).map(|_| ())
    }

    pub(crate) fn load(
        &mut self,
        objects: &[Contents],
        at: VirtAddr,
        into: &mut [u8],
    ) -> Result<(), FaultError> {
        for (at, from, to) in parts(at, into.len()) {
            let page = self.fault(objects, at, Access::Read)?.bytes(objects);
            let offset = at.page_offset() as usize;
            into[from..to].copy_from_slice(&page[offset..offset + to - from]);
        }
        Ok(())
    }

    pub(crate) fn store(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        from: &[u8],
    ) -> Result<(), FaultError> {
        for (at, start, end) in parts(at, from.len()) {
            let page = self.fault(objects, at, Access::Write)?;
            let offset = at.page_offset() as usize;
            let (bytes, offset) = match (&mut page.private, page.object) {
                (Some(bytes), _) => (bytes, offset),
                (None, Some((object, index))) => {
                    (&mut objects[object].bytes, index * PAGE + offset)
                }
                (None, None) => unreachable!("a store copies what is private"),
            };
            bytes[offset..offset + end - start].copy_from_slice(&from[start..end]);
        }
        Ok(())
    }

    /// Whether a store there would reach an object's last page behind the object's end, where what it
    /// leaves is seen until the page goes from memory: not a promise.
    pub(crate) fn overhangs(&self, objects: &[Contents], at: VirtAddr, length: usize) -> bool {
        parts(at, length).iter().any(|&(at, from, to)| {
            let page = Self::index(at).and_then(|index| self.pages[index].as_ref());
            let Some(Page { shared: true, object: Some((object, index)), .. }) = page else {
                return false;
            };
            let end = index * PAGE + at.page_offset() as usize + to - from;
            end > objects[*object].size && index * PAGE < objects[*object].size
        })
    }

    pub(crate) fn map(
        &mut self,
        at: usize,
        length: usize,
        first: &Page,
        populate: bool,
        objects: &[Contents],
    ) {
        for page in 0..length {
            self.pages[at + page] = Some(first.further(page));
        }
        let access = if !first.shared && first.prot.contains(Prot::WRITE) {
            Access::Write
        } else {
            // Or a fetch; neither changes anything here.
            Access::Read
        };
        if populate {
            // The first failure ends it, and is no error.
            let _ = (at..at + length)
                .try_for_each(|page| self.fault(objects, address(page), access).map(|_| ()));
        }
    }

    pub(crate) fn unmap(&mut self, at: usize, length: usize) {
        self.pages[at..at + length].fill(None);
    }

    pub(crate) fn complete(&self, at: usize, length: usize) -> Result<(), CallError> {
        let complete = self.pages[at..at + length].iter().all(Option::is_some);
        if complete { Ok(()) } else { Err(CallError::Unmapped) }
    }

    pub(crate) fn protect(
        &mut self,
        at: usize,
        length: usize,
        prot: Prot,
    ) -> Result<(), CallError> {
        for page in &mut self.pages[at..at + length] {
            page.as_mut().ok_or(CallError::Unmapped)?.prot = prot;
        }
        Ok(())
    }

    /// `MADV_DONTNEED`, or with `anonymous` `MADV_FREE`.
    pub(crate) fn drop_private(
        &mut self,
        at: usize,
        length: usize,
        anonymous: bool,
    ) -> Result<(), CallError> {
        for page in self.pages[at..at + length].iter_mut().flatten() {
            if anonymous && page.object.is_some() {
                return Err(CallError::Invalid);
            }
            page.private = None;
        }
        self.complete(at, length)
    }

    pub(crate) fn mark_no_fork(
        &mut self,
        at: usize,
        length: usize,
        no_fork: bool,
    ) -> Result<(), CallError> {
        for page in self.pages[at..at + length].iter_mut().flatten() {
            page.no_fork = no_fork;
        }
        self.complete(at, length)
    }

    /// `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`.
    pub(crate) fn populate(
        &mut self,
        objects: &[Contents],
        at: usize,
        length: usize,
        access: Access,
    ) -> Result<(), CallError> {
        (at..at + length).try_for_each(|page| {
            self.fault(objects, address(page), access).map(|_| ()).map_err(|error| match error {
                FaultError::Unmapped { .. } => CallError::Unmapped,
                FaultError::Denied { .. } => CallError::Invalid,
                _ => CallError::BadAddress,
            })
        })
    }

    /// One past the last page of the area of page `at`.
    fn area_end(&self, at: usize) -> usize {
        let continues = |page: &usize| match (&self.pages[*page - 1], &self.pages[*page]) {
            (Some(page), Some(next)) => page.continues_in(next),
            _ => false,
        };
        (at + 1..WINDOW).take_while(continues).last().unwrap_or(at) + 1
    }

    /// mremap without flags: shrink, or grow in place.
    pub(crate) fn resize(&mut self, at: usize, old: usize, new: usize) -> Result<usize, CallError> {
        let first = self.pages[at].clone().ok_or(CallError::BadAddress)?;
        if new <= old {
            self.unmap(at + new, old - new);
            return Ok(at);
        }
        let end = self.area_end(at);
        if at + old > end {
            return Err(CallError::BadAddress);
        }
        if at + old < end || self.pages[end..at + new].iter().any(Option::is_some) {
            return Err(CallError::NoMemory);
        }
        for page in old..new {
            self.pages[at + page] = Some(first.further(page));
        }
        Ok(at)
    }

    /// mremap with `MAYMOVE`, `FIXED`, and perhaps `DONTUNMAP`, to page `to`.
    pub(crate) fn relocate(
        &mut self,
        (at, old): (usize, usize),
        (to, new): (usize, usize),
        keep: bool,
    ) -> Result<usize, CallError> {
        if (to < at + old && at < to + new) || (keep && old != new) {
            return Err(CallError::Invalid);
        }
        let first = self.pages[at].clone().ok_or(CallError::BadAddress)?;
        if old == 0 && !first.shared {
            return Err(CallError::Invalid);
        }
        if at + old > self.area_end(at) {
            return Err(CallError::BadAddress);
        }
        self.unmap(to, new);
        for page in 0..old.max(new) {
            let mut moved = first.further(page);
            if page < old {
                let slot = &mut self.pages[at + page];
                moved.private = slot.as_mut().and_then(|page| page.private.take());
                if !keep {
                    *slot = None;
                }
            }
            if page < new {
                self.pages[to + page] = Some(moved);
            }
        }
        Ok(to)
    }
}

/// `length` bytes from `at`, page by page: where, and which of the bytes.
fn parts(at: VirtAddr, length: usize) -> Vec<(VirtAddr, usize, usize)> {
    let (mut parts, mut done) = (Vec::new(), 0);
    while done < length {
        let at = at + done as u64;
        let end = length.min(done + PAGE - at.page_offset() as usize);
        parts.push((at, done, end));
        done = end;
    }
    parts
}
