//! What a case acts through: a space that it uses, with the calls and accesses of a program in it.
//!
//! Loads and stores are the component's own copies: they meet the same faults, rights and entries as a
//! CPU's accesses, and need no CPU in user mode.
//!
//! Owns: one use of its space, given up when it is dropped.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::{ControlFlow, Deref};

use rumpvm::{AreaFlags, Backing, CallError, FaultError, Hold, MapFlags, Object, Space, Vm};
use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

/// Bytes in a page.
pub const PAGE: u64 = PAGE_SIZE;

/// Where cases map what must be at a fixed address: a gibibyte up, which every format can reach and where
/// leaf tables of every format begin.
pub(crate) const BASE: VirtAddr = VirtAddr(0x4000_0000);

/// Private memory without an object.
pub(crate) const ANON: MapFlags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);

/// A program in a space of its own.
pub struct Program<'v, P: Platform> {
    /// The machine.
    pub vm: &'v Vm<P>,
    space: Hold<Space<P>, P>,
}

impl<'v, P: Platform> Program<'v, P> {
    /// A program in an empty space.
    pub fn new(vm: &'v Vm<P>) -> Self {
        Self { vm, space: vm.new_space().expect("memory for a space") }
    }

    /// Its child by fork.
    pub fn fork(&self) -> Self {
        let space = self.vm.fork_space(&self.space).expect("memory for a fork");
        Self { vm: self.vm, space }
    }

    /// Maps `pages` pages of private anonymous memory, to load and store, where the map likes.
    pub fn map(&self, pages: u64) -> VirtAddr {
        self.try_map(VirtAddr(0), pages, ANON).expect("room for a mapping")
    }

    /// Maps `pages` pages of private anonymous memory at `at`, over whatever is there.
    pub fn map_at(&self, at: VirtAddr, pages: u64) {
        let mapped = self.try_map(at, pages, ANON | MapFlags::FIXED);
        assert_eq!(mapped, Ok(at));
    }

    /// Maps `pages` anonymous pages with `flags`, to load and store.
    pub fn try_map(
        &self,
        hint: VirtAddr,
        pages: u64,
        flags: MapFlags,
    ) -> Result<VirtAddr, CallError> {
        self.mmap(self.vm, hint, pages * PAGE, Prot::RW, flags, Backing::Anonymous, 0)
    }

    /// Maps `pages` pages of `object` from page `first` on at `at`.
    pub fn map_object(
        &self,
        at: VirtAddr,
        pages: u64,
        flags: MapFlags,
        object: &Hold<Object<P>, P>,
        first: u64,
    ) {
        let flags = flags | MapFlags::FIXED;
        let backing = Backing::Object(object);
        let mapped = self.mmap(self.vm, at, pages * PAGE, Prot::RW, flags, backing, first * PAGE);
        assert_eq!(mapped, Ok(at));
    }

    /// Unmaps `pages` pages at `at`.
    pub fn unmap(&self, at: VirtAddr, pages: u64) {
        assert_eq!(self.munmap(self.vm, at, pages * PAGE), Ok(()));
    }

    /// Gives `pages` pages at `at` the rights `prot`.
    pub fn protect(&self, at: VirtAddr, pages: u64, prot: Prot) {
        assert_eq!(self.mprotect(self.vm, at, pages * PAGE, prot), Ok(()));
    }

    /// Loads a byte.
    pub fn load(&self, at: VirtAddr) -> Result<u8, FaultError> {
        let mut byte = [0];
        self.copy_in(self.vm, at, &mut byte).map(|()| byte[0])
    }

    /// Stores a byte.
    pub fn store(&self, at: VirtAddr, byte: u8) -> Result<(), FaultError> {
        self.copy_out(self.vm, at, &[byte])
    }

    /// Loads a byte that must be there.
    #[track_caller]
    pub fn get(&self, at: VirtAddr) -> u8 {
        self.load(at).expect("a load that passes")
    }

    /// Stores a byte where that must be possible.
    #[track_caller]
    pub fn set(&self, at: VirtAddr, byte: u8) {
        self.store(at, byte).expect("a store that passes");
    }

    /// Stores `n + 1` to the first byte of the n-th of `pages` pages at `at`; after 255 again 1.
    #[track_caller]
    pub fn number(&self, at: VirtAddr, pages: u64) {
        (0..pages).for_each(|page| self.set(at + page * PAGE, (page % 255) as u8 + 1));
    }

    /// The first byte of each of `pages` pages at `at`.
    #[track_caller]
    pub fn numbers(&self, at: VirtAddr, pages: u64) -> Vec<u8> {
        (0..pages).map(|page| self.get(at + page * PAGE)).collect()
    }

    /// What an instruction fetch at `at` meets.
    pub fn fetch(&self, at: VirtAddr) -> Result<(), FaultError> {
        self.vm.fault(&self.space, at, Access::Execute)
    }

    /// The areas: range, rights, flags.
    pub fn table(&self) -> Vec<(VirtRange, Prot, AreaFlags)> {
        let mut table = vec![];
        let _: ControlFlow<()> = self.areas(self.vm, |area| {
            table.push((area.range, area.prot, area.flags));
            ControlFlow::Continue(())
        });
        table
    }

    /// The ranges of the areas, in pages from [`BASE`] on: first and one past the last.
    pub(crate) fn pages(&self) -> Vec<(u64, u64)> {
        let page = |at: VirtAddr| (at - BASE) / PAGE;
        self.table().iter().map(|(range, ..)| (page(range.start), page(range.end))).collect()
    }

    /// The space, for whoever needs a hold of it.
    pub fn hold(&self) -> Hold<Space<P>, P> {
        self.space.clone()
    }
}

impl<P: Platform> Deref for Program<'_, P> {
    type Target = Space<P>;
    fn deref(&self) -> &Space<P> {
        &self.space
    }
}

impl<P: Platform> Drop for Program<'_, P> {
    fn drop(&mut self) {
        self.vm.leave_space(&self.space);
    }
}

/// The answer to an access that nothing covers.
pub(crate) fn unmapped<T>(at: VirtAddr) -> Result<T, FaultError> {
    Err(FaultError::Unmapped { at })
}

/// The answer to a store that is forbidden.
pub(crate) fn no_store(at: VirtAddr) -> Result<(), FaultError> {
    Err(FaultError::Denied { at, wanted: Prot::WRITE })
}

/// The answer to a load that is forbidden.
pub(crate) fn no_load(at: VirtAddr) -> Result<u8, FaultError> {
    Err(FaultError::Denied { at, wanted: Prot::READ })
}
