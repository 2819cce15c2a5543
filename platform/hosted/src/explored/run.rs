//! Runs: one scenario, once, with every choice made by a [`Chooser`].
//!
//! Flow:  stage set up by one actor -> the actors, step by step -> the finale -> [`Outcome`].
//! Locks: none; an explorer belongs to one host thread.
//! Sleep: never. An actor that waits is a coroutine that is not resumed.
//! Owns:  the arena, the stacks, the heap of the run.
//!
//! U1. `YIELDERS[slot]` points into the stack of that coroutine from its first instruction to its last, and is
//!     used only while it runs.
//! U2. `STATE` points to the state of this thread's explorer while a run is under way, and is null otherwise.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::ptr;
use std::rc::Rc;
use std::sync::{Arc, Once};

use corosensei::stack::{DefaultStack, Stack as _};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use rumpvm_arch::PAGE_SIZE;

use super::agent::{Agent, Kind, MOST};
use super::choice::{Chooser, Next};
use super::coverage::{Met, Pairs};
use super::heap::{self, Region};
use super::outcome::{Failure, FailureKind, Outcome};
use super::settings::{Mutation, Settings};
use super::state::{State, Status};
use crate::hardware::Hardware;

/// What a coroutine is told when it is resumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Command {
    /// Make the step that you announced.
    Go,
    /// Handle an interrupt first.
    Interrupt,
}

type Thread = Coroutine<Command, (), (), DefaultStack>;

/// Actors, then the idle loops of CPUs.
const SLOTS: usize = 2 * MOST;

/// 256 KiB: the deepest calls of the component use a tenth of it in a build that is not optimized.
const STACK: usize = 256 << 10;

thread_local! {
    static STATE: Cell<*const RefCell<State>> = const { Cell::new(ptr::null()) };
    static YIELDERS: [Cell<*const Yielder<Command, ()>>; SLOTS] =
        const { [const { Cell::new(ptr::null()) }; SLOTS] };
    static SLOT: Cell<usize> = const { Cell::new(0) };
    /// Copies of what the state says, for the hooks that only ask: nothing is chosen now; the run has failed, and
    /// no panic is on its way up.
    static SOLO: Cell<bool> = const { Cell::new(false) };
    static FAILED: Cell<bool> = const { Cell::new(false) };
    /// Where the stack of each coroutine begins, at its upper end.
    static STACKS: [Cell<usize>; SLOTS] = const { [const { Cell::new(0) }; SLOTS] };
}

/// CPU, name and body of an actor.
type Part = (usize, String, Box<dyn FnOnce()>);

/// What a scenario sets up: actors, and what is to hold at the end.
#[derive(Default)]
pub struct Stage {
    actors: RefCell<Vec<Part>>,
    finale: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl Stage {
    /// A thread called `name` that runs `body` on CPU `cpu`. Seven at most.
    pub fn actor(&self, cpu: usize, name: &str, body: impl FnOnce() + 'static) {
        self.actors.borrow_mut().push((cpu, name.to_owned(), Box::new(body)));
    }

    /// What to do, on CPU 0, when every actor has ended.
    pub fn finally(&self, body: impl FnOnce() + 'static) {
        *self.finale.borrow_mut() = Some(Box::new(body));
    }
}

/// Runs scenarios on one host thread, one after another.
pub struct Explorer {
    state: Box<RefCell<State>>,
    heap: Region,
    stacks: Vec<DefaultStack>,
    threads: [Option<Thread>; SLOTS],
}

impl Explorer {
    /// An explorer of machines like this one. The program's global allocator must be
    /// [`RunHeap`](super::RunHeap).
    pub fn new(settings: Settings) -> io::Result<Self> {
        assert!((1..=MOST).contains(&settings.cpus), "1 to {MOST} CPUs, not {}", settings.cpus);
        install_panic_hook();
        let hardware = Arc::new(Hardware::new(settings.frames * PAGE_SIZE)?);
        Ok(Self {
            state: Box::new(RefCell::new(State::new(settings, hardware))),
            heap: Region::new(before_free)?,
            stacks: Vec::new(),
            threads: Default::default(),
        })
    }

