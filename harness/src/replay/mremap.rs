//! mremap, made where Linux made it.
//!
//! M1 and M2 of `memory` are kept here.

use std::ops::ControlFlow;

use rumpvm::{Backing, MapFlags, RemapFlags};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

use super::memory::{self, Ours, Site};
use crate::trace::{Errno, Returned, Span};

/// The arguments of mremap.
#[derive(Clone, Copy)]
pub(super) struct Mremap {
    pub(super) old: Span,
    pub(super) new_length: u64,
    pub(super) flags: RemapFlags,
    pub(super) new_at: VirtAddr,
}

const ENOMEM: Errno = Errno(12);

impl Site<'_> {
    pub(super) fn mremap(&mut self, call: Mremap, linux: Returned) -> Ours {
        let Returned::Value(chosen) = linux else { return self.refused_mremap(call, linux) };
        let chosen = VirtAddr(chosen);
        let ours = self.placed_mremap(call, chosen);
        let ours = match (ours, call.old.pages()) {
            (Err(_), Some(old)) if self.infer(old) => self.placed_mremap(call, chosen),
            _ => ours,
        };
        self.decided(call.old);
        self.decided(Span { at: chosen, length: call.new_length });
        if ours.is_err() {
            self.force_mremap(call, chosen);
        }
        let grown = call.new_length.saturating_sub(call.old.length);
        let kept = call.new_length - grown;
        let tail = Span { at: VirtAddr(chosen.0.saturating_add(kept)), length: grown };
        self.became_usable(tail, self.rights_at(tail.at));
        ours
    }

    /// The rights of the mapping at `at`, which mremap kept.
    fn rights_at(&self, at: VirtAddr) -> Prot {
        let found = self.space.areas(self.vm, |area| {
            if area.range.contains(at) {
                ControlFlow::Break(area.prot)
            } else {
                ControlFlow::Continue(())
            }
        });
        found.break_value().unwrap_or_default()
    }

    /// Programs find the end of their stack by asking for growth in place until the error tells that
    /// something is there (ENOMEM), so that error stands for pages of the image: the old ones, and the
    /// one in the way.
    fn refused_mremap(&mut self, call: Mremap, linux: Returned) -> Ours {
        let in_place = !call.flags.contains(RemapFlags::MAYMOVE);
        let with_next = Span { length: call.old.length.saturating_add(PAGE_SIZE), ..call.old };
        if let (Returned::Failed(ENOMEM), true, Some(range)) = (linux, in_place, with_next.pages())
        {
            self.infer(range);
        }
        self.plain_mremap(call)
    }

    fn plain_mremap(&self, call: Mremap) -> Ours {
        let Mremap { old, new_length, flags, new_at } = call;
        let length = old.length;
        memory::address(self.space.mremap(self.vm, old.at, length, new_length, flags, new_at))
    }

    /// The call with Linux's choice of place: in place, or at `chosen`, where nothing may be. (M1)
    fn placed_mremap(&mut self, call: Mremap, chosen: VirtAddr) -> Ours {
        if call.flags.contains(RemapFlags::FIXED) {
            return self.plain_mremap(call);
        }
        if chosen == call.old.at {
            return self.plain_mremap(Mremap { flags: call.flags - RemapFlags::MAYMOVE, ..call });
        }
        self.reserve(chosen, call.new_length)?;
        let flags = call.flags | RemapFlags::FIXED;
        let ours = self.plain_mremap(Mremap { flags, new_at: chosen, ..call });
        if ours.is_err() {
            self.unmap(chosen, call.new_length);
        }
        ours
    }

    /// Maps `length` bytes at `at` without rights, if nothing is there; the fixed call replaces them.
    fn reserve(&mut self, at: VirtAddr, length: u64) -> Ours {
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED_NOREPLACE;
        let nothing = Backing::Anonymous;
        memory::address(self.space.mmap(self.vm, at, length, Prot::empty(), flags, nothing, 0))
    }

    /// Has the new range mapped and the old one not, whatever was there. (M2)
    fn force_mremap(&mut self, call: Mremap, chosen: VirtAddr) {
        if chosen != call.old.at && !call.flags.contains(RemapFlags::DONTUNMAP) {
            self.unmap(call.old.at, call.old.length);
        }
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
        let (length, backing) = (call.new_length, Backing::Anonymous);
        self.space.mmap(self.vm, chosen, length, Prot::RW, flags, backing, 0).ok();
    }
}
