//! mprotect.

use rumpvm::{AreaFlags, CallError, ProtFlags};
use rumpvm_arch::{Prot, VirtAddr};

use super::{Contents, Memory, whole_pages};

impl Memory {
    /// mprotect(2).
    pub fn mprotect(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        length: u64,
        flags: ProtFlags,
    ) -> Result<(), CallError> {
        let both = ProtFlags::GROWSDOWN | ProtFlags::GROWSUP;
        if flags.contains(both) || !at.is_page_aligned() {
            return Err(CallError::Invalid);
        }
        let (mut first, end) = whole_pages(at, length).ok_or(CallError::Unmapped)?;
        if first == end {
            return Ok(());
        }
        if ProtFlags::from_bits(flags.bits()).is_none() {
            return Err(CallError::Invalid);
        }
        let touched =
            self.pages.range(first..end).next().map(|(number, page)| (*number, page.is_stack()));
        if flags.intersects(both) {
            let (found, is_stack) = touched.ok_or(CallError::Unmapped)?;
            if flags.contains(ProtFlags::GROWSUP) {
                return Err(if found == first { CallError::Invalid } else { CallError::Unmapped });
            }
            if !is_stack {
                return Err(CallError::Invalid);
            }
            first = self.area_start(found);
        }
        let prefix = self.prefix((first, end));
        let prot = flags.rights();
        let mut fill = vec![];
        for (number, page) in self.pages.range_mut(prefix.0..prefix.1) {
            let gains = prot.contains(Prot::WRITE) && !page.prot.contains(Prot::WRITE);
            if gains && page.is_filled() && !page.is_shared() {
                fill.push((*number, (page.prot, page.flags)));
            }
            if !page.flags.contains(AreaFlags::RESERVED) {
                page.prot = prot;
                page.account();
            }
        }
        // Area by area, and each as far as it goes.
        let runs = fill.chunk_by(|one, next| one.0 + 1 == next.0 && one.1 == next.1);
        for run in runs {
            self.populate(objects, (run[0].0, run[run.len() - 1].0 + 1));
        }
        self.answer((first, end))
    }

    /// pkey_mprotect(2) of a machine without keys.
    pub fn pkey_mprotect(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        length: u64,
        flags: ProtFlags,
        key: i32,
    ) -> Result<(), CallError> {
        let unknown = if key == -1 { 0 } else { 1 << 40 };
        self.mprotect(objects, at, length, flags | ProtFlags::from_bits_retain(unknown))
    }
}
