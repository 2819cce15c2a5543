//! A worker: one thread of a workload's process, as the workload's author sees it. Each verb counts
//! what it does, and whatever fails becomes a [`Stop`].

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rumpvm::FaultError;
use rumpvm::map::{Backing, MapFlags, SyncFlags};
use rumpvm::process::{Pid, WaitFor};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr, X86_64};
use rumpvm_hosted::Hosted;

use super::load::{Deed, Deeds, Load};
use super::stop::Stop;
use super::{Job, pattern};
use crate::machine::User;

/// `MADV_DONTNEED` of madvise(2).
const DONTNEED: i32 = 4;
/// Where a program's heap begins: Linux puts it behind the program, which lies here.
const HEAP: VirtAddr = VirtAddr(0x5555_5580_0000);

/// What a mapping shows, and from which of its bytes on.
pub(super) type Source<'o> = (Backing<'o, Hosted<X86_64>>, u64);

/// Anonymous memory.
pub(super) const ANONYMOUS: Source<'static> = (Backing::Anonymous, 0);

/// One thread of a workload.
pub(super) struct Worker<'a> {
    pub(super) user: &'a User,
    pub(super) number: u64,
    pub(super) load: Arc<Load>,
    /// Random numbers that follow from the run's seed and the worker's number alone.
    pub(super) rng: Xoshiro256PlusPlus,
    deeds: Deeds,
    /// Of a page; `content` works with it.
    pub(super) buffer: Vec<u8>,
}

