//! One machine's virtual memory: what a home makes first and calls for everything else.

use core::ops::Deref;

use rumpvm_arch::{Access, Frame, PhysAddr, VirtAddr};
use rumpvm_platform::{File, Platform};

use crate::check::Broken;
use crate::error::{CallError, FaultError, NoMemory};
use crate::map::Store;
use crate::object::{Object, Registry};
use crate::phys::AddMemoryError;
use crate::pmap::Mmu;
use crate::process::Processes;
use crate::space::{Space, Spaces};
use crate::stats::Statistics;
use crate::sync::{Atomic, Hold, Ordering, PerCpu, try_box};

/// The virtual memory of one machine. There is no other state: a thousand of them fit in one process.
///
/// It is made of layers, each of which derefs to the one below: processes, spaces, and the store of
/// frames, tables and objects. A call that takes one of those takes a `&Vm`.
pub struct Vm<P: Platform> {
    processes: Processes<P>,
    /// CPUs that do idle work.
    idling: PerCpu<Atomic<u32, P>, P>,
    /// Checks under way: idle CPUs keep off.
    checking: Atomic<u32, P>,
}

impl<P: Platform> Vm<P> {
    /// The virtual memory of `platform`, which has no memory yet: see [`Vm::add_memory`].
    pub fn new(platform: P) -> Result<Self, NoMemory> {
        let cpus = platform.cpu_count();
        let store = Store { mmu: Mmu::try_new(platform)?, objects: Registry::new() };
        Ok(Self {
            processes: Processes::new(Spaces::try_new(store)?),
            idling: PerCpu::try_new(cpus, |_| Atomic::new(0))?,
            checking: Atomic::new(0),
        })
    }

    /// Checks every invariant. At a quiet moment: no thread is inside the component. Called on a CPU;
    /// waits for idle CPUs to pause.
    pub fn check(&self) -> Result<(), Broken> {
        self.checking.fetch_add(1, Ordering::SeqCst);
        for cpu in self.idling.iter() {
            cpu.wait_while(Ordering::SeqCst, |idling| idling != 0);
        }
        let outcome = crate::check::check(self);
        self.checking.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    /// The machine.
    pub fn platform(&self) -> &P {
        &self.mmu.phys.platform
    }

    /// Takes over the physical range `start..end` for good. At boot or any time later, any number of
    /// times. One frame in 64 holds the records of the others.
    pub fn add_memory(&self, start: PhysAddr, end: PhysAddr) -> Result<(), AddMemoryError> {
        self.mmu.phys.add_memory(start, end)
    }

    /// What has happened, and what is in use now.
    pub fn statistics(&self) -> Statistics {
        let phys = &self.mmu.phys;
        phys.usage(phys.counters.sum())
    }

    /// Carries out what other CPUs asked of this one. The home calls it when [`Platform::tlb_ipi`] named
    /// this CPU, and from `Seam::relax`. Does not wait.
    pub fn tlb_interrupt(&self) {
        self.mmu.tlb_interrupt(|| self.leave_ended());
    }

    /// A little work for a CPU that has nothing to do; false when there is none left.
    pub fn idle(&self) -> bool {
        let phys = &self.mmu.phys;
        self.mmu.shootdown.serves(P::cpu_id());
        let idling = self.idling.mine();
        // Either the check sees us, or we see it.
        idling.swap(1, Ordering::SeqCst);
        let mut busy = false;
        if self.checking.load(Ordering::SeqCst) == 0 {
            phys.epoch.advance();
            phys.epoch.collect();
            phys.collect();
            busy = phys.zero_one();
        }
        idling.store(0, Ordering::SeqCst);
        busy
    }

    /// Makes `access` to `at` in `space` possible, or says why not. The caller is a user of the space.
    ///
    /// Takes no lock of the space. Sleeps for pages in transit and while pages of the space move.
    pub fn fault(&self, space: &Space<P>, at: VirtAddr, access: Access) -> Result<(), FaultError> {
        crate::fault::fault(self, space, at, access)
    }

    /// The object of `file`, the same for every open of one file, with the caller as a user who
    /// gives it up with [`Vm::close`]. Takes the registry's lock; sleeps while an object of that file is
    /// being written by its last user.
    pub fn open_file(&self, file: impl File + 'static) -> Result<Hold<Object<P>, P>, CallError> {
        Ok(self.objects.open_file(try_box::<_, P>(file)?)?)
    }

    /// Anonymous memory of `bytes` bytes that spaces can share, as memfd_create(2) makes it; the caller is a
    /// user, as of a file. Takes the registry's lock.
    pub fn shared_memory(&self, bytes: u64) -> Result<Hold<Object<P>, P>, CallError> {
        Ok(self.objects.memory(bytes)?)
    }

    /// The memory of a device: `frames` frames from `first` on, which were not given as memory; the caller is
    /// a user, as of a file. Takes the registry's lock.
    pub fn device(&self, first: Frame, frames: u32) -> Result<Hold<Object<P>, P>, CallError> {
        Ok(self.objects.device(first, frames)?)
    }

    /// The caller uses `object` no more. If nothing else does, a file is written; a failure to do that
    /// keeps the pages for the next open. Sleeps.
    pub fn close(&self, object: &Hold<Object<P>, P>) -> Result<(), CallError> {
        Ok(self.objects.release(&self.mmu, object)?)
    }
}

impl<P: Platform> Deref for Vm<P> {
    type Target = Processes<P>;
    fn deref(&self) -> &Processes<P> {
        &self.processes
    }
}