    /// From now on a word is a point only if somebody was seen to share it.
    pub fn focus(&mut self) {
        let focus = &mut self.state.get_mut().focus;
        (focus.everything, focus.learning) = (false, false);
    }

    /// Words that turned out to be shared after [`Explorer::focus`].
    pub fn late(&self) -> u64 {
        self.state.borrow().focus.late
    }

    /// Adds to `all` the pairs of places, by two agents, that touched one word one after the other.
    pub fn add_pairs(&self, all: &mut Pairs) {
        all.extend(self.state.borrow().coverage.pairs());
    }

    /// Flaws that could be put in where runs with [`Settings::survey`] have been, and how often those came by.
    pub fn places(&self) -> BTreeMap<Mutation, Met> {
        self.state.borrow().coverage.places()
    }

    /// Runs the scenario that `setup` sets up, once. The chooser comes back.
    pub fn run<C: Chooser + 'static>(
        &mut self,
        settings: Settings,
        setup: fn(&Stage),
        chooser: Box<C>,
    ) -> (Outcome, Box<C>) {
        let state = self.state.get_mut();
        if settings.frames as usize != state.hardware.arena.frames() {
            let hardware = Hardware::new(settings.frames * PAGE_SIZE);
            state.hardware = Arc::new(hardware.expect("memory for a small machine"));
        }
        state.hardware.renew();
        state.reset(settings);
        if settings.everything {
            state.focus.everything = true;
        }
        SOLO.set(true);
        set_failed(false);
        STATE.set(&raw const *self.state);
        let stage = self.play(setup, chooser);
        STATE.set(ptr::null());
        let state = self.state.get_mut();
        if state.failure.is_some() {
            // Part of it may be in use by whoever was abandoned.
            mem::forget(stage);
            mem::forget(state.upcalls.take());
        } else {
            drop(stage);
            state.upcalls = None;
            if self.heap.live() != 0 {
                let message = format!("{} allocations are left", self.heap.live());
                state.fail(FailureKind::Leak, message, None);
            }
        }
        let chooser: Box<dyn Any> = state.chooser.take().expect("it was put there");
        let chooser = chooser.downcast().expect("it is the one that was put there");
        let outcome = Outcome {
            failure: state.failure.take(),
            schedule: mem::take(&mut state.schedule),
            steps: state.steps,
            moments: state.moments,
            hash: state.hash,
            class: state.class,
            story: state.story.take().unwrap_or_default(),
        };
        self.heap.reset();
        (outcome, chooser)
    }

    /// The three acts.
    fn play(&mut self, setup: fn(&Stage), chooser: Box<dyn Chooser>) -> Rc<Stage> {
        let was = heap::enter(true);
        let stage = Rc::new(Stage::default());
        heap::enter(was);
        let own = Rc::clone(&stage);
        self.begin(0, "stage", Box::new(move || setup(&own)));
        self.drive();
        let state = self.state.get_mut();
        state.chooser = Some(chooser);
        if state.failure.is_some() {
            self.abandon();
            return stage;
        }
        state.next_act(false);
        if state.settings.story {
            state.story = Some(Vec::new());
        }
        let actors = mem::take(&mut *stage.actors.borrow_mut());
        assert!(actors.len() < MOST, "a scenario has at most {} actors", MOST - 1);
        for (cpu, name, body) in actors {
            self.begin(cpu, &name, body);
        }
        self.drive();
        let state = self.state.get_mut();
        if state.failure.is_none() {
            state.next_act(true);
            if let Some(finale) = stage.finale.borrow_mut().take() {
                self.begin(0, "finale", finale);
                self.drive();
            }
        }
        self.abandon();
        stage
    }

    /// A new actor that will run `body`.
    fn begin(&mut self, cpu: usize, name: &str, body: Box<dyn FnOnce()>) {
        let state = self.state.get_mut();
        assert!(cpu < state.cpus.len(), "{name} is to run on CPU {cpu} of {}", state.cpus.len());
        let slot = state.add_actor(cpu, name);
        self.threads[slot] = Some(coroutine(self.stacks.pop(), slot, body));
    }

