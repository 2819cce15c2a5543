//! A worker: one thread of a workload's process, with the verbs that the harness's worker has. Each becomes a system
//! call or an access, and whatever fails becomes a [`Stop`].

use std::fs::File;
use std::process::Command;
use std::sync::Arc;
use std::{io, thread};

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rumpvm::map::{MapFlags, SyncFlags};
use rumpvm::process::Pid;
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

use super::load::Load;
use super::stop::Stop;
use super::system::{self, Refused};
use super::{Job, pattern};

/// What a mapping shows, and from which of its bytes on.
pub(super) type Source<'o> = (Option<&'o File>, u64);

/// Anonymous memory.
pub(super) const ANONYMOUS: Source<'static> = (None, 0);

/// The thread itself: what it does without counting.
pub(super) struct User;

impl User {
    /// Loads `into` from `at`.
    pub(super) fn load(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), Refused> {
        system::load(at, into)
    }

    /// Stores `from` at `at`.
    pub(super) fn store(&self, at: VirtAddr, from: &[u8]) -> Result<(), Refused> {
        system::store(at, from)
    }

    /// Lets other threads run.
    pub(super) fn yield_now(&self) {
        thread::yield_now();
    }
}

/// One thread of a workload.
pub(super) struct Worker<'a> {
    pub(super) user: &'a User,
    pub(super) number: u64,
    pub(super) load: Arc<Load>,
    /// Random numbers that follow from the run's seed and the worker's number alone.
    pub(super) rng: Xoshiro256PlusPlus,
    operations: u64,
    /// Of a page; `content` works with it.
    pub(super) buffer: Vec<u8>,
}

impl Worker<'_> {
    fn new(load: &Arc<Load>, number: u64) -> Self {
        let seed = pattern::key(load.settings.seed, number);
        Self {
            user: &User,
            number,
            load: load.clone(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            operations: 0,
            buffer: vec![0; PAGE_SIZE as usize],
        }
    }

    /// Counts that memory ran out, when the worker goes on all the same.
    pub(super) fn ran_out(&mut self) {
        self.load.ran_out();
    }

    /// What a call named `name` came to.
    fn call<T>(&mut self, name: &str, result: io::Result<T>) -> Result<T, Stop> {
        self.operations += 1;
        result.map_err(|error| Stop::call(name, error))
    }

    /// mmap: `length` bytes with rights `prot`, wherever the kernel likes or, with [`MapFlags::FIXED`], at `hint`.
    pub(super) fn map(
        &mut self,
        hint: VirtAddr,
        length: u64,
        prot: Prot,
        flags: MapFlags,
        source: Source<'_>,
    ) -> Result<VirtAddr, Stop> {
        self.call("mmap", system::map(hint, length, prot, flags, source))
    }

    /// munmap.
    pub(super) fn unmap(&mut self, at: VirtAddr, length: u64) -> Result<(), Stop> {
        self.call("munmap", system::unmap(at, length))
    }

    /// mprotect.
    pub(super) fn protect(&mut self, at: VirtAddr, length: u64, prot: Prot) -> Result<(), Stop> {
        self.call("mprotect", system::protect(at, length, prot))
    }

    /// madvise: the contents are not needed any more.
    pub(super) fn discard(&mut self, at: VirtAddr, length: u64) -> Result<(), Stop> {
        self.call("madvise", system::discard(at, length))
    }

    /// msync: write to the file, and wait for it.
    pub(super) fn sync(&mut self, at: VirtAddr, length: u64) -> Result<(), Stop> {
        self.call("msync", system::sync(at, length, SyncFlags::SYNC))
    }

    /// brk: moves the end of the heap up by `length` bytes and returns where it was.
    pub(super) fn grow_heap(&mut self, length: u64) -> Result<VirtAddr, Stop> {
        self.call("brk", system::grow_heap(length))
    }

    /// What an access came to.
    fn access(&mut self, at: VirtAddr, result: Result<(), Refused>) -> Result<(), Stop> {
        self.operations += 1;
        result.map_err(|Refused| Stop::Broken(format!("an access to {at} was refused")))
    }

    /// One load.
    pub(super) fn load(&mut self, at: VirtAddr, into: &mut [u8]) -> Result<(), Stop> {
        self.access(at, system::load(at, into))
    }

    /// One store.
    pub(super) fn store(&mut self, at: VirtAddr, from: &[u8]) -> Result<(), Stop> {
        self.access(at, system::store(at, from))
    }

    /// What stands for an instruction fetch: what lies there is no code.
    pub(super) fn fetch(&mut self, at: VirtAddr) -> Result<(), Stop> {
        self.load(at, &mut [0])
    }

    /// An access that must be refused: `result` is what it gave.
    pub(super) fn refused(&mut self, result: Result<(), Refused>) -> Result<(), Stop> {
        self.operations += 1;
        match result {
            Err(Refused) => Ok(()),
            Ok(()) => Err(Stop::Broken("an access that must be refused was not".into())),
        }
    }

    /// fork: the child is worker `number` and does `body`.
    pub(super) fn fork(&mut self, number: u64, body: impl Body) -> Result<Pid, Stop> {
        let born = system::fork();
        match self.call("fork", born)? {
            Some(child) => Ok(Pid(child)),
            None => system::leave(run(&self.load, number, body)),
        }
    }

    /// vfork and exec, as the standard library starts programs: the child is worker `number` of the same run, and goes
    /// on as `job`'s program.
    pub(super) fn spawn(
        &mut self,
        number: u64,
        _job: Arc<impl Job + 'static>,
        word: u64,
    ) -> Result<Pid, Stop> {
        let words = self.load.settings.again(number, word);
        let started = Command::new("/proc/self/exe").args(words).spawn();
        Ok(Pid(self.call("vfork and exec", started)?.id()))
    }

    /// A thread beside this one, in the same address space.
    pub(super) fn thread(&mut self, number: u64, body: impl Body) {
        let load = self.load.clone();
        self.load.keep(thread::spawn(move || {
            run(&load, number, body);
        }));
    }

    /// Waits for any child. One may be killed for want of memory; any other signal is a failure.
    pub(super) fn wait(&mut self) -> Result<(Pid, i32), Stop> {
        let (child, status) = self.call("wait", system::wait())?;
        if libc::WIFEXITED(status) {
            return Ok((Pid(child), libc::WEXITSTATUS(status)));
        }
        match libc::WTERMSIG(status) {
            libc::SIGKILL => {
                self.ran_out();
                Ok((Pid(child), 128 + libc::SIGKILL))
            }
            signal => Err(Stop::Broken(format!("process {child} ended by signal {signal}"))),
        }
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.load.add(self.operations);
    }
}

/// What a worker does.
pub(super) trait Body: FnOnce(&mut Worker<'_>) -> Result<(), Stop> + Send + 'static {}

impl<F: FnOnce(&mut Worker<'_>) -> Result<(), Stop> + Send + 'static> Body for F {}

/// Does `body` as worker `number`, and returns its exit status.
pub(super) fn run(
    load: &Arc<Load>,
    number: u64,
    body: impl FnOnce(&mut Worker<'_>) -> Result<(), Stop>,
) -> i32 {
    let mut worker = Worker::new(load, number);
    let result = body(&mut worker);
    load.settle(number, result)
}
