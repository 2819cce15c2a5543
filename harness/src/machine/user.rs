//! The user side of one thread: loads, stores, and the calls about threads and processes.
//!
//! Flow:  access -> page fault -> `Vm::fault` -> again, until it succeeds or the fault is the program's.
//! Sleep: any access and any call may end the thread's turn; `wait` and `vfork` sleep for a child.
//! Owns:  a hold of the thread's space.
//!
//! U1. While a thread runs, its CPU translates through its space: `enter` sets that, and the resume hook
//!     restores it after somebody else ran there.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

use rumpvm::{CallError, FaultError, Hold, Pid, Process, Space, Vm, WaitFor};
use rumpvm_arch::{Format, PageFault, VirtAddr, X86_64};
use rumpvm_hosted::Hosted;

use super::crew::Crew;
use super::kernel::Kernel;

/// A fault or a call costs about as much as so many accesses; counted against the thread's turn.
pub(super) const CALL: u32 = 40;

/// Repaired faults in a row after which an access makes no progress for sure. Other threads may take the
/// page away again, and memory may be so short that pages steal from each other, but not a thousand
/// times between repair and retry.
const PATIENCE: u32 = 1000;

/// One thread of a process, as the program sees it. Stays on the thread that it was made for.
pub struct User<F: Format = X86_64> {
    pub(super) kernel: Kernel<F>,
    crew: Arc<Crew<F>>,
    space: RefCell<Hold<Space<Hosted<F>>, Hosted<F>>>,
    not_send: PhantomData<*const ()>,
}

impl<F: Format> User<F> {
    /// The calling thread becomes one of `crew`.
    pub(super) fn begin(kernel: Kernel<F>, crew: Arc<Crew<F>>) -> Self {
        let space = RefCell::new(crew.space());
        let user = Self { kernel, crew, space, not_send: PhantomData };
        user.enter();
        user
    }

    /// The thread ends; the last one ends its process. `status` comes from the first one.
    pub(super) fn end(self, status: Option<i32>) {
        if let Some(status) = self.crew.leave(status) {
            self.crew.process.exit(self.vm(), status);
        }
        self.vm().deactivate();
    }

    /// Makes the process's space the one that this thread uses, now and after each pause (U1).
    fn enter(&self) {
        let space = self.crew.space();
        *self.space.borrow_mut() = space.clone();
        let kernel = self.kernel.clone();
        self.hosted().set_on_resume(move || kernel.vm().activate(&space));
    }

    /// The component.
    pub fn vm(&self) -> &Vm<Hosted<F>> {
        self.kernel.vm()
    }

    pub(super) fn hosted(&self) -> &Hosted<F> {
        self.vm().platform()
    }

    /// The space that the thread runs in.
    pub fn space(&self) -> Hold<Space<Hosted<F>>, Hosted<F>> {
        self.space.borrow().clone()
    }

    /// The process's number.
    pub fn pid(&self) -> Pid {
        self.crew.process.pid()
    }

    /// Lets the other threads of this CPU run.
    pub fn yield_now(&self) {
        self.hosted().yield_now();
    }

    /// Loads `into` from `at`.
    pub fn load(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), FaultError> {
        self.retry(|hosted| hosted.load(at, into))
    }

    /// Stores `from` at `at`. On an error in the second of two pages the first one is written.
    pub fn store(&self, at: VirtAddr, from: &[u8]) -> Result<(), FaultError> {
        self.retry(|hosted| hosted.store(at, from))
    }

    /// Fetches an instruction at `at`.
    pub fn execute(&self, at: VirtAddr) -> Result<(), FaultError> {
        self.retry(|hosted| hosted.fetch(at))
    }

    /// Loads one byte.
    pub fn load_u8(&self, at: VirtAddr) -> Result<u8, FaultError> {
        let mut byte = [0];
        self.load(at, &mut byte)?;
        Ok(byte[0])
    }

