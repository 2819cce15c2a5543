//! A thread of a program: a kernel thread that runs it from trap to trap.
//!
//! Flow:  [`run`] -> ring 3 -> system call, fault, interrupt -> what follows from that -> signals, if somebody
//!        interrupted -> ring 3 ... -> [`end`].
//! Owns:  its registers, its use of the space, and what only it looks at.

use rumpvm::sync::Ordering;
use rumpvm::{Hold, Space};
use rumpvm_bare::{Bare, Program, Trap};

use super::signal::deliver::{Restart, attend};
use super::signal::{Set, Signal};
use super::system::system;
use super::task::Task;
use super::user::Memory;
use super::{calls, end, faults, proc};

/// A thread, for itself.
pub(crate) struct Thread {
    pub(crate) task: Hold<Task, Bare>,
    pub(crate) program: Program,
    memory: Memory,
    /// A call that a signal interrupted, and what becomes of it.
    pub(crate) restart: Option<(u64, Restart)>,
    /// The mask to go back to after the next handler, for calls that change it meanwhile.
    pub(crate) saved_mask: Option<Set>,
    pub(crate) alt_stack: AltStack,
    /// What the last fault was, for frames of handlers.
    pub(crate) last_fault: LastFault,
    /// Where to store zero and wake a futex at the end (`set_tid_address`).
    pub(crate) clear_at: u64,
    /// The list of robust futexes, and its length as the program says it.
    pub(crate) robust: (u64, u64),
    /// The area of restartable sequences, its length, and its signature.
    pub(crate) sequences: Option<(u64, u32, u32)>,
    /// When a sleep that was interrupted was to end.
    pub(crate) sleeps_until: Option<u64>,
}

/// What the CPU said about the last fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LastFault {
    pub(crate) trap: u64,
    pub(crate) error: u64,
    pub(crate) address: u64,
}

/// Another stack for signal handlers (`stack_t`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AltStack {
    at: u64,
    bytes: u64,
    flags: u32,
}

/// The stack is not what a program may use for that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadStack {
    Flags,
    TooSmall,
}

impl AltStack {
    /// Bytes of a `stack_t`.
    pub(crate) const BYTES: usize = 24;
    /// `MINSIGSTKSZ`.
    const LEAST: u64 = 2048;
    const ON_STACK: u32 = 1;
    const DISABLE: u32 = 2;
    /// It is disabled while a handler is on it, so that the handler may leave it for good.
    const AUTO_DISARM: u32 = 1 << 31;

    pub(crate) const NONE: Self = Self { at: 0, bytes: 0, flags: Self::DISABLE };

    pub(crate) fn is_enabled(&self) -> bool {
        self.flags & Self::DISABLE == 0
    }

    /// Whether the stack pointer `at` is on it.
    pub(crate) fn contains(&self, at: u64) -> bool {
        let counts = self.is_enabled() && self.flags & Self::AUTO_DISARM == 0;
        counts && at > self.at && at - self.at <= self.bytes
    }

    pub(crate) fn top(&self) -> u64 {
        self.at.wrapping_add(self.bytes)
    }

    /// As a program sees it whose stack pointer is `at`.
    pub(crate) fn to_bytes(self, at: u64) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let on = if self.contains(at) { Self::ON_STACK } else { 0 };
        bytes[0..8].copy_from_slice(&self.at.to_le_bytes());
        bytes[8..12].copy_from_slice(&(self.flags | on).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    /// As a program says it.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, BadStack> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let flags = word(8) as u32;
        match flags & !Self::AUTO_DISARM {
            Self::DISABLE => return Ok(Self::NONE),
            0 | Self::ON_STACK => {}
            _ => return Err(BadStack::Flags),
        }
        let stack = Self { at: word(0), bytes: word(16), flags: flags & Self::AUTO_DISARM };
        if stack.bytes < Self::LEAST { Err(BadStack::TooSmall) } else { Ok(stack) }
    }
}

impl Thread {
    /// The calling kernel thread as `task`, which runs `program` in `space`.
    pub(crate) fn new(
        task: Hold<Task, Bare>,
        program: Program,
        space: Hold<Space<Bare>, Bare>,
    ) -> Self {
        task.starts_here();
        let mut thread = Self {
            task,
            program,
            memory: Memory::new(space),
            restart: None,
            saved_mask: None,
            alt_stack: AltStack::NONE,
            last_fault: LastFault::default(),
            clear_at: 0,
            robust: (0, 0),
            sequences: None,
            sleeps_until: None,
        };
        thread.activate();
        thread
    }

    /// Its program's memory.
    pub(crate) fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// The same for a moment.
    pub(crate) fn user(&self) -> &Memory {
        &self.memory
    }

    /// Its space.
    pub(crate) fn space(&self) -> &Hold<Space<Bare>, Bare> {
        self.memory.space()
    }

    /// Goes on in another space.
    pub(crate) fn enter(&mut self, space: Hold<Space<Bare>, Bare>) {
        self.memory = Memory::new(space);
        self.activate();
    }

    fn activate(&mut self) {
        let (kernel, space) = (system().kernel, self.space().clone());
        let pid = self.task.process.pid();
        Bare::set_on_resume(move || {
            proc::runs(pid);
            kernel.vm.activate(&space);
        });
    }

    /// Blocks these signals and no others; a pending one that is not blocked any more comes soon.
    pub(crate) fn set_mask(&mut self, mask: Set) {
        self.task.mask.store(mask & !Signal::ABSOLUTE, Ordering::SeqCst);
        let own = self.task.pending.lock().set();
        let all = own | self.task.process.pending.lock().set();
        if all & !mask != 0 {
            self.task.waker.interrupt();
        }
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.task.number()
    }
}

/// Runs the program until its thread ends.
pub(crate) fn run(mut thread: Thread) {
    loop {
        if thread.task.waker.is_interrupted() && attend(&mut thread).is_break() {
            break;
        }
        match thread.program.run() {
            Trap::SystemCall => calls::call(&mut thread),
            Trap::PageFault(fault) => faults::page(&mut thread, fault),
            Trap::Fault { vector, error } => faults::other(&mut thread, vector, error),
            Trap::Interrupted => {}
        }
    }
    end::end(thread);
}
