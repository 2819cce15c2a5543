//! Programs: code in ring 3, which a kernel thread runs from trap to trap.
//!
//! To the thread, [`Program::run`] is a call that returns at the program's next system call, fault or interrupt; what
//! follows from that is the caller's business, and he calls again.
//!
//! Flow:  run -> `enter_program` (traps/entry.s) -> ring 3 -> trap -> registers in [`Record`] -> run returns.
//! Locks: none.
//! Sleep: at an interrupt another thread may run first.
//! Owns:  all registers of the program: while its thread is on a CPU the FPU's, `fs` and `gs` are in the CPU, and
//!        the scheduler puts them away and takes them out.
//!
//! P1. A program's registers cannot make `enter_program` fault: segments and flags are ours, and `rip` is in the
//!     lower half.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ptr;

use rumpvm_arch::{Format, PageFault, VirtAddr, interrupts_on};
use x86::msr;

use crate::cpu::features::features;
use crate::cpu::tables;
use crate::fpu::{self, Line};
use crate::home::Kernel;
use crate::lock::Masked;
use crate::traps::{self, Frame, SYSTEM_CALL, vectors};
use crate::{scheduler, thread};

unsafe extern "C" {
    /// Keeps no registers but `rbx` and `rbp`: to be called by [`enter`] only.
    fn enter_program();
}

/// The general registers, where traps put them; `traps/entry.s` knows this layout.
#[derive(Clone, Default)]
#[repr(C, align(16))]
pub(crate) struct Record {
    kernel_stack: u64,
    filler: u64,
    frame: Frame,
}

/// Everything of a program that the scheduler has to keep.
pub(crate) struct State {
    record: Record,
    fs: u64,
    gs: u64,
    fpu: Vec<Line>,
}

/// A program's registers. Stays with the thread that runs it first.
pub struct Program {
    state: Box<State>,
    /// The thread's record points to the state.
    is_attached: bool,
    not_send: PhantomData<*const ()>,
}

/// Why a program stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// It asks for something; number and arguments are in its registers.
    SystemCall,
    /// It cannot go on before this is repaired.
    PageFault(PageFault),
    /// It did what it must not do: number of the trap, and the CPU's code for it.
    Fault {
        /// Number of the trap.
        vector: u8,
        /// What the CPU says about it.
        error: u64,
    },
    /// An interrupt, which has been served. It just goes on.
    Interrupted,
}

/// Flags that a program may set: arithmetic, direction, single step, alignment, identification.
const USER_FLAGS: u64 = 0x24_0dd5;
/// Flags that are always set: one that has no meaning, and interrupts.
const SET_FLAGS: u64 = 0x202;

impl Program {
    /// A program that begins at `entry` with its stack at `stack`, and zeros in all other registers.
    pub fn new(entry: VirtAddr, stack: VirtAddr) -> Self {
        let frame = Frame { rip: entry.0, rsp: stack.0, ..Frame::default() };
        let record = Record { frame, ..Record::default() };
        let state = Box::new(State { record, fs: 0, gs: 0, fpu: fpu::fresh() });
        Self { state, is_attached: false, not_send: PhantomData }
    }

    /// As fork(2) leaves it: the same registers, for another thread to run. To be called by the thread that runs it.
    pub fn copy(&self) -> ProgramCopy {
        let _masked = Masked::now();
        let mut fpu = self.state.fpu.clone();
        if self.is_attached {
            fpu::save(&mut fpu);
        }
        let State { record, fs, gs, .. } = &*self.state;
        ProgramCopy(Box::new(State { record: record.clone(), fs: *fs, gs: *gs, fpu }))
    }

    /// Makes it one that begins at `entry` with its stack at `stack`, and keeps nothing, as execve(2) does.
    pub fn reset(&mut self, entry: VirtAddr, stack: VirtAddr) {
        let _masked = Masked::now();
        let state = &mut *self.state;
        state.record.frame = Frame { rip: entry.0, rsp: stack.0, ..Frame::default() };
        (state.fs, state.gs) = (0, 0);
        state.fpu.copy_from_slice(&fpu::fresh());
        if self.is_attached {
            // SAFETY: this thread runs the program, whose state is alive and in order.
            unsafe { take_out(state) };
        }
    }

    /// FPU state, as `xsave` or, on older CPUs, `fxsave` has it.
    pub fn fpu(&mut self) -> &[u8] {
        let _masked = Masked::now();
        if self.is_attached {
            fpu::save(&mut self.state.fpu);
        }
        fpu::bytes(&mut self.state.fpu)
    }

    /// Which parts of it there are, as `xsave` numbers them; none on older CPUs.
    pub fn fpu_parts() -> u64 {
        features().fpu_parts
    }

    /// Sets it to what [`Program::fpu`] said once, or to something else: what no CPU would take is left out. Of a
    /// shorter state the rest is as it is at the beginning.
    pub fn set_fpu(&mut self, from: &[u8]) {
        let _masked = Masked::now();
        let fpu = &mut self.state.fpu;
        fpu.copy_from_slice(&fpu::fresh());
        let all = fpu::bytes(fpu);
        let count = from.len().min(all.len());
        all[..count].copy_from_slice(&from[..count]);
        fpu::repair(all, count);
        if self.is_attached {
            fpu::load(fpu);
        }
    }

    /// General registers, as the last trap left them.
    #[inline]
    pub fn registers(&mut self) -> &mut Frame {
        &mut self.state.record.frame
    }

