//! mmap and brk, made where Linux made them.
//!
//! M1 and M2 of `memory` are kept here.

use rumpvm::{Backing, CallError, Hold, MapFlags, Object};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_hosted::Hosted;

use super::files::Opening;
use super::memory::{self, Ours, Site};
use crate::trace::{Descriptor, Returned, Span};

/// The arguments of mmap.
pub(super) struct Mmap<'a> {
    pub(super) span: Span,
    pub(super) prot: Prot,
    pub(super) flags: u64,
    pub(super) file: &'a Descriptor,
    pub(super) offset: u64,
}

/// `MAP_HUGETLB` of mmap(2), and the size of huge pages above it. Pages of the usual size do for such
/// a mapping, since only lengths and places are compared.
const MAP_HUGETLB: u64 = 0x4_0000;
const MAP_HUGE_SIZE: u64 = 0x3f << 26;

impl Mmap<'_> {
    fn map_flags(&self) -> MapFlags {
        MapFlags::from_bits_retain((self.flags & !(MAP_HUGETLB | MAP_HUGE_SIZE)) as u32)
    }

    /// Whether its file is likely to have been opened just before.
    fn opening(&self) -> Opening {
        let flags = self.map_flags();
        let is_private = flags.contains(MapFlags::PRIVATE) && !flags.contains(MapFlags::SHARED);
        if is_private && !flags.contains(MapFlags::FIXED) && self.offset == 0 {
            Opening::Fresh
        } else {
            Opening::Same
        }
    }
}

impl Site<'_> {
    pub(super) fn mmap(&mut self, call: &Mmap<'_>, linux: Returned) -> Ours {
        let file = self.open(call).map_err(memory::errno)?;
        let backing = || file.as_ref().map_or(Backing::Anonymous, Backing::Object);
        let ours = match linux {
            Returned::Value(chosen) => self.placed_mmap(call, VirtAddr(chosen), backing),
            _ => self.refused_mmap(call, backing()),
        };
        if let Some(file) = &file {
            // A mapping uses the file by itself. What cannot be written stays for the next open.
            self.vm.close(file).ok();
        }
        ours
    }

    /// The call as it was made, which Linux refused.
    fn refused_mmap(&mut self, call: &Mmap<'_>, backing: Backing<'_, Hosted>) -> Ours {
        let ours = self.map(call, call.span.at, call.map_flags(), backing);
        if let Ok(at) = ours {
            self.unmap(VirtAddr(at), call.span.length); // M2
        }
        ours
    }

    /// The call at the place that Linux chose, where nothing may be unless it was to be replaced. (M1)
    fn placed_mmap<'f>(
        &mut self,
        call: &Mmap<'_>,
        chosen: VirtAddr,
        backing: impl Fn() -> Backing<'f, Hosted>,
    ) -> Ours {
        let span = Span { at: chosen, ..call.span };
        self.decided(span);
        self.became_usable(span, call.prot);
        let flags = call.map_flags();
        let replaces = flags.contains(MapFlags::FIXED);
        let placed = if replaces { flags } else { flags | MapFlags::FIXED_NOREPLACE };
        let ours = self.map(call, chosen, placed, backing());
        if ours != Ok(chosen.0) {
            let forced = (flags - MapFlags::FIXED_NOREPLACE) | MapFlags::FIXED;
            self.map(call, chosen, forced, backing()).ok(); // M2
        }
        ours
    }

    /// The file of the call, opened, if it maps one.
    fn open(&mut self, call: &Mmap<'_>) -> Result<Option<Hold<Object<Hosted>, Hosted>>, CallError> {
        if call.map_flags().contains(MapFlags::ANONYMOUS) {
            return Ok(None);
        }
        let file = self.files.file(self.open, call.file, call.opening());
        self.vm.open_file(file).map(Some)
    }

    fn map(
        &self,
        call: &Mmap<'_>,
        at: VirtAddr,
        flags: MapFlags,
        backing: Backing<'_, Hosted>,
    ) -> Ours {
        let length = call.span.length;
        let offset = call.offset;
        memory::address(self.space.mmap(self.vm, at, length, call.prot, flags, backing, offset))
    }

    /// Takes away what Linux does not have.
    pub(super) fn unmap(&self, at: VirtAddr, length: u64) {
        self.space.munmap(self.vm, at, length).ok();
    }

    pub(super) fn brk(&mut self, at: VirtAddr, linux: Returned) -> Ours {
        let Returned::Value(now) = linux else { return Ok(self.space.brk(self.vm, at).0) };
        let now = VirtAddr(now);
        if !self.known.has_break {
            self.known.has_break = true;
            self.space.set_brk_base(now);
        }
        let before = self.space.brk(self.vm, VirtAddr(0));
        // The page of a break inside a page is there already: it is the heap's or the image's.
        let from = before.page_up().unwrap_or(now);
        let grown = Span { at: from, length: now.0.saturating_sub(from.0) };
        self.decided(grown);
        self.became_usable(grown, Prot::RW);
        let ours = self.space.brk(self.vm, at);
        if ours != now {
            self.space.brk(self.vm, now); // M2
        }
        Ok(ours.0)
    }
}
