//! Objects that become longer or shorter under their mappings.
//!
//! Locks: the object's `resizing`, all the while; below it the list of spaces, and one map after the other.
//! Sleep: for them, for pages in transit, and in the object's file.

use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::Platform;

use super::{Space, Spaces};
use crate::error::CallError;
use crate::object::{Object, Resizing, Seals, allocation_end};

/// Whether an object becomes longer when more of it is allocated than there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BeyondEnd {
    /// It does.
    Grow,
    /// It does not (`FALLOC_FL_KEEP_SIZE`).
    Keep,
}

impl<P: Platform> Spaces<P> {
    /// Makes `object`, of which the caller is a user, `bytes` bytes long, as ftruncate(2) does, and its file with
    /// it. Pages beyond the end vanish from every space, private copies too, and what they held is lost; accesses
    /// there are answered with SIGBUS. The rest of the last page is zeroed. What is gained is zeros.
    ///
    /// Takes no longer for spaces that do not map the object privately; in those that do, a look at each area.
    /// Shrinking needs no memory. Errors, and then nothing has changed: [`CallError::Io`] when the file refuses,
    /// [`CallError::Invalid`] for the memory of a device and for more bytes than an object can have. Sleeps.
    pub fn resize(&self, object: &Object<P>, bytes: u64) -> Result<(), CallError> {
        let resizing = object.resizing(&self.mmu);
        let cut_off = resizing.set(&self.mmu, bytes)?;
        self.cut_off(object, &resizing, cut_off);
        Ok(())
    }

    /// Brings in what is missing of `length` bytes of a memory file from `offset` on, so that none of it can fail to
    /// come later for want of memory; as fallocate(2) does. The file becomes longer if it has to and `beyond` says
    /// so; otherwise what lies beyond its end is not kept ready. Errors: [`CallError::Invalid`] for no length,
    /// [`CallError::TooLarge`], [`CallError::NotPermitted`] if it must not become longer, even if it would not,
    /// [`CallError::Unsupported`] for what is no anonymous memory; [`CallError::NoMemory`], and then the size is what
    /// it was. Sleeps.
    pub fn allocate(
        &self,
        object: &Object<P>,
        offset: u64,
        length: u64,
        beyond: BeyondEnd,
    ) -> Result<(), CallError> {
        let end = allocation_end(offset, length)?;
        if !object.is_memory() {
            return Err(CallError::Unsupported);
        }
        let resizing = object.resizing(&self.mmu);
        let before = object.size();
        let reaches_beyond = end > before;
        if reaches_beyond && object.sealed().contains(Seals::GROW) {
            return Err(CallError::NotPermitted);
        }
        let grows = reaches_beyond && beyond == BeyondEnd::Grow;
        if grows {
            resizing.set(&self.mmu, end)?;
        }
        let last = end.div_ceil(PAGE_SIZE).min(object.page_count());
        let brought = object.bring_in(&self.mmu, (offset / PAGE_SIZE, last));
        if grows && brought.is_err() {
            // It was never longer for anybody who waits for this call, so no seal forbids it.
            let cut_off = resizing.change(&self.mmu, before)?;
            self.cut_off(object, &resizing, cut_off);
        }
        brought
    }

    /// Takes the private copies away that are cut off, if there is a first page of which they are.
    fn cut_off(&self, object: &Object<P>, resizing: &Resizing<'_, P>, first: Option<u64>) {
        let Some(first) = first else { return };
        self.each_mapper(object, |space| space.unmap_cut_off(self, object, first));
        self.each_mapper(object, |space| space.drop_cut_off(self, object, first));
        resizing.zero_tail(&self.mmu);
    }

    /// Calls `f` with every space that has private areas of `object`. Children that are born meanwhile come after
    /// their parents. What is ending is left out: it has no thread that could look. Nobody is made a user, whose
    /// leaving might end a space, and other objects with it, in the middle of this.
    fn each_mapper(&self, object: &Object<P>, f: impl Fn(&Space<P>)) {
        let mut last = 0;
        while let Some(map) = object.mappers().after(last) {
            last = map;
            if let Some(space) = self.find_space(map) {
                f(&space);
            }
        }
    }
}
