//! Kernel threads: a stack, what the component keeps of them, and where they stand in line.
//!
//! Flow:  [`spawn`] -> run queue of its CPU -> [`entry`] -> body -> ended, taken apart by who runs next.
//! Locks: none; a record's cells belong to its CPU with interrupts masked, its links to the lists it is in.
//! Owns:  its stack, and its program's place.
//!
//! T1. A thread stays on the CPU where it was born: what the component found of that CPU stays true.
//! T2. A thread that runs, or whose turn it is, is in no list of sleepers.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::Cell;
use core::mem;
use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rumpvm_platform::{CpuId, ThreadLocal};

use crate::cpu::{self, Cpu};
use crate::lock::Masked;
use crate::priority::{Standing, Word};
use crate::program::State;
use crate::scheduler;
use crate::spent::Spent;
use crate::stack::Stack;

/// What a thread does.
pub(crate) type Body = Box<dyn FnOnce() + Send>;
/// What is called when a thread goes on after its CPU did something else.
pub(crate) type Resume = Box<dyn Fn()>;

/// A thread.
pub(crate) struct Thread {
    /// Where it goes on, while it does not run.
    pub(crate) stack_pointer: Cell<u64>,
    pub(crate) cpu: &'static Cpu,
    /// What the component keeps here.
    pub(crate) local: ThreadLocal,
    /// Who comes after it in the run queue.
    pub(crate) next: Cell<*const Thread>,
    /// The word that it sleeps on, or zero.
    pub(crate) word: AtomicUsize,
    /// Who comes after it in the list of sleepers.
    pub(crate) next_sleeper: Cell<*const Thread>,
    /// When its sleep ends at the latest, and who comes after it in its CPU's list of such.
    pub(crate) deadline: Cell<u64>,
    pub(crate) next_timed: Cell<*const Thread>,
    /// Nanoseconds that it ran, up to the last time that it went on.
    pub(crate) ran: Cell<u64>,
    /// The same by its weight, while that matters; before, it is a turn behind the others.
    pub(crate) virtual_time: Cell<u64>,
    /// None if nobody will ever say anything about its priority.
    standing: Option<Arc<Standing>>,
    /// Registers of the program that it runs, kept in the CPU while the thread is on it.
    pub(crate) program: Cell<*mut State>,
    pub(crate) resume: Cell<Option<Resume>>,
    body: Cell<Option<Body>>,
    /// Given back when the record is dropped.
    _stack: Option<Stack>,
}

/// There is no memory for a thread. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoStack;

impl Thread {
    fn new(
        cpu: &'static Cpu,
        standing: Option<Arc<Standing>>,
        body: Option<Body>,
        stack: Option<Stack>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            stack_pointer: Cell::new(0),
            cpu,
            local: ThreadLocal::new(NEXT.fetch_add(1, Ordering::Relaxed)),
            next: Cell::new(ptr::null()),
            word: AtomicUsize::new(0),
            next_sleeper: Cell::new(ptr::null()),
            deadline: Cell::new(0),
            next_timed: Cell::new(ptr::null()),
            ran: Cell::new(0),
            virtual_time: Cell::new(u64::MAX),
            standing,
            program: Cell::new(ptr::null_mut()),
            resume: Cell::new(None),
            body: Cell::new(body),
            _stack: stack,
        }
    }

    /// Where others see what it has run, if they do.
    #[inline]
    pub(crate) fn spent(&self) -> Option<&Spent> {
        match &self.standing {
            Some(standing) => Some(&standing.spent),
            None if ptr::eq(self, self.cpu.idle.get()) => Some(&self.cpu.idled),
            None => None,
        }
    }

    /// Its priority.
    #[inline]
    pub(crate) fn word(&self) -> Word {
        self.standing.as_ref().map_or(Word::PLAIN, |standing| standing.word())
    }

    /// Whether it is ordinary, and as heavy as most.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.word() == Word::PLAIN
    }
}

/// Starts a thread that does `body`, on `cpu` or where the fewest are, with the priority that `standing` has at any time.
pub(crate) fn spawn(
    cpu: Option<CpuId>,
    standing: Option<Arc<Standing>>,
    body: Body,
) -> Result<(), NoStack> {
    let stack = Stack::new().ok_or(NoStack)?;
    let cpu = match cpu {
        Some(id) => cpu::cpu(id),
        None => {
            let load = |cpu: &&Cpu| cpu.load.load(Ordering::Relaxed);
            cpu::all().min_by_key(load).expect("a machine has a CPU")
        }
    };
    cpu.load.fetch_add(1, Ordering::Relaxed);
    if let Some(standing) = &standing {
        standing.settle(cpu);
    }
    let end = stack.end();
    // The record lies at the upper end of the stack, so that there is one thing to be short of.
    let place = (end - size_of::<Thread>() as u64) / 64 * 64;
    let thread = place as *mut Thread;
    // What `switch_stacks` takes off: six registers, then where it returns to; then an empty place, as behind a call.
    let frame = (place - 16 - 6 * 8) as *mut u64;
    // SAFETY: the stack is ours, mapped, and larger than all this.
    unsafe {
        thread.write(Thread::new(cpu, standing, Some(body), Some(stack)));
        for at in 0..6 {
            frame.add(at).write(0);
        }
        frame.add(6).write(entry as *const () as u64);
        frame.add(7).write(0);
        (*thread).stack_pointer.set(frame as u64);
    }
    scheduler::make_runnable(thread);
    Ok(())
}

/// The record of a CPU's idle loop, whose stack is the one in use.
pub(crate) fn idle(cpu: &'static Cpu) -> *const Thread {
    Box::leak(Box::new(Thread::new(cpu, None, None, None)))
}

/// Where a thread begins, with interrupts masked, on its own stack.
extern "C" fn entry() -> ! {
    scheduler::after_switch();
    let body = current().body.take().expect("a thread begins once");
    // SAFETY: interrupts were on wherever the switch came from, or will be; nothing here needs them masked.
    unsafe { x86::irq::enable() };
    body();
    let thread = current();
    drop(thread.resume.take());
    assert!(thread.local.depth.get() == 0, "a thread ends with tokens in its hands");
    assert!(cpu::this().held.get() == 0, "a thread ends that must not even be switched away");
    mem::forget(Masked::now());
    thread.cpu.load.fetch_sub(1, Ordering::Relaxed);
    thread.cpu.ended.set(thread);
    scheduler::block();
    unreachable!("a thread that ended goes on");
}

/// Takes `thread`, which has ended, apart.
///
/// # Safety
/// It is in no list, and its stack is not in use any more.
pub(crate) unsafe fn bury(thread: *const Thread) {
    // SAFETY: nobody else knows it (by the caller's promise), and it was written by `spawn`. The record lies on its
    // own stack: it is moved away before that is given back.
    drop(unsafe { thread.read() });
}

/// The thread that runs.
#[inline]
pub(crate) fn current() -> &'static Thread {
    // SAFETY: the thread that runs is alive, and its record stays until another one runs.
    unsafe { &*cpu::this().current.get() }
}

/// Its number, or zero before there are any.
pub(crate) fn current_number() -> u64 {
    let current = cpu::this().current.get();
    // SAFETY: as in `current`, if there is one.
    if current.is_null() { 0 } else { unsafe { (*current).local.id() } }
}
