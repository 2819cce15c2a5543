//! One recorded call for memory, made on rumpvm.
//!
//! Flow:  call and Linux's result -> the same call, its place chosen as Linux chose it -> our result.
//!
//! M1. Where Linux chose the place, rumpvm must find it free: the call is made there and fails on
//!     anything in its way, as with `MAP_FIXED_NOREPLACE`.
//! M2. After a call rumpvm has mapped what Linux has, even if their results differ, as far as the
//!     results show it; one disagreement does not bring others after it.

use rumpvm::{
    CallError, LockAllFlags, LockFlags, MapFlags, ProtFlags, RemapFlags, Space, SyncFlags, Vm,
};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_hosted::Hosted;

use super::files::{Descriptors, Files};
use super::infer;
use super::known::Known;
use super::mmap::Mmap;
use super::mremap::Mremap;
use crate::trace::{Call, Errno, Returned, Span, advice_name};

/// Where a call is made, and what it needs.
pub(super) struct Site<'a> {
    pub(super) vm: &'a Vm<Hosted>,
    pub(super) space: &'a Space<Hosted>,
    pub(super) known: &'a mut Known,
    pub(super) files: &'a mut Files,
    pub(super) open: &'a mut Descriptors,
    /// Pages that had to be inferred for the call.
    pub(super) inferred: u64,
    /// What the program can use since the call, and how.
    pub(super) usable: Option<(VirtRange, Prot)>,
}

/// What rumpvm returned.
pub(super) type Ours = Result<u64, Errno>;

/// rumpvm has no such call.
pub(super) struct NotOffered {
    /// The call, as it should be counted.
    pub(super) what: String,
}

pub(super) fn errno(error: CallError) -> Errno {
    Errno(error.errno())
}

fn zero(result: Result<(), CallError>) -> Ours {
    result.map(|()| 0).map_err(errno)
}

pub(super) fn address(result: Result<VirtAddr, CallError>) -> Ours {
    result.map(|at| at.0).map_err(errno)
}

/// The rights in `prot`; Linux ignores other bits.
pub(super) fn rights(prot: u64) -> Prot {
    Prot::from_bits_truncate(prot as u8)
}

/// mincore has a byte of result for each page; for more bytes of memory than this, the result would not
/// fit a small host.
const LONGEST_MINCORE: u64 = 1 << 36;

impl Site<'_> {
    /// Makes `call`, which returned `linux` when it was recorded.
    pub(super) fn make(&mut self, call: &Call, linux: Returned) -> Result<Ours, NotOffered> {
        let (vm, space) = (self.vm, self.space);
        let ours = match call {
            Call::Mmap { span, prot, flags, file, offset } => {
                let prot = rights(*prot);
                self.mmap(&Mmap { span: *span, prot, flags: *flags, file, offset: *offset }, linux)
            }
            Call::Munmap(span) => {
                if let Returned::Value(_) = linux {
                    self.decided(*span);
                }
                zero(space.munmap(vm, span.at, span.length))
            }
            Call::Mprotect { span, prot } => {
                let prot = ProtFlags::from_bits_retain(*prot);
                if let Returned::Value(_) = linux {
                    self.became_usable(*span, prot.rights());
                }
                self.on_image(*span, linux, || zero(space.mprotect(vm, span.at, span.length, prot)))
            }
            Call::Mremap { old, new_length, flags, new_at } => {
                let flags = RemapFlags::from_bits_retain(*flags as u32);
                let (old, new_length, new_at) = (*old, *new_length, *new_at);
                self.mremap(Mremap { old, new_length, flags, new_at }, linux)
            }
            Call::Madvise { advice, .. } if self.lacks(*advice, linux) => {
                return Err(NotOffered { what: format!("madvise {}", advice_name(*advice)) });
            }
            Call::Madvise { span, advice } => self
                .on_image(*span, linux, || zero(space.madvise(vm, span.at, span.length, *advice))),
            Call::Msync { span, flags } => {
                let flags = SyncFlags::from_bits_retain(*flags);
                self.on_image(*span, linux, || zero(space.msync(vm, span.at, span.length, flags)))
            }
            Call::Mincore(span) if span.length > LONGEST_MINCORE => {
                return Err(NotOffered { what: "mincore of a huge range".to_owned() });
            }
            Call::Mincore(span) => self.on_image(*span, linux, || {
                let pages = span.length.div_ceil(PAGE_SIZE);
                zero(space.mincore(vm, span.at, span.length, &mut vec![0; pages as usize]))
            }),
            Call::Mlock { span, flags } => {
                let flags = LockFlags::from_bits_retain(*flags as u32);
                self.on_image(*span, linux, || zero(space.mlock2(vm, span.at, span.length, flags)))
            }
            Call::Munlock(span) => {
                self.on_image(*span, linux, || zero(space.munlock(vm, span.at, span.length)))
            }
            Call::Mlockall(flags) => {
                zero(space.mlockall(vm, LockAllFlags::from_bits_retain(*flags as u32)))
            }
            Call::Munlockall => zero(space.munlockall(vm)),
            Call::RemapFilePages { span, prot, page, flags } => {
                let flags = MapFlags::from_bits_retain(*flags as u32);
                let remap =
                    || zero(space.remap_file_pages(vm, span.at, span.length, *prot, *page, flags));
                self.on_image(*span, linux, remap)
            }
            Call::Brk(at) => self.brk(*at, linux),
            other => return Err(NotOffered { what: other.kind().to_owned() }),
        };
        Ok(ours)
    }

    /// Whether Linux took advice that rumpvm does not know. Known advice on nothing is no error.
    fn lacks(&self, advice: i32, linux: Returned) -> bool {
        let known = self.space.madvise(self.vm, VirtAddr(0), 0, advice).is_ok();
        matches!(linux, Returned::Value(_)) && !known
    }

    /// Notes that the recording decided about `span`.
    pub(super) fn decided(&mut self, span: Span) {
        if let Some(range) = span.pages() {
            self.known.tell(range);
        }
    }

    /// Notes that the program can use `span` from now on.
    pub(super) fn became_usable(&mut self, span: Span, prot: Prot) {
        self.usable = span.pages().map(|range| (range, prot));
    }

    /// Makes a call that needs all of `span` mapped. If it misses something that Linux had, the image
    /// may explain it.
    pub(super) fn on_image(
        &mut self,
        span: Span,
        linux: Returned,
        make: impl Fn() -> Ours,
    ) -> Ours {
        let ours = make();
        match (ours, linux, span.pages()) {
            (Err(_), Returned::Value(_), Some(range)) if self.infer(range) => make(),
            _ => ours,
        }
    }

    /// Fills `range` with what an image may have there; whether there was anything to fill.
    pub(super) fn infer(&mut self, range: VirtRange) -> bool {
        let pages = infer::image(self.vm, self.space, self.known, range);
        self.inferred += pages;
        pages > 0
    }
}
