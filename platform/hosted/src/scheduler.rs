//! The scheduler of one CPU: round robin over the threads that live on it.
//!
//! Flow:  mailbox -> birth or wake-up -> run queue -> thread -> run queue, sleep, or end.
//! Locks: none but the mailbox's; the rest belongs to one host thread, and no cell stays borrowed
//!        while a thread runs.
//! Sleep: when nothing is runnable the CPU polls for a moment, offers the time to the component, then
//!        blocks. If it is the last one awake and threads are left, that is a deadlock (H4).
//! Owns:  the threads of this CPU, and the stacks of those that ended.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use corosensei::CoroutineResult;
use corosensei::stack::DefaultStack;
use rumpvm_platform::CpuId;

use crate::cpu::{Attention, Birth, Slot};
use crate::here::{self, Here};
use crate::machine::Machine;
use crate::thread::{Ask, Context, Thread};

/// What a thread may spend before others have their turn, in accesses: a quarter of a millisecond at
/// 25 ns each. Long against the switch with an empty TLB (some 50 us to refill a few hundred pages),
/// short against the patience of a thread on another CPU that waits for this one.
const QUANTUM: u32 = 10_000;

/// Looks into the mailbox before the CPU blocks. A futex wake-up takes some 50 us, and a thread that
/// hands over to another CPU is often answered sooner.
const PATIENCE: u32 = 32;

/// Stacks kept for reuse, per CPU.
const POOLED: usize = 64;

#[derive(Default)]
pub(crate) struct Scheduler {
    threads: RefCell<Vec<Option<Thread>>>,
    vacant: RefCell<Vec<Slot>>,
    runnable: RefCell<VecDeque<Slot>>,
    stacks: RefCell<Vec<DefaultStack>>,
    current: RefCell<Option<Rc<Context>>>,
    /// Whose translations the CPU was left with.
    last: Cell<Option<Slot>>,
    spent: Cell<u32>,
}

/// The life of a host thread that plays CPU `id`.
pub(crate) fn play(machine: Arc<Machine>, id: CpuId) {
    here::become_cpu(Arc::clone(&machine), id);
    here::here(|here| {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| run(here))) {
            // The machine may have stopped already; then the first reason stays.
            machine.stop_for(payload);
        }
        here.scheduler.abandon();
    });
}

/// Runs threads until the machine stops.
fn run(here: &Here) {
    let scheduler = &here.scheduler;
    let mut patience = PATIENCE;
    while !here.cpu().attention().has(Attention::STOP) {
        here.attend();
        scheduler.collect(here);
        if let Some(slot) = scheduler.next() {
            scheduler.resume(here, slot);
            patience = PATIENCE;
        } else if patience > 0 {
            patience -= 1;
            thread::yield_now();
        } else {
            idle(here);
        }
    }
}

/// Nothing to run: background work, then sleep.
fn idle(here: &Here) {
    here.scheduler.last.set(None);
    let more = here.machine.upcalls().is_some_and(|component| component.idle());
    if !more && here.cpu().block(&here.machine.census).is_err() {
        let sleepers = here.machine.sleepers.story();
        panic!("deadlock: every thread sleeps and nobody is left to wake one: {sleepers}");
    }
}

impl Scheduler {
    /// Takes in what the mailbox holds.
    fn collect(&self, here: &Here) {
        if !here.cpu().attention().has(Attention::MAIL) {
            return;
        }
        let (births, woken) = here.cpu().collect();
        for birth in births {
            self.bear(here, birth);
        }
        self.runnable.borrow_mut().extend(woken);
    }

    fn bear(&self, here: &Here, birth: Birth) {
        let mut threads = self.threads.borrow_mut();
        let slot = self.vacant.borrow_mut().pop().unwrap_or_else(|| {
            threads.push(None);
            Slot(threads.len() as u32 - 1)
        });
        let stack = self.stacks.borrow_mut().pop().unwrap_or_default();
        threads[slot.0 as usize] = Some(Thread::new(slot, birth, stack, here.machine.new_thread()));
        self.runnable.borrow_mut().push_back(slot);
    }