    /// Resumes whoever was chosen until nobody is left, or something is wrong.
    fn drive(&mut self) {
        let mut next = self.state.borrow_mut().decide();
        while let Some(agent) = next {
            let (slot, command) = {
                let mut state = self.state.borrow_mut();
                let begins = state.enter(agent);
                let occupant = state.cpus[state.cpu()].occupant;
                let slot = occupant.unwrap_or(MOST + agent.number());
                (slot, if begins { Command::Interrupt } else { Command::Go })
            };
            let stacks = &mut self.stacks;
            let thread = self.threads[slot].get_or_insert_with(|| {
                coroutine(
                    stacks.pop(),
                    slot,
                    Box::new(|| {
                        loop {
                            idle()
                        }
                    }),
                )
            });
            SLOT.set(slot);
            let was = heap::enter(true);
            let result = thread.resume(command);
            heap::enter(was);
            let mut state = self.state.borrow_mut();
            if let CoroutineResult::Return(()) = result {
                state.actor_ends(slot);
                drop(state);
                let thread = self.threads[slot].take().expect("it has just run");
                self.stacks.push(thread.into_stack());
                state = self.state.borrow_mut();
                if state.failure.is_none() {
                    state.decide();
                }
            }
            next = if state.failure.is_some() { None } else { state.decided };
        }
    }

    /// Forgets whoever has not ended. Nobody unwinds: destructors expect a machine that works.
    fn abandon(&mut self) {
        for thread in &mut self.threads {
            if let Some(mut thread) = thread.take() {
                // One that has not begun as well: dropping what it would have done would be steps of the run.
                if !thread.done() {
                    // SAFETY: what lives on its stack is leaked: it refers to the heap of this run, which is
                    // forgotten as a whole, and to nothing else that would be missed.
                    unsafe { thread.force_reset() };
                }
                if thread.done() {
                    self.stacks.push(thread.into_stack());
                }
            }
        }
    }
}

fn coroutine(stack: Option<DefaultStack>, slot: usize, body: Box<dyn FnOnce()>) -> Thread {
    let stack = stack.unwrap_or_else(|| DefaultStack::new(STACK).expect("memory for a stack"));
    STACKS.with(|stacks| stacks[slot].set(stack.base().get()));
    let was = heap::enter(true);
    let thread = Coroutine::with_stack(stack, move |yielder, command| {
        YIELDERS.with(|yielders| yielders[slot].set(yielder));
        if command == Command::Interrupt {
            handle();
            park_after_interrupt();
        }
        if let Err(payload) = catch_unwind(AssertUnwindSafe(body)) {
            // The hook has told the story; what is left lies in the heap of the run.
            mem::forget(payload);
        }
    });
    heap::enter(was);
    thread
}

/// Calls `f` with the state of this thread's run. What is allocated meanwhile is ours, not the run's.
#[inline]
pub(super) fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    let was = heap::enter(false);
    let state = STATE.get();
    assert!(!state.is_null(), "not in a run: use Explorer::run");
    // SAFETY: U2; the explorer, which owns the state, is borrowed for as long as the run lasts.
    let result = f(&mut unsafe { &*state }.borrow_mut());
    heap::enter(was);
    result
}

/// The running flow is about to do `next`; others may go first.
#[inline]
pub(super) fn reach(next: Next) {
    if !with(|state| state.arrive(next)) {
        park();
    }
}

/// Suspends the running coroutine until it is to go on.
pub(super) fn park() {
    loop {
        // SAFETY: U1; the slot is that of the coroutine that runs.
        let yielder = unsafe { &*YIELDERS.with(|yielders| yielders[SLOT.get()].get()) };
        if yielder.suspend(()) == Command::Go || !after(handle) {
            return;
        }
    }
}

/// Calls a handler, and chooses who is next; whether that is somebody else than who was interrupted.
fn after(handler: fn()) -> bool {
    handler();
    with(|state| {
        let running = state.running;
        state.decide() != Some(running)
    })
}

/// A thread that was interrupted before its first instruction waits for its turn.
fn park_after_interrupt() {
    let others = with(|state| {
        let running = state.running;
        state.decide() != Some(running)
    });
    if others {
        park();
    }
}

/// The idle loop of a CPU: waits for interrupts.
fn idle() {
    with(|state| {
        state.decide();
    });
    park();
}

