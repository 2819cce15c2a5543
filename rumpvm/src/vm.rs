//! One machine's virtual memory: what a home makes first and calls for everything else.

use core::ops::Deref;

use rumpvm_arch::{Access, Format, Frame, PAGE_SIZE, PhysAddr, VirtAddr};
use rumpvm_platform::{File, Platform};

use crate::check::Broken;
use crate::error::{CallError, FaultError, NoMemory};
use crate::map::Store;
use crate::object::{MAX_SIZE, MemoryFlags, Object, Purpose, Registry, Seals};
use crate::phys::{AddMemoryError, NO_FRAME};
use crate::pmap::Mmu;
use crate::process::Processes;
use crate::promise::CommitPolicy;
use crate::shm::Segments;
use crate::space::{Space, Spaces};
use crate::stats::Statistics;
use crate::sync::{Atomic, Hold, Ordering, PerCpu, try_box};

/// The virtual memory of one machine. There is no other state: a thousand of them fit in one process.
///
/// It is made of layers, each of which derefs to the one below: processes, spaces, and the store of
/// frames, tables and objects. A call that takes one of those takes a `&Vm`.
pub struct Vm<P: Platform> {
    processes: Processes<P>,
    segments: Segments<P>,
    /// CPUs that do idle work.
    idling: PerCpu<Atomic<u32, P>, P>,
    /// Checks under way: idle CPUs keep off.
    checking: Atomic<u32, P>,
}

impl<P: Platform> Vm<P> {
    /// The virtual memory of `platform`, which has no memory yet: see [`Vm::add_memory`].
    pub fn new(platform: P) -> Result<Self, NoMemory> {
        let cpus = platform.cpu_count();
        let store = Store { mmu: Mmu::try_new(platform)?, objects: Registry::try_new(cpus)? };
        Ok(Self {
            processes: Processes::new(Spaces::try_new(store)?),
            segments: Segments::new(),
            idling: PerCpu::try_new(cpus, |_| Atomic::new(0))?,
            checking: Atomic::new(0),
        })
    }

    /// Checks every invariant. At a quiet moment: no thread is inside the component. Called on a CPU;
    /// waits for idle CPUs to pause. What it notes, some bytes for each frame, may not come from a
    /// [`HostHeap`](crate::kmem::HostHeap) of the same machine: it would take frames while they are counted.
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

    /// System V's shared memory.
    pub fn segments(&self) -> &Segments<P> {
        &self.segments
    }

    /// How much may be promised.
    pub fn commit_policy(&self) -> CommitPolicy {
        self.objects.promises().policy()
    }

    /// Changes how much may be promised. What has been promised stays so. Takes no lock.
    pub fn set_commit_policy(&self, policy: CommitPolicy) {
        self.objects.promises().set_policy(policy);
    }

    /// Bytes promised (`Committed_AS`): private memory that can be stored to, and shared anonymous memory, both
    /// unless they were not to be reserved. As of some moment.
    pub fn committed(&self) -> u64 {
        self.objects.promises().pages() * PAGE_SIZE
    }

