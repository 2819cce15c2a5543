//! Who runs: one queue for each CPU (`ready`), turns of some milliseconds, and the idle loop.
//!
//! Flow:  runnable -> queue -> [`switch`] -> runs -> alarm, yield or sleep -> queue or sleepers.
//! Locks: a queue's, for a link or two.
//! Sleep: [`block`] and [`yield_now`] switch; an interrupt of kernel code may, at its end.
//! Owns:  the queues. A thread is in one from `make_runnable` until it runs.
//!
//! S1. Interrupts are masked at every switch, and each thread brings its own way of turning them on again.
//! S2. A thread that must stay (`Cpu::held`) is not switched away by an interrupt, nor is the idle loop, which
//!     does the component's chores on its CPU's own records.

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use alloc::boxed::Box;

use rumpvm_arch::interrupts_on;

use crate::cpu::{self, Cpu};
use crate::lock::{Lock, Masked};
use crate::ready::{End, Ready};
use crate::thread::{self, Body, Thread};
use crate::traps::vectors;
use crate::{apic, clock, program, sleepers};

/// A turn in nanoseconds, while others wait: ten milliseconds, as Linux's and the BSDs' are of this order.
static TURN: AtomicU64 = AtomicU64::new(10_000_000);

const NEVER: u64 = u64::MAX;

unsafe extern "C" {
    fn switch_stacks(save: *mut u64, load: u64);
}

/// Threads of one CPU that are ready to run, in order, and those that sleep until some time.
pub(crate) struct Queue {
    ready: Lock<Ready>,
    /// Of this CPU alone, in no order.
    timed: Cell<*const Thread>,
    /// When the alarm goes off, or [`NEVER`].
    alarm: Cell<u64>,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self {
            ready: Lock::new(Ready::new()),
            timed: Cell::new(ptr::null()),
            alarm: Cell::new(NEVER),
        }
    }

    fn is_empty(&self) -> bool {
        self.ready.lock().is_empty()
    }

    /// Takes out who runs next, after the calling thread.
    fn pop(&self) -> Option<*const Thread> {
        let mut ready = self.ready.lock();
        let current = thread::current();
        if ready.is_ranked() || !current.is_plain() {
            charge(current);
        }
        ready.take(turn())
    }

    /// Puts the calling thread in line, and takes out who runs next, which may be the same.
    fn exchange(&self, end: End) -> *const Thread {
        let mut ready = self.ready.lock();
        let current = thread::current();
        if ready.is_empty() {
            return current;
        }
        ready.add(current, end);
        if ready.is_ranked() {
            charge(current);
        }
        ready.take(turn()).unwrap_or(current)
    }
}

pub(crate) fn turn() -> u64 {
    TURN.load(Ordering::Relaxed)
}

/// Makes turns so many nanoseconds long.
pub(crate) fn set_turn(nanoseconds: u64) {
    TURN.store(nanoseconds, Ordering::Relaxed);
}

/// Makes the calling code CPU 0's idle loop, and `body` the first thread.
pub(crate) fn start_first(body: impl FnOnce() + Send + 'static) {
    start_this();
    let body: Body = Box::new(body);
    thread::spawn(Some(cpu::id()), None, body).expect("memory for the first thread");
}

/// Makes the calling code this CPU's idle loop.
pub(crate) fn start_this() {
    let cpu = cpu::this();
    let idle = thread::idle(cpu);
    cpu.idle.set(idle);
    cpu.current.set(idle);
}