    fn next(&self) -> Option<Slot> {
        self.runnable.borrow_mut().pop_front()
    }

    /// Runs one thread until it gives the CPU away.
    fn resume(&self, here: &Here, slot: Slot) {
        let place = slot.0 as usize;
        let mut thread = self.threads.borrow_mut()[place].take().expect("a runnable thread exists");
        if self.last.replace(Some(slot)) != Some(slot) {
            thread.context.displaced.set(true);
        }
        self.spent.set(0);
        *self.current.borrow_mut() = Some(Rc::clone(&thread.context));
        let result = thread.coroutine.resume(());
        *self.current.borrow_mut() = None;
        match result {
            CoroutineResult::Yield(ask) => {
                self.threads.borrow_mut()[place] = Some(thread);
                if ask == Ask::Yield {
                    // Those that wait in the mailbox were there first.
                    self.collect(here);
                    self.runnable.borrow_mut().push_back(slot);
                }
            }
            CoroutineResult::Return(ending) => {
                self.last.set(None);
                self.vacant.borrow_mut().push(slot);
                // First, so that whoever waits for the thread does not take it for one that ended well.
                if let Err(payload) = ending {
                    here.machine.stop_for(payload);
                }
                self.bury(here, thread);
            }
        }
    }

    /// Recycles the stack of a thread that ended, and counts it out.
    fn bury(&self, here: &Here, thread: Thread) {
        let Thread { coroutine, context } = thread;
        let mut stacks = self.stacks.borrow_mut();
        if stacks.len() < POOLED {
            stacks.push(coroutine.into_stack());
        }
        here.cpu().load.fetch_sub(1, Ordering::Relaxed);
        here.machine.census.thread_ends();
        here.machine.outcome.leave(&context.group);
    }

    /// A thread of this CPU has been woken by one that runs on it.
    pub(crate) fn make_runnable(&self, slot: Slot) {
        self.runnable.borrow_mut().push_back(slot);
    }

    /// Calls `f` with the running thread, if one runs and not the idle loop.
    pub(crate) fn with_current<R>(&self, f: impl FnOnce(Option<&Context>) -> R) -> R {
        f(self.current.borrow().as_deref())
    }

    /// Whether a thread runs, and not the idle loop.
    pub(crate) fn in_thread(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// The running thread.
    pub(crate) fn current(&self) -> Option<Rc<Context>> {
        self.current.borrow().clone()
    }

    /// Gives the CPU away; returns when the running thread is resumed.
    pub(crate) fn suspend(&self, ask: Ask) {
        self.current().expect("only a thread can wait: the idle loop must not sleep").suspend(ask);
    }

    /// Lets the others of this CPU run; says whether there were any.
    pub(crate) fn yield_now(&self, here: &Here) -> bool {
        self.spent.set(0);
        let has_mail = here.cpu().attention().has(Attention::MAIL);
        let is_wanted = has_mail || !self.runnable.borrow().is_empty();
        // `panicking` is a fact of the host thread; another thread here must not inherit it.
        let may_go = is_wanted && self.in_thread() && !thread::panicking();
        if may_go {
            self.suspend(Ask::Yield);
        }
        may_go
    }

    /// The running thread has made `accesses`; its turn may be over.
    #[inline]
    pub(crate) fn spend(&self, here: &Here, accesses: u32) {
        let spent = self.spent.get() + accesses;
        self.spent.set(spent);
        if spent >= QUANTUM {
            self.yield_now(here);
        }
    }

    /// The machine has stopped: forgets the threads that are left without unwinding them. What they
    /// hold is leaked, because their destructors expect a machine that works.
    fn abandon(&self) {
        self.threads.take().into_iter().flatten().for_each(mem::forget);
    }
}
