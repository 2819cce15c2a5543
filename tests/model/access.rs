//! Loads, stores and fetches: what they see and what they may not, and the stacks that grow below them.

use rumpvm::FaultError;
use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr};

use super::{Contents, LOWEST, Memory, PAGE, Page};

/// Pages of the largest stack, 8 MiB.
const STACK: u64 = 2048;
/// Pages between a stack and what lies below it.
pub(super) const GUARD: u64 = 256;

impl Memory {
    fn fault(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        access: Access,
    ) -> Result<&mut Page, FaultError> {
        if !self.pages.contains_key(&at.page()) {
            self.grow_stack(at);
        }
        self.fault_in(objects, at, access)
    }

    /// As `fault`, for those who do not let stacks grow.
    pub(super) fn fault_in(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        access: Access,
    ) -> Result<&mut Page, FaultError> {
        let has_nx = self.computer.has_nx;
        let page = self.pages.get_mut(&at.page()).ok_or(FaultError::Unmapped { at })?;
        let allowed = match access {
            Access::Read => !page.prot.is_empty(),
            Access::Write => page.prot.contains(Prot::WRITE),
            Access::Execute if has_nx => page.prot.contains(Prot::EXEC),
            Access::Execute => !page.prot.is_empty(),
        };
        if !allowed {
            return Err(FaultError::Denied { at, wanted: access.needs() });
        }
        if page.guard {
            return Err(FaultError::Guarded { at });
        }
        if page.private.is_none()
            && let Some((object, index)) = page.object
        {
            if index * PAGE >= objects[object].size {
                return Err(FaultError::BeyondEnd { at });
            }
            objects[object].resident.insert(index);
        }
        if access != Access::Write {
            page.loaded = true;
        } else if !page.is_shared() && page.private.is_none() {
            page.private = Some(page.bytes(objects));
        }
        Ok(page)
    }

    /// Extends the stack above `at`, if there is one and it may.
    fn grow_stack(&mut self, at: VirtAddr) {
        let first = at.page();
        let Some((&top, stack)) = self.pages.range(first..).next() else { return };
        let size = self.area_end(top) - first;
        let mut stack = stack.clone();
        let below = self.pages.range(..first).next_back();
        let near = below.is_some_and(|(number, page)| {
            first - (number + 1) < GUARD && !page.prot.is_empty() && !page.is_stack()
        });
        let promised = stack.prot.contains(Prot::WRITE) && size > self.computer.frames;
        if !stack.is_stack() || size > STACK || near || promised || first * PAGE_SIZE < LOWEST {
            return;
        }
        (stack.private, stack.loaded, stack.guard) = (None, false, false);
        let more = (top - first) * PAGE_SIZE;
        if stack.is_locked() && self.locked().saturating_add(more) > self.lock_limit {
            return;
        }
        for number in first..top {
            self.pages.insert(number, stack.clone());
        }
    }

    /// One fetch.
    pub fn execute(&mut self, objects: &mut [Contents], at: VirtAddr) -> Result<(), FaultError> {
        self.fault(objects, at, Access::Execute).map(|_| ())
    }

    /// A load; on error the pages before are loaded.
    pub fn load(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        into: &mut [u8],
    ) -> Result<(), FaultError> {
        for (at, from, to) in parts(at, into.len()) {
            let page = self.fault(objects, at, Access::Read)?.clone();
            let offset = at.page_offset() as usize;
            into[from..to].copy_from_slice(&page.bytes(objects)[offset..offset + to - from]);
        }
        Ok(())
    }

    /// A store; on error the pages before are stored to.
    pub fn store(
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
    pub fn overhangs(&self, objects: &[Contents], at: VirtAddr, length: usize) -> bool {
        parts(at, length).iter().any(|&(at, from, to)| {
            let page = self.pages.get(&at.page()).filter(|page| page.is_shared());
            let Some((object, index)) = page.and_then(|page| page.object) else { return false };
            let end = index * PAGE + at.page_offset() as usize + to - from;
            end > objects[object].size && index * PAGE < objects[object].size
        })
    }

    /// Brings a page in as populating does: ready to be stored to where stores make private copies, else
    /// for reading.
    pub(super) fn touch(&mut self, objects: &mut [Contents], page: u64) -> Result<(), FaultError> {
        let access = match self.pages.get(&page) {
            Some(page) if !page.is_shared() && page.prot.contains(Prot::WRITE) => Access::Write,
            Some(page) if page.prot == Prot::EXEC => Access::Execute,
            _ => Access::Read,
        };
        self.fault_in(objects, VirtAddr::of_page(page), access).map(|_| ())
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
