//! What scenarios stand on: the component booted on the explored machine, and threads with a space.
//!
//! Flow:  access -> page fault -> `Vm::fault` -> again, as a CPU and its trap handler do it.
//! Owns:  [`Kernel`] the component; [`User`] one use of its space, given up when it is dropped.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rumpvm::{
    Backing, CallError, FaultError, Hold, MapFlags, Object, RemapFlags, Space, SyncFlags, Vm,
};
use rumpvm_arch::{PAGE_SIZE, PageFault, PhysAddr, Prot, VirtAddr};
use rumpvm_hosted::Upcalls;
use rumpvm_hosted::explored::{Explored, Stage};

/// The machine of every scenario: x86-64 with four levels.
pub type Pc = Explored;

/// Faults in a row after which an access makes no progress for sure.
const PATIENCE: u32 = 1000;

/// A page whose amap needs no node but a leaf, and the pages behind it.
pub const NEAR: VirtAddr = VirtAddr(0x10_0000);

/// A page far up: its amap has three levels.
pub const FAR: VirtAddr = VirtAddr(0x4000_0000);

/// What is to hold at the end.
type End = Box<dyn FnOnce(&Kernel) + Send>;

struct Shared {
    vm: Vm<Pc>,
    ends: Mutex<Vec<End>>,
    /// Users who stay until everything was checked once.
    kept: Mutex<Vec<User>>,
}

impl Upcalls for Shared {
    fn tlb_interrupt(&self) {
        self.vm.tlb_interrupt();
    }

    fn idle(&self) -> bool {
        self.vm.idle()
    }
}

/// The component. Clones are the same one.
#[derive(Clone)]
pub struct Kernel {
    shared: Arc<Shared>,
}

impl Kernel {
    /// Boots the component with all of the machine's memory. At the end of the run every invariant is checked.
    pub fn boot(stage: &Stage) -> Self {
        Self::boot_and(stage, |_| ())
    }

    /// As [`Kernel::boot`]; before the invariants are checked, `last` is called.
    pub fn boot_and(stage: &Stage, last: impl FnOnce(&Self) + 'static) -> Self {
        Self::boot_with(stage, 0, last)
    }

    /// As [`Kernel::boot`]; the last `frames` frames are a device's, and not the component's.
    pub fn boot_beside(stage: &Stage, frames: u64) -> Self {
        Self::boot_with(stage, frames, |_| ())
    }

    fn boot_with(stage: &Stage, beside: u64, last: impl FnOnce(&Self) + 'static) -> Self {
        let machine = Pc::here();
        let (start, end) = machine.memory();
        let end = PhysAddr(end.0 - beside * PAGE_SIZE);
        let vm = Vm::new(machine.clone()).expect("memory for the component");
        vm.add_memory(start, end).expect("it is memory");
        let shared = Shared { vm, ends: Mutex::default(), kept: Mutex::default() };
        let kernel = Self { shared: Arc::new(shared) };
        let weak: Weak<Shared> = Arc::downgrade(&kernel.shared);
        machine.connect(weak);
        let own = kernel.clone();
        stage.finally(move || {
            last(&own);
            own.end();
        });
        kernel
    }

    /// At the end of the run `end` is called, while those who are kept are still there.
    pub fn at_end(&self, end: impl FnOnce(&Self) + Send + 'static) {
        all(&self.shared.ends).push(Box::new(end));
    }

    /// Lets `user` stay until the end, so that his space is checked with what is mapped in it.
    pub fn keep(&self, user: User) {
        all(&self.shared.kept).push(user);
    }

    fn end(&self) {
        for end in std::mem::take(&mut *all(&self.shared.ends)) {
            end(self);
        }
        let kept = std::mem::take(&mut *all(&self.shared.kept));
        if !kept.is_empty() {
            self.check();
            drop(kept);
        }
        self.check();
        // Only a write that failed keeps an object, and that has no user.
        self.objects.for_each(|object| {
            assert_eq!(object.users(), 0, "object {} has users that are gone", object.id());
        });
        self.for_each_space(|space| panic!("space {} has users that are gone", space.id()));
    }

    /// Stops the run if any invariant is broken. At a quiet moment.
    pub fn check(&self) {
        if let Err(broken) = self.vm().check() {
            panic!("{broken}");
        }
        if let Err(story) = self.vm().platform().verify_tlbs() {
            panic!("{story}");
        }
    }

    /// The component.
    pub fn vm(&self) -> &Vm<Pc> {
        &self.shared.vm
    }

    /// A user of a fresh space.
    pub fn user(&self) -> User {
        let space = self.vm().new_space().expect("memory for a space");
        User { kernel: self.clone(), space }
    }
}

impl Deref for Kernel {
    type Target = Vm<Pc>;
    fn deref(&self) -> &Vm<Pc> {
        self.vm()
    }
}

/// The list behind a lock that nobody else wants: one host thread plays them all.
fn all<T>(list: &Mutex<Vec<T>>) -> std::sync::MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread's use of a space.
pub struct User {
    kernel: Kernel,
    space: Hold<Space<Pc>, Pc>,
}

/// Private memory without an object.
const ANON: MapFlags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);

impl User {
    /// Another user of the same space, for another thread.
    pub fn twin(&self) -> Self {
        Self::of(&self.kernel, &self.space).expect("the space has a user")
    }

    /// A user of `space`, if it has not ended.
    pub fn of(kernel: &Kernel, space: &Hold<Space<Pc>, Pc>) -> Option<Self> {
        space.try_enter().then(|| Self { kernel: kernel.clone(), space: space.clone() })
    }

    /// The child of a fork.
    pub fn fork(&self) -> Result<Self, CallError> {
        let space = self.vm().fork_space(&self.space)?;
        Ok(Self { kernel: self.kernel.clone(), space })
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
        self.advise(at, pages, 4)
    }

    /// Brings `pages` pages at `at` in, ready to be stored to.
    pub fn populate(&self, at: VirtAddr, pages: u64) -> Result<(), CallError> {
        self.advise(at, pages, 23)
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