    /// Stores one byte.
    pub fn store_u8(&self, at: VirtAddr, value: u8) -> Result<(), FaultError> {
        self.store(at, &[value])
    }

    /// Loads a little-endian word; in one piece if `at` is a multiple of 8.
    pub fn load_u64(&self, at: VirtAddr) -> Result<u64, FaultError> {
        let mut bytes = [0; 8];
        self.load(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Stores a little-endian word; in one piece if `at` is a multiple of 8.
    pub fn store_u64(&self, at: VirtAddr, value: u64) -> Result<(), FaultError> {
        self.store(at, &value.to_le_bytes())
    }

    /// Repeats `access` until no page fault is in its way any more.
    #[inline]
    fn retry(
        &self,
        mut access: impl FnMut(&Hosted<F>) -> Result<(), PageFault>,
    ) -> Result<(), FaultError> {
        for _ in 0..PATIENCE {
            match access(self.hosted()) {
                Ok(()) => return Ok(()),
                Err(fault) => self.fault(fault)?,
            }
        }
        panic!("{PATIENCE} page faults were repaired, and the access still fails");
    }

    #[cold]
    fn fault(&self, fault: PageFault) -> Result<(), FaultError> {
        self.hosted().spend(CALL);
        // A hold of its own: the fault may sleep, and no cell may stay borrowed then.
        let space = self.space();
        self.vm().fault(&space, fault.at, fault.access)
    }

    /// fork(2): `child` is the new process's first thread, and what it returns is the exit status.
    pub fn fork(
        &self,
        child: impl FnOnce(&Self) -> i32 + Send + 'static,
    ) -> Result<Pid, CallError> {
        self.hosted().spend(CALL);
        let process = self.crew.process.fork(self.vm())?;
        Ok(self.start(process, child))
    }

    /// vfork(2): `child` runs in this process's space, and this thread waits until it execs or ends.
    pub fn vfork(
        &self,
        child: impl FnOnce(&Self) -> i32 + Send + 'static,
    ) -> Result<Pid, CallError> {
        self.hosted().spend(CALL);
        let process = self.crew.process.vfork(self.vm())?;
        let pid = self.start(process.clone(), child);
        process.await_release();
        Ok(pid)
    }

    fn start(
        &self,
        process: Hold<Process<Hosted<F>>, Hosted<F>>,
        child: impl FnOnce(&Self) -> i32 + Send + 'static,
    ) -> Pid {
        let pid = process.pid();
        let (kernel, crew) = (self.kernel.clone(), Crew::new(process));
        self.hosted().spawn(None, move || {
            let user = Self::begin(kernel, crew);
            let status = child(&user);
            user.end(Some(status));
        });
        pid
    }

    /// clone(2) of a thread: `body` runs beside this one in the same process.
    pub fn spawn_thread(&self, body: impl FnOnce(&Self) + Send + 'static) {
        self.hosted().spend(CALL);
        self.crew.process.thread_starts();
        let (kernel, crew) = (self.kernel.clone(), Arc::clone(&self.crew));
        self.hosted().spawn(None, move || {
            let user = Self::begin(kernel, crew);
            body(&user);
            user.end(None);
        });
    }

    /// execve(2) as far as memory goes: the thread goes on in a fresh, empty space. Sleeps until the other
    /// threads of the process have ended: Linux would end them, and a closure cannot be ended.
    pub fn exec(&self) -> Result<(), CallError> {
        self.hosted().spend(CALL);
        self.crew.process.exec(self.vm())?;
        self.enter();
        Ok(())
    }

    /// wait4(2): sleeps until a child has ended, and reaps it.
    pub fn wait(&self, which: WaitFor) -> Result<(Pid, i32), CallError> {
        self.hosted().spend(CALL);
        let reaped = self.crew.process.wait(self.vm(), which, false)?;
        Ok(reaped.expect("a wait that may sleep ends with a child"))
    }
}