    /// Bytes that may be promised under [`Overcommit::Never`](crate::Overcommit::Never) (`CommitLimit`).
    pub fn commit_limit(&self) -> u64 {
        self.objects.promises().limit(self.mmu.phys.total_frames()) * PAGE_SIZE
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

    /// A memory file of `bytes` bytes that can be sealed; the caller is a user, as of a file. Takes the
    /// registry's lock. [`CallError::Invalid`]: more than `i64::MAX` bytes.
    pub fn shared_memory(&self, bytes: u64) -> Result<Hold<Object<P>, P>, CallError> {
        if bytes > MAX_SIZE {
            return Err(CallError::Invalid);
        }
        let purpose = Purpose::File { executable: true };
        Ok(self.objects.memory(purpose, bytes, Seals::empty(), None)?)
    }

    /// An empty memory file, as memfd_create(2) makes it; the caller is a user, as of a file. Takes the
    /// registry's lock. Errors: [`CallError::Invalid`] for flags that are unknown or contradict each other,
    /// [`CallError::NoMemory`].
    pub fn memory_file(&self, flags: MemoryFlags) -> Result<Hold<Object<P>, P>, CallError> {
        let (seals, purpose) = flags.decode()?;
        Ok(self.objects.memory(purpose, 0, seals, None)?)
    }

    /// Adds seals to a memory file, as fcntl(2) with `F_ADD_SEALS` for a descriptor that was opened for writing.
    /// Errors, and then nothing has changed: [`CallError::Invalid`] for unknown seals and for what is no memory
    /// file, [`CallError::NotPermitted`] if that is sealed off itself, [`CallError::Busy`] when stores are to be
    /// sealed off and a shared mapping could be stored through. Sleeps while the size is being changed.
    pub fn add_seals(&self, object: &Object<P>, seals: Seals) -> Result<(), CallError> {
        object.add_seals(&self.mmu, seals)
    }

    /// Copies bytes of `object` from `offset` on and returns how many there were, as pread(2): mappings and this
    /// see the same. Errors: [`CallError::Io`], [`CallError::NoMemory`]. Sleeps as a fault does.
    pub fn read_object(
        &self,
        object: &Object<P>,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, CallError> {
        object.read(&self.mmu, offset, into)
    }

    /// Stores `from` in `object` at `offset`, which becomes longer if need be, and returns how many bytes, as
    /// pwrite(2). Errors, when nothing was stored: [`CallError::NotPermitted`] by its seals, [`CallError::Io`],
    /// [`CallError::NoMemory`], [`CallError::Invalid`]. Sleeps as a fault does.
    pub fn write_object(
        &self,
        object: &Object<P>,
        offset: u64,
        from: &[u8],
    ) -> Result<usize, CallError> {
        object.write(&self.mmu, offset, from)
    }

    /// Writes what was stored in `object` to its file, through mappings or with [`Vm::write_object`], and makes that
    /// durable, as fsync(2). Nothing is done for what is no file. [`CallError::Io`]: what was not written is still to
    /// be. Sleeps. Takes no lock across a write.
    pub fn sync_object(&self, object: &Object<P>) -> Result<(), CallError> {
        object.write_back(&self.mmu, (0, u64::MAX))?;
        Ok(object.file().map_or(Ok(()), |file| file.sync())?)
    }

    /// Makes `length` bytes of a memory file from `offset` on zeros and gives their pages back, as fallocate(2)
    /// with `PUNCH_HOLE`. The size stays, and so do private copies. Errors, and then nothing has changed:
    /// [`CallError::Invalid`] for no length, [`CallError::NotPermitted`] by its seals,
    /// [`CallError::Unsupported`] if it is no anonymous memory. Sleeps.
    pub fn punch_hole(
        &self,
        object: &Object<P>,
        offset: u64,
        length: u64,
    ) -> Result<(), CallError> {
        object.punch_hole(&self.mmu, offset, length)
    }

    /// The memory of a device: `frames` frames from `first` on, which were not given as memory; the caller is
    /// a user, as of a file. Frames that the host took ([`Phys::take_frame`](crate::phys::Phys::take_frame)) may be among
    /// them, and stay its own, if it keeps them as long as the object lives. [`CallError::Invalid`]: others of the
    /// component's are, or page tables cannot name them. Takes the registry's lock.
    pub fn device(&self, first: Frame, frames: u32) -> Result<Hold<Object<P>, P>, CallError> {
        let end = u64::from(first.0) + u64::from(frames);
        let is_named = end <= P::Format::FRAME_END.min(u64::from(NO_FRAME));
        if !is_named || !self.mmu.phys.is_hosts(first, frames) {
            return Err(CallError::Invalid);
        }
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
