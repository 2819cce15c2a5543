//! What scenarios stand on: the component booted on the explored machine, and threads with a space.
//!
//! Flow:  access -> page fault -> `Vm::fault` -> again, as a CPU and its trap handler do it.
//! Owns:  [`Kernel`] the component; [`User`] one use of its space, given up when it is dropped.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use rumpvm::{Backing, CallError, FaultError, Hold, MapFlags, Space, Vm};
use rumpvm_arch::{PAGE_SIZE, PageFault, Prot, VirtAddr};
use rumpvm_hosted::Upcalls;
use rumpvm_hosted::explored::{Explored, Stage};

/// The machine of every scenario: x86-64 with four levels.
pub type Pc = Explored;

/// Faults in a row after which an access makes no progress for sure.
const PATIENCE: u32 = 1000;

struct Shared {
    vm: Vm<Pc>,
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
        let machine = Pc::here();
        let (start, end) = machine.memory();
        let vm = Vm::new(machine.clone()).expect("memory for the component");
        vm.add_memory(start, end).expect("it is memory");
        let kernel = Self { shared: Arc::new(Shared { vm }) };
        let weak: Weak<Shared> = Arc::downgrade(&kernel.shared);
        machine.connect(weak);
        let own = kernel.clone();
        stage.finally(move || {
            last(&own);
            own.check();
        });
        kernel
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
