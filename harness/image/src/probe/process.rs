//! A program in a space of its own, run by a kernel thread from trap to trap.
//!
//! Flow:  code and stack mapped -> ring 3 -> page fault -> `Vm::fault` -> ring 3 ... -> [`Ending`].
//! Sleep: at system calls and interrupts other threads may run.
//! Owns:  one use of its space, given up when it is dropped.

use alloc::sync::Arc;

use rumpvm::sync::{Atomic, Ordering};
use rumpvm::{Backing, FaultError, Hold, MapFlags, Space};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};
use rumpvm_bare::{Bare, Program, Trap};
use rumpvm_platform::CpuId;

use super::code::{self, Code};
use crate::kernel::Kernel;

/// Where code is mapped.
const TEXT: VirtAddr = VirtAddr(0x40_0000);
/// The end of the stack.
const STACK: VirtAddr = VirtAddr(0x7fff_0000_0000);
/// Its size; page by page it becomes real as it is touched.
const STACK_BYTES: u64 = 1 << 20;

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// By itself.
    Exit(u64),
    /// It cannot have what it wants.
    Refused(FaultError),
    /// It did what it may not do: number of the trap.
    Trap(u8),
}

/// What a program was asked, and did, so far.
#[derive(Default)]
pub(super) struct Tally {
    /// Interrupts while it was in ring 3.
    pub(super) interrupts: u32,
}

/// A space with the code and a stack in it.
pub(super) struct Process {
    kernel: &'static Kernel,
    space: Hold<Space<Bare>, Bare>,
}

impl Process {
    pub(super) fn new(kernel: &'static Kernel) -> Self {
        let vm = &kernel.vm;
        let space = vm.new_space().expect("memory for a space");
        let fixed = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
        for (at, bytes) in [(TEXT, PAGE_SIZE), (STACK - STACK_BYTES, STACK_BYTES)] {
            let mapped = space.mmap(vm, at, bytes, Prot::RW, fixed, Backing::Anonymous, 0);
            assert_eq!(mapped, Ok(at));
        }
        space.copy_out(vm, TEXT, code::bytes()).expect("memory for the code");
        let fixed = space.mprotect(vm, TEXT, PAGE_SIZE, Prot::READ | Prot::EXEC);
        assert_eq!(fixed, Ok(()));
        Self { kernel, space }
    }

    /// Its child by fork.
    pub(super) fn fork(&self) -> Self {
        let space = self.kernel.vm.fork_space(&self.space).expect("memory for a fork");
        Self { kernel: self.kernel, space }
    }

    /// The space.
    pub(super) fn space(&self) -> &Hold<Space<Bare>, Bare> {
        &self.space
    }

    /// A page of memory to load and store.
    pub(super) fn page(&self) -> VirtAddr {
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
        let none = VirtAddr(0);
        let mapped = self.space.mmap(
            &self.kernel.vm,
            none,
            PAGE_SIZE,
            Prot::RW,
            flags,
            Backing::Anonymous,
            0,
        );
        mapped.expect("room for a page")
    }

    /// Runs `code` in the calling thread, with `argument` in its first register.
    pub(super) fn run(&self, code: Code, argument: u64) -> Ending {
        self.run_while(code, argument, |_| false)
    }

    /// As [`Process::run`]; what asks whether to go on is told by `go_on`.
    pub(super) fn run_while(
        &self,
        code: Code,
        argument: u64,
        go_on: impl Fn(&Tally) -> bool,
    ) -> Ending {
        let (kernel, space) = (self.kernel, self.space.clone());
        Bare::set_on_resume(move || kernel.vm.activate(&space));
        let mut program = Program::new(TEXT + code.offset(), STACK);
        program.registers().rdi = argument;
        let mut tally = Tally::default();
        let ending = loop {
            match program.run() {
                Trap::SystemCall => {
                    if let Some(ending) = call(&mut program, &tally, &go_on) {
                        break ending;
                    }
                }
                Trap::PageFault(fault) => {
                    if let Err(refused) = kernel.fault(&self.space, fault.at, fault.access) {
                        break Ending::Refused(refused);
                    }
                }
                Trap::Fault { vector, .. } => break Ending::Trap(vector),
                Trap::Interrupted => tally.interrupts += 1,
            }
        };
        drop(program);
        Bare::clear_on_resume();
        kernel.vm.deactivate();
        ending
    }
}

/// Carries out a system call; the ending, if it was the last.
fn call(program: &mut Program, tally: &Tally, go_on: impl Fn(&Tally) -> bool) -> Option<Ending> {
    let registers = program.registers();
    let argument = registers.rdi;
    match registers.rax {
        0 => return Some(Ending::Exit(argument)),
        1 => registers.rax = u64::from(go_on(tally)),
        2 => registers.rax = 0,
        3 => program.set_fs(VirtAddr(argument)),
        other => panic!("a program of ours makes system call {other}"),
    }
    None
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kernel.vm.leave_space(&self.space);
    }
}

/// A thread that will end, and what it will have found.
pub(super) struct Job {
    outcome: Arc<Outcome>,
}

struct Outcome {
    /// 1 once there is an ending.
    known: Atomic<u32, Bare>,
    ending: spin::Mutex<Option<Ending>>,
}

impl Job {
    /// Has a thread on `cpu` do `work`.
    pub(super) fn start(cpu: CpuId, work: impl FnOnce() -> Ending + Send + 'static) -> Self {
        let outcome = Outcome { known: Atomic::new(0), ending: spin::Mutex::new(None) };
        let outcome = Arc::new(outcome);
        let theirs = Arc::clone(&outcome);
        let body = move || {
            let ending = work();
            *theirs.ending.lock() = Some(ending);
            theirs.known.store(1, Ordering::Release);
            theirs.known.wake_sleepers();
        };
        Bare::spawn(Some(cpu), body).expect("memory for a thread");
        Self { outcome }
    }

    /// Sleeps until it has ended.
    pub(super) fn end(self) -> Ending {
        while self.outcome.known.load(Ordering::Acquire) == 0 {
            self.outcome.known.sleep_while(0);
        }
        self.outcome.ending.lock().take().expect("a thread that ended has a result")
    }
}