impl<'a> Worker<'a> {
    /// The worker called `number` of this run, as `user`.
    pub(super) fn new(user: &'a User, load: &Arc<Load>, number: u64) -> Self {
        let seed = pattern::key(load.settings.seed, number);
        Self {
            user,
            number,
            load: load.clone(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            deeds: Deeds::default(),
            buffer: vec![0; PAGE_SIZE as usize],
        }
    }

    /// Counts that memory ran out, when the worker goes on all the same.
    pub(super) fn ran_out(&mut self) {
        self.did(Deed::OutOfMemory);
    }

    fn did(&mut self, deed: Deed) {
        self.deeds[deed as usize] += 1;
    }

    /// mmap: `length` bytes with rights `prot`, wherever the machine likes or, with
    /// [`MapFlags::FIXED`], at `hint`.
    pub(super) fn map(
        &mut self,
        hint: VirtAddr,
        length: u64,
        prot: Prot,
        flags: MapFlags,
        (backing, offset): Source<'_>,
    ) -> Result<VirtAddr, Stop> {
        self.did(Deed::Map);
        let result = self.user.mmap(hint, length, prot, flags, backing, offset);
        result.map_err(|error| Stop::call("mmap", error))
    }

    /// munmap.
    pub(super) fn unmap(&mut self, at: VirtAddr, length: u64) -> Result<(), Stop> {
        self.did(Deed::Unmap);
        self.user.munmap(at, length).map_err(|error| Stop::call("munmap", error))
    }

    /// mprotect.
    pub(super) fn protect(&mut self, at: VirtAddr, length: u64, prot: Prot) -> Result<(), Stop> {
        self.did(Deed::Protect);
        self.user.mprotect(at, length, prot).map_err(|error| Stop::call("mprotect", error))
    }

    /// madvise: the contents are not needed any more.
    pub(super) fn discard(&mut self, at: VirtAddr, length: u64) -> Result<(), Stop> {
        self.did(Deed::Advise);
        self.user.madvise(at, length, DONTNEED).map_err(|error| Stop::call("madvise", error))
    }

    /// msync: write to the file, and wait for it.
    pub(super) fn sync(&mut self, at: VirtAddr, length: u64) -> Result<(), Stop> {
        self.did(Deed::Sync);
        self.user.msync(at, length, SyncFlags::SYNC).map_err(|error| Stop::call("msync", error))
    }

    /// brk: moves the end of the heap up by `length` bytes and returns where it was.
    pub(super) fn grow_heap(&mut self, length: u64) -> Result<VirtAddr, Stop> {
        self.did(Deed::Grow);
        let space = self.user.space();
        if space.brk_base() == VirtAddr(0) {
            space.set_brk_base(HEAP);
        }
        let start = self.user.brk(VirtAddr(0));
        let end = self.user.brk(start + length);
        if end == start + length { Ok(start) } else { Err(Stop::OutOfMemory) }
    }

    /// One load.
    pub(super) fn load(&mut self, at: VirtAddr, into: &mut [u8]) -> Result<(), Stop> {
        self.did(Deed::Load);
        self.user.load(at, into).map_err(|error| Stop::access("load", error))
    }

    /// One store.
    pub(super) fn store(&mut self, at: VirtAddr, from: &[u8]) -> Result<(), Stop> {
        self.did(Deed::Store);
        self.user.store(at, from).map_err(|error| Stop::access("store", error))
    }

    /// One instruction fetch.
    pub(super) fn fetch(&mut self, at: VirtAddr) -> Result<(), Stop> {
        self.did(Deed::Fetch);
        self.user.execute(at).map_err(|error| Stop::access("fetch", error))
    }

    /// An access that must be refused: `result` is what it gave.
    pub(super) fn refused(&mut self, result: Result<(), FaultError>) -> Result<(), Stop> {
        self.did(Deed::Refused);
        match result {
            Err(FaultError::Denied { .. } | FaultError::Unmapped { .. }) => Ok(()),
            other => Err(Stop::Broken(format!("an access that must be refused gave {other:?}"))),
        }
    }

    /// fork: the child is worker `number` and does `body`.
    pub(super) fn fork(&mut self, number: u64, body: impl Body) -> Result<Pid, Stop> {
        self.did(Deed::Fork);
        let load = self.load.clone();
        let child = move |user: &User| run(user, &load, number, body);
        self.user.fork(child).map_err(|error| Stop::call("fork", error))
    }

    /// vfork, and exec in the child, which is worker `number` and goes on as `job`'s program in an address space of its
    /// own.
    pub(super) fn spawn(
        &mut self,
        number: u64,
        job: Arc<impl Job + 'static>,
        word: u64,
    ) -> Result<Pid, Stop> {
        self.did(Deed::Fork);
        let load = self.load.clone();
        let child = move |user: &User| {
            run(user, &load, number, move |worker: &mut Worker<'_>| {
                worker.did(Deed::Exec);
                worker.user.exec().map_err(|error| Stop::call("exec", error))?;
                job.program(worker, word)
            })
        };
        self.user.vfork(child).map_err(|error| Stop::call("vfork", error))
    }

    /// A thread beside this one, in the same address space.
    pub(super) fn thread(&mut self, number: u64, body: impl Body) {
        self.did(Deed::Thread);
        let load = self.load.clone();
        self.user.spawn_thread(move |user| {
            run(user, &load, number, body);
        });
    }

    /// Waits for any child. What stopped it early it has told itself; its exit status says that it did.
    pub(super) fn wait(&mut self) -> Result<(Pid, i32), Stop> {
        self.did(Deed::Wait);
        self.user.wait(WaitFor::Any).map_err(|error| Stop::call("wait", error))
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.load.add(&self.deeds);
    }
}

/// What a worker does.
pub(super) trait Body: FnOnce(&mut Worker<'_>) -> Result<(), Stop> + Send + 'static {}

impl<F: FnOnce(&mut Worker<'_>) -> Result<(), Stop> + Send + 'static> Body for F {}

/// Lets `user` be worker `number`, and returns its exit status.
pub(super) fn run(user: &User, load: &Arc<Load>, number: u64, body: impl Body) -> i32 {
    let mut worker = Worker::new(user, load, number);
    let result = body(&mut worker);
    load.settle(&format!("worker {number}"), result)
}
