//! What a child gets.

use rumpvm::{AreaFlags, CallError, Inheritance, MapFlags};
use rumpvm_arch::{Prot, VirtAddr};

use super::{Contents, LOCK, Memory, PAGE, Page, Pages, whole_pages};

const MARKS: AreaFlags = AreaFlags::INHERIT.union(AreaFlags::DONTFORK).union(AreaFlags::WIPEONFORK);

impl Memory {
    /// A child.
    pub fn fork(&mut self, objects: &mut Vec<Contents>) -> Self {
        let is_marked = |page: &Page| page.flags.contains(AreaFlags::INHERIT) && !page.is_shared();
        let areas = self.areas();
        let marked = areas.iter().filter(|(_, page)| is_marked(page));
        let marked: Vec<Pages> = marked.map(|(pages, _)| *pages).collect();
        marked.into_iter().for_each(|pages| self.become_object(objects, pages));
        let mut child = self.clone();
        child.future = AreaFlags::empty();
        child.pages.retain(|_, page| !page.flags.contains(AreaFlags::DONTFORK));
        for page in child.pages.values_mut() {
            page.flags.remove(LOCK);
            if page.flags.contains(AreaFlags::WIPEONFORK) {
                page.flags.remove(AreaFlags::SHARED);
                (page.object, page.private) = (None, None);
                (page.loaded, page.guard) = (false, false);
            } else if page.flags.contains(AreaFlags::INHERIT) {
                page.flags.remove(AreaFlags::SHARED | AreaFlags::INHERIT);
                page.guard = false;
            }
        }
        child
    }

    /// What a child is to share becomes an object.
    fn become_object(&mut self, objects: &mut Vec<Contents>, (first, end): Pages) {
        let mut contents = Contents::memory((end - first) as usize * PAGE);
        for (number, page) in self.pages.range_mut(first..end) {
            let index = (number - first) as usize;
            if let Some(bytes) = page.private.take() {
                contents.bytes[index * PAGE..(index + 1) * PAGE].copy_from_slice(&bytes);
                contents.resident.insert(index);
            }
            page.object = Some((objects.len(), index));
            page.loaded = false;
            page.flags.remove(AreaFlags::INHERIT | AreaFlags::GROWSDOWN);
            page.flags.insert(AreaFlags::SHARED);
        }
        objects.push(contents);
    }

    /// minherit(2).
    pub fn minherit(
        &mut self,
        at: VirtAddr,
        length: u64,
        inheritance: Inheritance,
    ) -> Result<(), CallError> {
        let start = at.page_down();
        let pages = length.checked_add(at - start).and_then(|length| whole_pages(start, length));
        let pages = pages.ok_or(CallError::Invalid)?;
        let unfit = |page: &Page| {
            inheritance == Inheritance::Share && page.object.is_some() && !page.is_shared()
        };
        if self.in_range(pages).any(|(_, page)| unfit(page)) {
            return Err(CallError::Unsupported);
        }
        self.change(pages, |page| {
            if page.flags.contains(AreaFlags::RESERVED) && inheritance == Inheritance::Zero {
                return;
            }
            page.flags.remove(MARKS);
            let turned = match inheritance {
                Inheritance::Share => !page.is_shared(),
                Inheritance::Copy => page.is_shared(),
                Inheritance::None => return page.flags.insert(AreaFlags::DONTFORK),
                Inheritance::Zero => return page.flags.insert(AreaFlags::WIPEONFORK),
            };
            page.flags.set(AreaFlags::INHERIT, turned);
        });
        Ok(())
    }

    /// A reservation.
    pub fn reserve(
        &mut self,
        hint: VirtAddr,
        length: u64,
        flags: MapFlags,
    ) -> Result<VirtAddr, CallError> {
        let flags = flags | MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::NORESERVE;
        let future = std::mem::take(&mut self.future);
        let mapped = self.mmap(&mut vec![], hint, length, Prot::empty(), flags, None);
        self.future = future;
        if let (Ok(at), Some(pages)) = (mapped, whole_pages(hint, length)) {
            let pages = (at.page(), at.page() + pages.1 - pages.0);
            self.change(pages, |page| page.flags.insert(AreaFlags::RESERVED));
        }
        mapped
    }
}