/// Handles the interrupt that has come in.
fn handle() {
    let (agent, component) = with(|state| {
        let agent = state.running;
        let is_tick = agent.kind() == Kind::Handler;
        if is_tick {
            state.tick(agent.number());
        }
        state.tell(agent, None, |_| "comes in".to_owned());
        (agent, state.upcalls.clone())
    });
    if let Some(component) = component.and_then(|component| component.upgrade()) {
        component.tlb_interrupt();
    }
    with(|state| state.leave_handler(agent.number()));
}

/// Suspends the running coroutine for good if the run has failed.
#[inline]
pub(super) fn stop_if_failed() {
    if FAILED.get() {
        halt();
    }
}

/// Whether nobody runs but the stage's own actor: nothing to choose, nothing to watch.
#[inline]
pub(super) fn is_solo() -> bool {
    SOLO.get()
}

/// Notes whether the run has failed.
pub(super) fn set_failed(failed: bool) {
    FAILED.set(failed);
}

/// Suspends the running coroutine for good.
pub(super) fn halt() -> ! {
    // SAFETY: U1, as in `park`.
    let yielder = unsafe { &*YIELDERS.with(|yielders| yielders[SLOT.get()].get()) };
    loop {
        yielder.suspend(());
    }
}

/// Name of a word on the stack of some coroutine, the same in every run.
pub(super) fn stack_word(address: usize) -> Option<u64> {
    STACKS.with(|stacks| {
        stacks.iter().enumerate().find_map(|(slot, base)| {
            let depth = base.get().wrapping_sub(address);
            (depth < STACK).then(|| (1 << 42) + ((slot as u64) << 32) + depth as u64)
        })
    })
}

/// Whether this host thread is in a run.
pub(super) fn is_inside() -> bool {
    !STATE.get().is_null()
}

/// Before the component frees something: stores to it have landed.
fn before_free() {
    let state = STATE.get();
    if state.is_null() {
        return;
    }
    // SAFETY: U2.
    if let Ok(mut state) = unsafe { &*state }.try_borrow_mut() {
        let was = heap::enter(false);
        let cpu = state.cpu();
        state.drain(cpu);
        heap::enter(was);
    }
}

/// What a program ends with whose explorer is broken: `EX_SOFTWARE` of sysexits(3).
pub const BROKEN: i32 = 70;

/// Panics of a run become its failure; the explorer's own end the program, because nothing that a run says is worth
/// anything any more; all others go where they went before.
fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !is_inside() {
                return before(info);
            }
            if !record(info) {
                before(info);
                eprintln!("the explorer itself is broken; this is no failure of a run");
                std::process::exit(BROKEN);
            }
        }));
    });
}

/// Notes a panic; false if it is the explorer's own: if what is allocated just now is not the run's.
fn record(info: &PanicHookInfo<'_>) -> bool {
    if !heap::enter(false) {
        return false;
    }
    // SAFETY: U2; the caller looked.
    let mut state = unsafe { &*STATE.get() }.borrow_mut();
    let message = info.payload_as_str().unwrap_or("a panic without words").to_owned();
    let place = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
    state.unwinding = true;
    set_failed(false);
    if state.failure.is_none() {
        state.failure = Some(Failure { kind: FailureKind::Broken, message, place });
    }
    drop(state);
    heap::enter(true);
    true
}

impl State {
    /// The actors of one act are gone; those of the next one come.
    fn next_act(&mut self, solo: bool) {
        self.solo = solo;
        SOLO.set(solo);
        self.actors.clear();
        for cpu in 0..self.cpus.len() {
            self.drain(cpu);
            self.cpus[cpu].vacate();
        }
        self.memory.reset();
        self.running = Agent::new(Kind::Actor, 0);
        self.decided = None;
    }

    fn actor_ends(&mut self, slot: usize) {
        let cpu = self.actors[slot].cpu;
        if self.failure.is_none() {
            self.may_sleep("a thread ends");
            let left = self.held(Agent::new(Kind::Actor, slot)).next().copied();
            if let Some(lock) = left {
                let message = format!("a thread ends, and holds {lock}");
                self.fail(FailureKind::LockRule, message, Some(lock.site));
            }
        }
        self.actors[slot].status = Status::Done;
        self.cpus[cpu].occupant = None;
    }
}
