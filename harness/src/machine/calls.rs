//! The memory calls of a [`User`]: those of its space, in the machine that it runs on.
//!
//! Flow:  call -> one turn's worth of accesses counted -> the space's method of the same name.
//! Owns:  nothing.

use rumpvm::{
    Advised, Backing, CallError, FaultError, Inheritance, LockAllFlags, LockFlags, MapFlags,
    ProtFlags, RemapFlags, SyncFlags,
};
use rumpvm_arch::{Format, Prot, VirtAddr};
use rumpvm_hosted::Hosted;

use super::user::{CALL, User};

/// Methods that pass their arguments on to the space, each with the Linux call's own page as its manual.
macro_rules! calls {
    ($($(#[doc = $doc:literal])+ $name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)+) => {
        impl<F: Format> User<F> {
            $(
                $(#[doc = $doc])+
                pub fn $name(&self, $($argument: $kind),*) -> $result {
                    self.hosted().spend(CALL);
                    self.space().$name(self.vm(), $($argument),*)
                }
            )+
        }
    };
}

calls! {
    /// mmap(2).
    mmap(
        hint: VirtAddr,
        length: u64,
        prot: Prot,
        flags: MapFlags,
        backing: Backing<'_, Hosted<F>>,
        offset: u64
    ) -> Result<VirtAddr, CallError>;
    /// munmap(2).
    munmap(at: VirtAddr, length: u64) -> Result<(), CallError>;
    /// mprotect(2).
    mprotect(at: VirtAddr, length: u64, prot: impl Into<ProtFlags>) -> Result<(), CallError>;
    /// pkey_mprotect(2).
    pkey_mprotect(
        at: VirtAddr,
        length: u64,
        prot: impl Into<ProtFlags>,
        key: i32
    ) -> Result<(), CallError>;
    /// mremap(2).
    mremap(
        old: VirtAddr,
        old_length: u64,
        new_length: u64,
        flags: RemapFlags,
        new_at: VirtAddr
    ) -> Result<VirtAddr, CallError>;
    /// madvise(2).
    madvise(at: VirtAddr, length: u64, advice: i32) -> Result<(), CallError>;
    /// process_madvise(2), of this space or another's.
    process_madvise(
        ranges: &[(VirtAddr, u64)],
        advice: i32,
        flags: u32,
        whose: Advised
    ) -> Result<u64, CallError>;
    /// remap_file_pages(2).
    remap_file_pages(
        start: VirtAddr,
        size: u64,
        rights: u64,
        page: u64,
        flags: MapFlags
    ) -> Result<(), CallError>;
    /// minherit(2) of the BSDs.
    minherit(at: VirtAddr, length: u64, inheritance: Inheritance) -> Result<(), CallError>;
    /// mmap with `MAP_GUARD` of FreeBSD.
    reserve(hint: VirtAddr, length: u64, flags: MapFlags) -> Result<VirtAddr, CallError>;
    /// msync(2).
    msync(at: VirtAddr, length: u64, flags: SyncFlags) -> Result<(), CallError>;
    /// mincore(2).
    mincore(at: VirtAddr, length: u64, into: &mut [u8]) -> Result<(), CallError>;
    /// mlock(2).
    mlock(at: VirtAddr, length: u64) -> Result<(), CallError>;
    /// mlock2(2).
    mlock2(at: VirtAddr, length: u64, flags: LockFlags) -> Result<(), CallError>;
    /// mlockall(2).
    mlockall(flags: LockAllFlags) -> Result<(), CallError>;
    /// munlockall(2).
    munlockall() -> Result<(), CallError>;
    /// munlock(2).
    munlock(at: VirtAddr, length: u64) -> Result<(), CallError>;
    /// brk(2) as the kernel does it: returns the break, moved or not.
    brk(at: VirtAddr) -> VirtAddr;
    /// Copies from user memory as a system call does: no access of the CPU is involved.
    copy_in(from: VirtAddr, into: &mut [u8]) -> Result<(), FaultError>;
    /// Copies to user memory as a system call does.
    copy_out(to: VirtAddr, from: &[u8]) -> Result<(), FaultError>;
}

impl<F: Format> User<F> {
    /// mmap of `length` bytes of private anonymous memory, to load and store, wherever there is room.
    pub fn map_anonymous(&self, length: u64) -> Result<VirtAddr, CallError> {
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
        self.mmap(VirtAddr(0), length, Prot::RW, flags, Backing::Anonymous, 0)
    }

    /// pkey_alloc(2).
    pub fn pkey_alloc(&self, flags: u64, rights: u64) -> Result<i32, CallError> {
        self.space().pkey_alloc(flags, rights)
    }

    /// pkey_free(2).
    pub fn pkey_free(&self, key: i32) -> Result<(), CallError> {
        self.space().pkey_free(key)
    }
}
