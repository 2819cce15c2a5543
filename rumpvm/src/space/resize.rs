//! Objects that become longer or shorter under their mappings.
//!
//! Locks: the object's `resizing`, all the while; below it the list of spaces, and one map after the other.
//! Sleep: for them, for pages in transit, and in the object's file.

use rumpvm_platform::Platform;

use super::{Space, Spaces};
use crate::error::CallError;
use crate::object::Object;

impl<P: Platform> Spaces<P> {
    /// Makes `object`, of which the caller is a user, `bytes` bytes long, as ftruncate(2) does, and its file with
    /// it. Pages beyond the end vanish from every space, private copies too, and what they held is lost; accesses
    /// there are answered with SIGBUS. The rest of the last page is zeroed. What is gained is zeros.
    ///
    /// Takes no longer for spaces that do not map the object privately; in those that do, a look at each area.
    /// Shrinking needs no memory. Errors, and then nothing has changed: [`CallError::Io`] when the file refuses,
    /// [`CallError::Invalid`] for the memory of a device and for more bytes than an object can have. Sleeps.
    pub fn resize(&self, object: &Object<P>, bytes: u64) -> Result<(), CallError> {
        let mmu = &self.mmu;
        let resizing = object.resizing(mmu);
        let Some(first) = resizing.set(mmu, bytes)? else { return Ok(()) };
        self.each_mapper(object, |space| space.unmap_cut_off(self, object, first));
        self.each_mapper(object, |space| space.drop_cut_off(self, object, first));
        resizing.zero_tail(mmu);
        Ok(())
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