/// What a CPU does when there is nothing to do: the component's chores, then sleep.
pub(crate) fn idle_loop() -> ! {
    let cpu = cpu::this();
    loop {
        {
            let _masked = Masked::now();
            if let Some(next) = cpu.queue.pop() {
                switch(next);
            }
        }
        // SAFETY: the idle loop holds nothing.
        unsafe { x86::irq::enable() };
        if crate::upcalls().is_some_and(|component| component.idle()) {
            continue;
        }
        // SAFETY: they come on again below, or when the loop goes round.
        unsafe { x86::irq::disable() };
        cpu.asleep.store(true, Ordering::SeqCst);
        // Whoever puts something into the queue either sees that we sleep, or we see what he put there.
        fence(Ordering::SeqCst);
        if cpu.queue.is_empty() && !cpu.flush.load(Ordering::SeqCst) {
            set_alarm(cpu, clock::now(), NEVER);
            // SAFETY: `sti` takes effect after the next instruction, so no interrupt comes between the two.
            unsafe { core::arch::asm!("sti", "hlt", options(nomem, nostack)) };
        }
        cpu.asleep.store(false, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { x86::irq::enable() };
        crate::traps::serve_flushes();
    }
}

/// `thread` may run again, on its CPU.
pub(crate) fn make_runnable(thread: *const Thread) {
    // SAFETY: a thread that is about to be queued is alive, and who makes it runnable has it to himself until then.
    let (target, word) = unsafe {
        let word = (*thread).word();
        let target = (*thread).cpu;
        (*thread).spent().inspect(|spent| spent.set_sleeps(false));
        target.queue.ready.lock().add(&*thread, End::Last);
        (target, word)
    };
    fence(Ordering::SeqCst);
    target.resched.store(true, Ordering::SeqCst);
    let sleeps = !ptr::eq(target, cpu::this()) && target.asleep.load(Ordering::SeqCst);
    if sleeps || word.is_real_time() {
        apic::interrupt(target.id(), vectors::WAKE);
    }
}

/// The priority of a thread of `cpu` has changed.
pub(crate) fn look_again(cpu: &Cpu) {
    cpu.queue.ready.lock().look_again();
    cpu.resched.store(true, Ordering::SeqCst);
    apic::interrupt(cpu.id(), vectors::WAKE);
}

/// Lets the other threads of this CPU run first, as far as they do not come behind the calling one anyway.
pub(crate) fn yield_now() {
    let _masked = Masked::now();
    give_way(End::Last);
}

fn give_way(end: End) {
    let cpu = cpu::this();
    cpu.resched.store(false, Ordering::SeqCst);
    switch(cpu.queue.exchange(end));
}

/// Somebody became ready, or a turn is over. Interrupts are masked.
fn preempt() {
    let word = thread::current().word();
    // An alarm need not have been set for this turn; who ran for half of one takes it for his.
    let is_over = || clock::now().saturating_sub(cpu::this().since.get()) >= turn() / 2;
    let stays = word.is_real_time() && !(word.takes_turns() && is_over());
    give_way(if stays { End::First } else { End::Last });
}

/// Runs something else until somebody makes the calling thread runnable. Interrupts are masked.
pub(crate) fn block() {
    let cpu = cpu::this();
    debug_assert!(!interrupts_on() && cpu.current.get() != cpu.idle.get());
    assert!(cpu.held.get() == 0, "a thread sleeps that must not even be switched away");
    thread::current().spent().inspect(|spent| spent.set_sleeps(true));
    switch(cpu.queue.pop().unwrap_or(cpu.idle.get()));
}

/// At the end of an interrupt of kernel code.
pub(crate) fn after_interrupt() {
    /// Nanoseconds until a thread that had to stay when another became ready is looked at again: some times what an
    /// emulated machine takes for an interrupt, and short beside a turn.
    const SOON: u64 = 100_000;
    let cpu = cpu::this();
    if !cpu.resched.load(Ordering::Relaxed) || cpu.current.get() == cpu.idle.get() {
        return;
    }
    if cpu.held.get() == 0 {
        preempt();
    } else {
        let now = clock::now();
        bring_alarm(cpu, now, now + SOON);
    }
}

/// At the end of an interrupt of a program.
pub(crate) fn after_program_interrupt() {
    if cpu::this().resched.load(Ordering::Relaxed) {
        preempt();
    }
}

/// Goes on with `next`. Interrupts are masked (S1).
fn switch(next: *const Thread) {
    let cpu = cpu::this();
    let old = cpu.current.replace(next);
    if ptr::eq(old, next) {
        return;
    }
    let now = clock::now();
    // SAFETY: it is alive, or was a moment ago on this very stack; `next` is as below.
    let (leaves, comes) = unsafe { (&*old, &*next) };
    account(leaves, now);
    leaves.spent().inspect(|spent| spent.stops(leaves.ran.get()));
    comes.spent().inspect(|spent| spent.runs(comes.ran.get(), now));
    // SAFETY: both are alive; `old` runs here, and `next` was taken out of this CPU's queue or is its idle loop.
    unsafe {
        program::put_away((*old).program.get());
        if next != cpu.idle.get() {
            bring_alarm(cpu, now, now + turn());
        }
        switch_stacks((*old).stack_pointer.as_ptr(), (*next).stack_pointer.get());
    }
    after_switch();
}

/// Counts what `thread`, which runs, has run since it went on or this was done last.
fn account(thread: &Thread, now: u64) -> u64 {
    let ran = now.saturating_sub(cpu::this().since.replace(now));
    thread.ran.set(thread.ran.get() + ran);
    ran
}

/// The same by its weight. Of a real-time thread, the beginning of its turn must be known.
fn charge(thread: &Thread) {
    let word = thread.word();
    if !word.is_real_time() {
        let now = clock::now();
        let time = word.virtual_time(account(thread, now));
        thread.spent().inspect(|spent| spent.runs(thread.ran.get(), now));
        thread.virtual_time.set(thread.virtual_time.get().saturating_add(time));
    }
}

/// Nanoseconds that the calling thread has run.
pub(crate) fn time_of_this() -> u64 {
    let _masked = Masked::now();
    let since = clock::now().saturating_sub(cpu::this().since.get());
    thread::current().ran.get() + since
}

/// The first thing that a thread does when it runs again, or begins.
pub(crate) fn after_switch() {
    let cpu = cpu::this();
    let ended = cpu.ended.replace(ptr::null());
    if !ended.is_null() {
        // SAFETY: it set this itself as its last step but the switch, and we run on another stack.
        unsafe { thread::bury(ended) };
    }
    let thread = thread::current();
    // SAFETY: the program belongs to the thread that runs now.
    unsafe { program::take_out(thread.program.get()) };
    if let Some(resume) = thread.resume.take() {
        resume();
        thread.resume.set(Some(resume));
    }
}

/// The calling thread will be woken at `until`, if it sleeps still. Interrupts are masked.
pub(crate) fn wake_at(thread: &'static Thread, until: u64) {
    let timed = &thread.cpu.queue.timed;
    thread.deadline.set(until);
    thread.next_timed.set(timed.replace(thread));
    bring_alarm(thread.cpu, clock::now(), until);
}

/// Calls that off. Interrupts are masked.
pub(crate) fn forget_wake_at(thread: &'static Thread) {
    let mut link = &thread.cpu.queue.timed;
    while !ptr::eq(link.get(), thread) {
        // SAFETY: the list holds threads of this CPU that are alive, and this one is among them.
        link = unsafe { &(*link.get()).next_timed };
    }
    link.set(thread.next_timed.get());
}

fn timed(cpu: &Cpu) -> impl Iterator<Item = &'static Thread> {
    let mut next = cpu.queue.timed.get();
    core::iter::from_fn(move || {
        // SAFETY: as in `forget_wake_at`; interrupts are masked, so the list stays as it is.
        let thread = unsafe { next.as_ref() }?;
        next = thread.next_timed.get();
        Some(thread)
    })
}

