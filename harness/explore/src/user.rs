//! A thread with a space: what a program does, and what the kernel does for it.
//!
//! Flow:  access -> page fault -> `Vm::fault` -> again, as a CPU and its trap handler do it.
//! Owns:  [`User`] one use of its space, given up when it is dropped.

use rumpvm::{
    Backing, CallError, FaultError, Hold, MapFlags, Object, RemapFlags, Space, SyncFlags, Vm,
};
use rumpvm_arch::{PAGE_SIZE, PageFault, Prot, VirtAddr};

use crate::{Kernel, Pc};

/// Faults in a row after which an access makes no progress for sure.
const PATIENCE: u32 = 1000;

/// A page whose amap needs no node but a leaf, and the pages behind it.
pub const NEAR: VirtAddr = VirtAddr(0x10_0000);

/// A page far up: its amap has three levels.
pub const FAR: VirtAddr = VirtAddr(0x4000_0000);

/// One thread's use of a space.
pub struct User {
    kernel: Kernel,
    space: Hold<Space<Pc>, Pc>,
}

/// Numbers of madvise(2).
const DONTNEED: i32 = 4;
const POPULATE_WRITE: i32 = 23;

/// Private memory without an object.
const ANON: MapFlags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);

impl User {
    /// Whoever has one use of `space`.
    pub(crate) fn new(kernel: &Kernel, space: Hold<Space<Pc>, Pc>) -> Self {
        Self { kernel: kernel.clone(), space }
    }

    /// Another user of the same space, for another thread.
    pub fn twin(&self) -> Self {
        Self::of(&self.kernel, &self.space).expect("the space has a user")
    }

    /// A user of `space`, if it has not ended.
    pub fn of(kernel: &Kernel, space: &Hold<Space<Pc>, Pc>) -> Option<Self> {
        space.try_enter().then(|| Self::new(kernel, space.clone()))
    }

    /// The child of a fork.
    pub fn fork(&self) -> Result<Self, CallError> {
        let space = self.vm().fork_space(&self.space)?;
        Ok(Self::new(&self.kernel, space))
    }

    /// The component.
    pub fn vm(&self) -> &Vm<Pc> {
        self.kernel.vm()
    }

    /// The space.
    pub fn space(&self) -> &Hold<Space<Pc>, Pc> {
        &self.space
    }

    /// Maps `pages` pages of private memory at `at`, to load and store.
    pub fn map(&self, at: VirtAddr, pages: u64) -> Result<VirtAddr, CallError> {
        let (length, flags) = (pages * PAGE_SIZE, ANON | MapFlags::FIXED);
        self.space.mmap(self.vm(), at, length, Prot::RW, flags, Backing::Anonymous, 0)
    }

    /// Maps `pages` pages of memory at `at` that forks share.
    pub fn share(&self, at: VirtAddr, pages: u64) -> Result<VirtAddr, CallError> {
        let flags = MapFlags::SHARED | MapFlags::ANONYMOUS | MapFlags::FIXED;
        let length = pages * PAGE_SIZE;
        self.space.mmap(self.vm(), at, length, Prot::RW, flags, Backing::Anonymous, 0)
    }

    /// Maps the first `pages` pages of `object` at `at`, shared or privately as `kind` says.
    pub fn map_object(
        &self,
        at: VirtAddr,
        pages: u64,
        object: &Hold<Object<Pc>, Pc>,
        kind: MapFlags,
    ) -> Result<VirtAddr, CallError> {
        let (length, flags) = (pages * PAGE_SIZE, kind | MapFlags::FIXED);
        self.space.mmap(self.vm(), at, length, Prot::RW, flags, Backing::Object(object), 0)
    }

    /// Gives advice on `pages` pages at `at`, with the numbers of madvise(2).
    pub fn advise(&self, at: VirtAddr, pages: u64, advice: i32) -> Result<(), CallError> {
        self.space.madvise(self.vm(), at, pages * PAGE_SIZE, advice)
    }

    /// Drops what is in memory of `pages` private pages at `at`.
    pub fn forget(&self, at: VirtAddr, pages: u64) -> Result<(), CallError> {
        self.advise(at, pages, DONTNEED)
    }

    /// Brings `pages` pages at `at` in, ready to be stored to.
    pub fn populate(&self, at: VirtAddr, pages: u64) -> Result<(), CallError> {
        self.advise(at, pages, POPULATE_WRITE)
    }

    /// Moves `pages` pages from `at` to `to`, in place of what is there.
    pub fn relocate(&self, at: VirtAddr, pages: u64, to: VirtAddr) -> Result<VirtAddr, CallError> {
        let (length, flags) = (pages * PAGE_SIZE, RemapFlags::MAYMOVE | RemapFlags::FIXED);
        self.space.mremap(self.vm(), at, length, length, flags, to)
    }

    /// Writes what was stored to `pages` pages of files at `at`.
    pub fn sync(&self, at: VirtAddr, pages: u64) -> Result<(), CallError> {
        self.space.msync(self.vm(), at, pages * PAGE_SIZE, SyncFlags::SYNC)
    }

    /// Reads a byte as the kernel does for a call of some program.
    pub fn copy_in(&self, at: VirtAddr) -> Result<u8, FaultError> {
        let mut byte = [0];
        self.space.copy_in(self.vm(), at, &mut byte)?;
        Ok(byte[0])
    }

    /// Writes a byte as the kernel does for a call of some program.
    pub fn copy_out(&self, at: VirtAddr, byte: u8) -> Result<(), FaultError> {
        self.space.copy_out(self.vm(), at, &[byte])
    }

    /// Changes a word as the kernel does for a futex: `change` of what it is, unless that is nothing.
    pub fn change_word(
        &self,
        at: VirtAddr,
        change: impl Fn(u32) -> Option<u32>,
    ) -> Result<u32, FaultError> {
        self.space.change_word(self.vm(), at, change)
    }

    /// Unmaps `pages` pages at `at`.
    pub fn unmap(&self, at: VirtAddr, pages: u64) -> Result<(), CallError> {
        self.space.munmap(self.vm(), at, pages * PAGE_SIZE)
    }

    /// Gives `pages` pages at `at` the rights `prot`.
    pub fn protect(&self, at: VirtAddr, pages: u64, prot: Prot) -> Result<(), CallError> {
        self.space.mprotect(self.vm(), at, pages * PAGE_SIZE, prot)
    }

    /// Loads a byte.
    pub fn load(&self, at: VirtAddr) -> Result<u8, FaultError> {
        let mut byte = [0];
        self.retry(|machine, restore| machine.load(restore, at, &mut byte))?;
        Ok(byte[0])
    }

    /// Stores a byte.
    pub fn store(&self, at: VirtAddr, byte: u8) -> Result<(), FaultError> {
        self.retry(|machine, restore| machine.store(restore, at, &[byte]))
    }

    fn retry(
        &self,
        mut access: impl FnMut(&Pc, &dyn Fn()) -> Result<(), PageFault>,
    ) -> Result<(), FaultError> {
        let machine = self.vm().platform();
        for _ in 0..PATIENCE {
            let restore = || self.vm().activate(&self.space);
            // The same thread may have used another space.
            restore();
            match access(machine, &restore) {
                Ok(()) => return Ok(()),
                Err(fault) => self.vm().fault(&self.space, fault.at, fault.access)?,
            }
        }
        panic!("an access was repaired {PATIENCE} times, and still faults");
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.kernel.vm().leave_space(&self.space);
    }
}
