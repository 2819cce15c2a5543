//! One machine's virtual memory: what a home makes first and calls for everything else.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;

use rumpvm_arch::{Access, Frame, PhysAddr, VirtAddr};
use rumpvm_platform::{File, Platform};

use crate::check::Broken;
use crate::error::{CallError, FaultError, NoMemory};
use crate::map::Store;
use crate::object::{Object, Registry};
use crate::phys::AddMemoryError;
use crate::pmap::Mmu;
use crate::process::{Process, Table};
use crate::space::Space;
use crate::stats::Statistics;
use crate::sync::{Atomic, Hold, Mutex, Ordering, PerCpu, Spin, try_push};

/// The virtual memory of one machine. There is no other state: a thousand of them fit in one process.
pub struct Vm<P: Platform> {
    store: Store<P>,
    /// Spaces that have users.
    pub(crate) spaces: Mutex<Vec<Hold<Space<P>, P>>, P>,
    /// The space that each CPU translates through.
    current: PerCpu<Current<P>, P>,
    /// Processes.
    pub processes: Table<P>,
    /// CPUs that do idle work.
    idling: PerCpu<Atomic<u32, P>, P>,
    /// Checks under way: idle CPUs keep off.
    checking: Atomic<u32, P>,
}

/// The space that one CPU translates through.
type Current<P> = Spin<Option<Hold<Space<P>, P>>, P>;

impl<P: Platform> Vm<P> {
    /// The virtual memory of `platform`, which has no memory yet: see [`Vm::add_memory`].
    pub fn new(platform: P) -> Result<Self, NoMemory> {
        let cpus = platform.cpu_count();
        Ok(Self {
            store: Store { mmu: Mmu::try_new(platform)?, objects: Registry::new() },
            spaces: Mutex::new(Vec::new()),
            current: PerCpu::try_new(cpus, |_| Spin::new(None))?,
            processes: Table::new(),
            idling: PerCpu::try_new(cpus, |_| Atomic::new(0))?,
            checking: Atomic::new(0),
        })
    }

    /// Checks every invariant. At a quiet moment: no CPU is inside the component. Called on a CPU.
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
        self.mmu.tlb_interrupt(|| self.deactivate());
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

    /// Makes this CPU translate through `space`, of which the running thread is a user.
    pub fn activate(&self, space: &Hold<Space<P>, P>) {
        let current = self.current.mine();
        let mut current = current.lock();
        if let Some(old) = current.as_ref() {
            if old.is(space) {
                return;
            }
            old.pmap().deactivate(&self.mmu);
        }
        space.pmap().activate(&self.mmu);
        *current = Some(space.clone());
    }

    /// Makes this CPU translate through no space.
    pub fn deactivate(&self) {
        let current = self.current.mine();
        let left = {
            let mut current = current.lock();
            let left = current.take();
            if let Some(old) = &left {
                old.pmap().deactivate(&self.mmu);
            }
            left
        };
        drop(left);
    }

    /// A new, empty space with one user: the caller, who gives it up with [`Vm::leave_space`].
    pub fn new_space(&self) -> Result<Hold<Space<P>, P>, NoMemory> {
        self.with_memory(|| Space::try_new(&self.store)).and_then(|space| self.enlist(space))
    }

    /// A copy of `space` with one user, as fork(2) makes it.
    pub fn fork_space(&self, space: &Space<P>) -> Result<Hold<Space<P>, P>, NoMemory> {
        self.with_memory(|| space.fork(&self.store)).and_then(|space| self.enlist(space))
    }

    fn enlist(&self, space: Hold<Space<P>, P>) -> Result<Hold<Space<P>, P>, NoMemory> {
        match try_push::<_, P>(&mut self.spaces.lock(), space.clone()) {
            Ok(()) => Ok(space),
            Err(error) => {
                self.tear_down(&space);
                Err(error)
            }
        }
    }

    /// Does `work`, once more after the caches of all CPUs were emptied if there was no memory.
    fn with_memory<T>(&self, work: impl Fn() -> Result<T, NoMemory>) -> Result<T, NoMemory> {
        work().or_else(|NoMemory| {
            self.mmu.squeeze();
            work()
        })
    }

    /// One user of `space` leaves. With the last one everything mapped in it goes. Sleeps where that was a
    /// file's last user.
    pub fn leave_space(&self, space: &Hold<Space<P>, P>) {
        if !space.drop_user() {
            return;
        }
        self.spaces.lock().retain(|other| !other.is(space));
        self.tear_down(space);
    }

    fn tear_down(&self, space: &Hold<Space<P>, P>) {
        let here = {
            let current = self.current.mine();
            let current = current.lock();
            current.as_ref().is_some_and(|current| current.is(space))
        };
        if here {
            self.deactivate();
        }
        // A CPU that ran a thread of it last may still be translating through it.
        self.mmu.evict(space.pmap());
        space.destroy(&self.store);
    }

    /// Makes `access` to `at` in `space` possible, or says why not. The caller is a user of the space.
    ///
    /// Takes no lock of the space. Sleeps for pages in transit and while pages of the space move.
    pub fn fault(&self, space: &Space<P>, at: VirtAddr, access: Access) -> Result<(), FaultError> {
        crate::fault::fault(&self.store, space, at, access)
    }

    /// The object of `file`, the same for every open of one file, with the caller as a user who
    /// gives it up with [`Vm::close`].
    pub fn open_file(&self, file: Arc<dyn File>) -> Result<Hold<Object<P>, P>, CallError> {
        Ok(self.objects.open_file(file)?)
    }

    /// Anonymous memory of `bytes` bytes that spaces can share, as memfd_create(2) makes it.
    pub fn shared_memory(&self, bytes: u64) -> Result<Hold<Object<P>, P>, CallError> {
        Ok(self.objects.memory(bytes)?)
    }

    /// The memory of a device: `frames` frames from `first` on, which were not given as memory.
    pub fn device(&self, first: Frame, frames: u32) -> Result<Hold<Object<P>, P>, CallError> {
        Ok(self.objects.device(first, frames)?)
    }

    /// Changes the size of `object`; what lies beyond the new end is lost. Sleeps.
    pub fn resize(&self, object: &Object<P>, bytes: u64) {
        object.resize(&self.mmu, bytes);
    }

    /// The caller uses `object` no more. If nothing else does, a file is written; a failure to do that
    /// keeps the pages for the next open. Sleeps.
    pub fn close(&self, object: &Hold<Object<P>, P>) -> Result<(), CallError> {
        Ok(self.objects.release(&self.mmu, object)?)
    }

    /// A process without parent, with an empty space.
    pub fn first_process(&self) -> Result<Hold<Process<P>, P>, CallError> {
        let space = self.new_space()?;
        self.processes.adopt(self, 0, space, 1)
    }
}

/// Calls of a space take a [`Store`]: any `&Vm` will do.
impl<P: Platform> Deref for Vm<P> {
    type Target = Store<P>;
    fn deref(&self) -> &Store<P> {
        &self.store
    }
}