/// The alarm of this CPU went off.
pub(crate) fn on_alarm() {
    let cpu = cpu::this();
    let now = clock::now();
    timed(cpu).filter(|thread| thread.deadline.get() <= now).for_each(|thread| {
        if sleepers::call_off(thread) {
            make_runnable(thread);
        }
    });
    let runs = cpu.current.get() != cpu.idle.get();
    if runs && !cpu.queue.is_empty() {
        cpu.resched.store(true, Ordering::Relaxed);
    }
    set_alarm(cpu, now, if runs { now + turn() } else { NEVER });
}

/// Has the alarm go off at `at`, unless it does so before. Interrupts are masked.
fn bring_alarm(cpu: &Cpu, now: u64, at: u64) {
    if at < cpu.queue.alarm.get() {
        cpu.queue.alarm.set(at);
        clock::set_alarm(Some(at.saturating_sub(now)));
    }
}

/// Sets the alarm anew: to the first deadline of those who sleep still, but no later than `latest`.
fn set_alarm(cpu: &Cpu, now: u64, latest: u64) {
    // Who has been woken, and has not run since, forgets its deadline only then.
    let asleep = timed(cpu).filter(|thread| thread.word.load(Ordering::SeqCst) != 0);
    let at = asleep.map(|thread| thread.deadline.get()).fold(latest, u64::min);
    cpu.queue.alarm.set(at);
    clock::set_alarm((at != NEVER).then(|| at.saturating_sub(now)));
}