    /// Address behind `fs`, which threads' own data uses.
    pub fn fs(&self) -> u64 {
        self.state.fs
    }

    /// Sets it.
    pub fn set_fs(&mut self, at: VirtAddr) {
        self.state.fs = user(at);
        self.load_bases();
    }

    /// Address behind `gs`.
    pub fn gs(&self) -> u64 {
        self.state.gs
    }

    /// Sets it.
    pub fn set_gs(&mut self, at: VirtAddr) {
        self.state.gs = user(at);
        self.load_bases();
    }

    fn load_bases(&self) {
        let _masked = Masked::now();
        if self.is_attached {
            // SAFETY: this thread runs the program, and both are addresses of the lower half.
            unsafe { load_bases(&self.state) };
        }
    }

    /// Runs it until its next trap. The CPU translates through its space, and takes interrupts.
    #[inline]
    pub fn run(&mut self) -> Trap {
        debug_assert!(interrupts_on(), "a thread that runs a program may be interrupted");
        // SAFETY: masking interrupts breaks nothing; this is ring 0.
        unsafe { x86::irq::disable() };
        if !self.is_attached {
            self.attach();
        }
        let trap = if self.enter() { Trap::SystemCall } else { self.other_trap() };
        // SAFETY: they were on before, and all that had to be done without them is finished.
        unsafe { x86::irq::enable() };
        trap
    }

    /// Runs it, with interrupts masked; whether it stopped at a system call.
    #[inline]
    fn enter(&mut self) -> bool {
        let record = &mut self.state.record;
        let frame = &mut record.frame;
        if frame.rip >= Kernel::USER_END.0 {
            // The CPU would find out when it is too late for the kernel (P1).
            frame.vector = u64::from(x86::irq::GENERAL_PROTECTION_FAULT_VECTOR);
            frame.error = 0;
            return false;
        }
        frame.cs = u64::from(tables::USER_CODE);
        frame.ss = u64::from(tables::USER_DATA);
        frame.rflags = frame.rflags & USER_FLAGS | SET_FLAGS;
        // SAFETY: the record is alive and this CPU's until the call returns; interrupts are masked; P1 holds by the
        // lines above. What the call does not keep is named here.
        unsafe {
            core::arch::asm!(
                "call {}", sym enter_program, inout("rdi") &raw mut *record => _,
                out("r12") _, out("r13") _, out("r14") _, out("r15") _, clobber_abi("C")
            );
        }
        record.frame.vector == SYSTEM_CALL
    }

    /// Why it stopped, if not at a system call; interrupts are masked.
    #[cold]
    fn other_trap(&mut self) -> Trap {
        let frame = &self.state.record.frame;
        let (vector, error) = (frame.vector as u8, frame.error);
        if vector >= vectors::FIRST {
            traps::interrupt(vector);
            scheduler::after_program_interrupt();
            return Trap::Interrupted;
        }
        if vector == x86::irq::PAGE_FAULT_VECTOR {
            let at = VirtAddr(traps::fault_address());
            return match PageFault::decode(at, error as u32) {
                Some(fault) => Trap::PageFault(fault),
                None => panic!("{}: {}", traps::what(frame), "a table is broken"),
            };
        }
        Trap::Fault { vector, error }
    }

    /// Puts the registers that have no place in the record into the CPU.
    fn attach(&mut self) {
        let thread = thread::current();
        assert!(thread.program.get().is_null(), "a thread runs one program");
        thread.program.set(&raw mut *self.state);
        self.is_attached = true;
        // SAFETY: the state is alive until `drop` takes it out of the thread's record.
        unsafe { take_out(thread.program.get()) };
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.is_attached {
            let _masked = Masked::now();
            thread::current().program.set(ptr::null_mut());
        }
    }
}

/// A program's registers on their way to another thread.
pub struct ProgramCopy(Box<State>);

impl ProgramCopy {
    /// The program, for the calling thread to run.
    pub fn unpack(self) -> Program {
        Program { state: self.0, is_attached: false, not_send: PhantomData }
    }
}

/// An address that may be put behind a segment: others than users' would let a program choose what the kernel finds.
fn user(at: VirtAddr) -> u64 {
    assert!(at < Kernel::USER_END, "{at} is no address of a program");
    at.0
}

/// Saves what of the program in `state` is in the CPU; null stands for no program.
///
/// # Safety
/// `state` is null, or alive and this CPU's.
pub(crate) unsafe fn put_away(state: *mut State) {
    // SAFETY: by the caller's promise.
    if let Some(state) = unsafe { state.as_mut() } {
        fpu::save(&mut state.fpu);
    }
}

/// Puts the program in `state` into the CPU as far as needed; null stands for no program.
///
/// # Safety
/// As for [`put_away`].
pub(crate) unsafe fn take_out(state: *mut State) {
    // SAFETY: by the caller's promise.
    if let Some(state) = unsafe { state.as_ref() } {
        fpu::load(&state.fpu);
        // SAFETY: both are addresses of the lower half (`user`).
        unsafe { load_bases(state) };
    }
}

/// # Safety
/// The CPU runs the program's thread; both bases are users' addresses.
unsafe fn load_bases(state: &State) {
    // SAFETY: while kernel code runs, the program's `gs` waits in the other register; the kernel has no `fs`.
    unsafe {
        msr::wrmsr(msr::IA32_FS_BASE, state.fs);
        msr::wrmsr(msr::IA32_KERNEL_GSBASE, state.gs);
    }
}
