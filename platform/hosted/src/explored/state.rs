//! One run: who is where, who waits for what, and who is next.
//!
//! Flow:  a hook of the component -> [`State`] -> [`Chooser`] -> the same thread goes on, or another agent does.
//! Locks: none; everything belongs to one host thread, and is borrowed for one hook at a time.
//! Owns:  actors and CPUs, and all that was chosen.
//!
//! E1. Whatever depends on the schedule depends on nothing else: no time, no address, no order of a hash.
//! E2. A step is taken by the agent that was chosen for it, and every step of another agent in between is a choice.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use rumpvm_platform::{Cell, LockClass, LockKind, LockUse, Op, Site, ThreadLocal, Witness};

use super::agent::{Agent, AgentSet, Kind, MOST};
use super::choice::{self, Chance, Choice, Chooser, Deviation, Moment, Next};
use super::coverage::{Coverage, Focus};
use super::memory::{Clock, Memory, Touched, perform};
use super::order::LockOrder;
use super::outcome::{Failure, FailureKind, Line};
use super::settings::{Flaw, Mutation, Settings};
use crate::hardware::Hardware;
use crate::machine::Upcalls;
use crate::tlb::Tlb;

/// Names of words in the arena begin here; those of the heap are below.
pub(super) const ARENA: u64 = 1 << 40;

/// Moments after which a run has to be fair, and after which it is a livelock.
const PATIENCE: u32 = 30_000;

/// Steps after which a run is a livelock, even if nobody else wants the CPU: a hundred times what long ones take.
const ENDLESS: u64 = 4_000_000;

/// What an actor is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    /// It can go on.
    Ready,
    /// It waits on its CPU for a word to change. Its CPU serves flush requests meanwhile, or nothing.
    Waits { at: u64, serves: bool },
    /// It has given its CPU up until a wake-up names the word.
    Sleeps { at: u64, timed: bool },
    /// It has ended.
    Done,
}

pub(super) struct Actor {
    pub(super) name: String,
    pub(super) cpu: usize,
    pub(super) status: Status,
    /// It may be displaced: it runs user code.
    pub(super) in_user: bool,
    /// Others have used its CPU since it last ran.
    pub(super) displaced: bool,
    /// Of the lock that it waits for.
    pub(super) wants: Option<LockUse>,
    pub(super) local: Box<ThreadLocal>,
    pub(super) timed_out: bool,
    flow: Flow,
}

/// What belongs to whatever executes: an actor, or the handler of an interrupt.
#[derive(Default)]
struct Flow {
    /// Locks held.
    witness: Witness,
    /// Depth of lock functions: their own words are no points.
    quiet: u32,
    /// The spin lock whose words are changing: between its two steps interrupts stay masked.
    moving: Option<LockUse>,
    /// The next step was chosen already, when the wait before it ended.
    is_chosen: bool,
}

#[derive(Default)]
pub(super) struct Cpu {
    pub(super) tlb: Tlb,
    pub(super) masked: u32,
    /// Flush requests that have not arrived.
    pub(super) flush: bool,
    /// The interrupt that is being handled, and whether it waits.
    pub(super) handler: Option<(Agent, Status)>,
    /// Who runs on it.
    pub(super) occupant: Option<usize>,
    last: Option<usize>,
    ticks: u8,
    prefetches: u8,
    /// Stores held back, oldest first.
    buffer: VecDeque<Held>,
    flow: Flow,
}

/// A store that its CPU holds back.
struct Held {
    cell: Cell,
    key: u64,
    value: u64,
    carries: Clock,
}

/// Timer ticks and prefetches of each CPU in a run: more teach nothing, and hide the rest.
const INTERFERENCE: u8 = 2;

/// A walk for a page, ahead of any access: what is broken, if anything is.
pub(super) type Walk = fn(&Hardware, &mut Tlb, u64) -> Result<(), String>;

pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) hardware: Arc<Hardware>,
    pub(super) cpus: Vec<Cpu>,
    pub(super) actors: Vec<Actor>,
    /// Who executes.
    pub(super) running: Agent,
    /// Who was chosen and has not begun.
    pub(super) decided: Option<Agent>,
    pub(super) chooser: Option<Box<dyn Chooser>>,
    /// Nobody but the stage's own actor runs: nothing to choose, nothing to note.
    pub(super) solo: bool,
    pub(super) upcalls: Option<Weak<dyn Upcalls>>,
    pub(super) memory: Memory,
    touched: Touched,
    /// A word turned out to be shared after some of what passed through it had gone unnoticed.
    blind: bool,
    pub(super) focus: Focus,
    pub(super) coverage: Coverage,
    pub(super) locks: LockOrder,
    pub(super) failure: Option<Failure>,
    /// A panic is on its way up: no step is a choice any more.
    pub(super) unwinding: bool,
    pub(super) schedule: Vec<Deviation>,
    pub(super) steps: u64,
    pub(super) moments: u32,
    pub(super) hash: u64,
    pub(super) class: u64,
    pub(super) story: Option<Vec<Line>>,
    /// Walks as hardware does that looks ahead; knows the format.
    pub(super) walk: Option<Walk>,
    /// Pages that user accesses named, for prefetches.
    pub(super) accessed: Vec<u64>,
    met: [u32; Agent::COUNT],
    next: [Next; Agent::COUNT],
}

impl Cpu {
    /// Whoever was on it is gone.
    pub(super) fn vacate(&mut self) {
        (self.occupant, self.last, self.handler) = (None, None, None);
        self.flow = Flow::default();
    }
}

impl State {
    pub(super) fn new(settings: Settings, hardware: Arc<Hardware>) -> Self {
        Self {
            cpus: (0..settings.cpus).map(|_| Cpu::default()).collect(),
            settings,
            hardware,
            actors: Vec::new(),
            running: Agent::new(Kind::Actor, 0),
            decided: None,
            chooser: None,
            solo: true,
            upcalls: None,
            memory: Memory::new(),
            touched: Touched::new(),
            blind: false,
            focus: Focus::new(),
            coverage: Coverage::default(),
            locks: LockOrder::default(),
            failure: None,
            unwinding: false,
            schedule: Vec::new(),
            steps: 0,
            moments: 0,
            hash: 0,
            class: 0,
            story: None,
            walk: None,
            accessed: Vec::new(),
            met: [0; Agent::COUNT],
            next: [Next::default(); Agent::COUNT],
        }
    }

    /// Begins a run.
    pub(super) fn reset(&mut self, settings: Settings) {
        self.cpus.clear();
        self.cpus.resize_with(settings.cpus, Cpu::default);
        self.settings = settings;
        self.actors.clear();
        self.running = Agent::new(Kind::Actor, 0);
        self.decided = None;
        self.solo = true;
        self.upcalls = None;
        self.memory.reset();
        self.touched.reset();
        self.blind = false;
        self.locks.reset();
        self.failure = None;
        self.unwinding = false;
        self.schedule.clear();
        (self.steps, self.moments, self.hash, self.class) = (0, 0, 0, 0);
        self.story = None;
        self.accessed.clear();
        self.met = [0; Agent::COUNT];
        self.next = [Next::default(); Agent::COUNT];
    }

    /// Adds an actor.
    pub(super) fn add_actor(&mut self, cpu: usize, name: &str) -> usize {
        let number = self.actors.len();
        self.actors.push(Actor {
            name: name.to_owned(),
            cpu,
            status: Status::Ready,
            in_user: true,
            displaced: true,
            wants: None,
            local: Box::new(ThreadLocal::new(number as u64 + 1)),
            timed_out: false,
            flow: Flow::default(),
        });
        number
    }

    /// The CPU of whoever executes.
    #[inline]
    pub(super) fn cpu(&self) -> usize {
        self.cpu_of(self.running)
    }

    pub(super) fn cpu_of(&self, agent: Agent) -> usize {
        match agent.kind() {
            Kind::Actor | Kind::Timeout => self.actors[agent.number()].cpu,
            _ => agent.number(),
        }
    }

    fn flow(&mut self) -> &mut Flow {
        match self.running.kind() {
            Kind::Actor => &mut self.actors[self.running.number()].flow,
            _ => &mut self.cpus[self.running.number()].flow,
        }
    }

    /// What the running thread, or the interrupted one, keeps for the component.
    pub(super) fn local(&self) -> Option<NonNull<ThreadLocal>> {
        let number = match self.running.kind() {
            Kind::Actor => self.running.number(),
            _ => self.cpus[self.running.number()].occupant?,
        };
        Some(NonNull::from(&*self.actors[number].local))
    }

    /// Name of a word: the same in every run (E1).
    #[inline]
    pub(super) fn name(&self, address: usize) -> u64 {
        if let Some(offset) = super::heap::offset(address) {
            return offset as u64 + 1;
        }
        match self.hardware.arena.offset(address) {
            Some(offset) => ARENA + offset as u64,
            None => super::run::stack_word(address)
                // A word of the program itself: its address may differ, but there is one of each.
                .unwrap_or((1 << 41) + (address as u64 & 0xfff)),
        }
    }

    // ---- who is next ----

    /// The running flow is about to do `next`. Whether it may go on at once; otherwise somebody else was
    /// decided upon, and it must be suspended.
    #[inline]
    pub(super) fn arrive(&mut self, next: Next) -> bool {
        if self.solo || self.failure.is_some() {
            return true;
        }
        let fine = self.settings.fine;
        let flow = self.flow();
        if std::mem::take(&mut flow.is_chosen) || (flow.quiet > 0 && !fine) {
            return true;
        }
        let running = self.running;
        if !self.focus.has(next.at) {
            // Counted all the same: a schedule means the same whatever is known to be shared.
            self.meets(running);
            return true;
        }
        self.next[running.index()] = next;
        self.decide() == Some(running)
    }

    /// Between the halves of a step on the word at `address` that was split: a point whatever else is known of
    /// the word. Whether the running flow may go on at once.
    pub(super) fn arrive_between(&mut self, address: usize) -> bool {
        if self.solo || self.failure.is_some() {
            return true;
        }
        let running = self.running;
        self.next[running.index()] = Next { at: self.name(address), writes: true };
        self.decide() == Some(running)
    }

    /// Chooses who is next, and carries out the steps of those who need no coroutine.
    pub(super) fn decide(&mut self) -> Option<Agent> {
        loop {
            let enabled = self.enabled();
            if enabled.ordinary().is_empty() {
                self.stuck();
                self.decided = None;
                return None;
            }
            let chosen = if enabled.count() == 1 || self.solo {
                self.meets(self.running);
                choice::default(self.running, enabled)?
            } else {
                self.choose(enabled)
            };
            match chosen.kind() {
                Kind::Drain => self.drain_one(chosen.number()),
                Kind::Timeout => {
                    let actor = &mut self.actors[chosen.number()];
                    (actor.status, actor.timed_out) = (Status::Ready, true);
                }
                Kind::Prefetch => {
                    self.cpus[chosen.number()].prefetches += 1;
                    self.prefetch(chosen.number());
                }
                Kind::Actor | Kind::Flush | Kind::Tick | Kind::Handler => {
                    self.decided = Some(chosen);
                    return Some(chosen);
                }
            }
            if self.failure.is_some() {
                self.decided = None;
                return None;
            }
        }
    }

    fn choose(&mut self, enabled: AgentSet) -> Agent {
        self.moments += 1;
        let running = self.running;
        let ordinary = choice::default(running, enabled).expect("somebody is enabled");
        if self.moments > PATIENCE {
            if self.moments > 2 * PATIENCE {
                let message = format!("{} moments, and nobody arrives", self.moments);
                self.fail(FailureKind::Livelock, message, None);
            }
            // Round and round, so that whoever only waits for his turn gets it.
            let after = enabled.ordinary().iter().find(|agent| agent.index() > running.index());
            return after.or(enabled.ordinary().first()).unwrap_or(ordinary);
        }
        let (number, nth) = (self.moments, self.meets(running));
        let moment = Moment { current: running, enabled, next: &self.next, number, nth };
        let chosen = self.chooser.as_mut().map_or(ordinary, |chooser| chooser.next(&moment));
        debug_assert!(enabled.contains(chosen));
        if chosen != ordinary {
            self.schedule.push(Deviation { agent: running, nth, choice: Choice::Next(chosen) });
        }
        chosen
    }

    fn meets(&mut self, agent: Agent) -> u32 {
        let met = &mut self.met[agent.index()];
        *met += 1;
        *met
    }

    /// Whether `what` happens to the running agent now.
    pub(super) fn takes(&mut self, what: Chance) -> bool {
        if self.solo || self.failure.is_some() || !self.settings.chances.contain(what) {
            return false;
        }
        let running = self.running;
        let nth = self.meets(running);
        let taken = self.chooser.as_mut().is_some_and(|chooser| chooser.takes(what, running, nth));
        if taken {
            self.schedule.push(Deviation { agent: running, nth, choice: Choice::Takes(what) });
        }
        taken
    }

    fn enabled(&self) -> AgentSet {
        let mut enabled = AgentSet::default();
        for (number, actor) in self.actors.iter().enumerate() {
            match actor.status {
                Status::Ready if self.may_run(number, actor) => {
                    enabled.insert(Agent::new(Kind::Actor, number));
                }
                Status::Sleeps { timed: true, .. } => {
                    enabled.insert(Agent::new(Kind::Timeout, number));
                }
                _ => {}
            }
        }
        for (number, cpu) in self.cpus.iter().enumerate() {
            match cpu.handler {
                Some((handler, Status::Ready)) => enabled.insert(handler),
                Some(_) => {}
                None => self.interrupts(number, cpu, &mut enabled),
            }
            if !cpu.buffer.is_empty() {
                enabled.insert(Agent::new(Kind::Drain, number));
            }
            if self.settings.prefetch && cpu.prefetches < INTERFERENCE && cpu.tlb.root().is_some() {
                enabled.insert(Agent::new(Kind::Prefetch, number));
            }
        }
        enabled
    }

    /// Whether the CPU of a ready actor is his to run on.
    fn may_run(&self, number: usize, actor: &Actor) -> bool {
        let cpu = &self.cpus[actor.cpu];
        if cpu.handler.is_some() {
            return false;
        }
        match cpu.occupant {
            None => true,
            Some(occupant) if occupant == number => true,
            Some(occupant) => {
                let other = &self.actors[occupant];
                other.in_user && other.status == Status::Ready && cpu.masked == 0
            }
        }
    }

    /// Interrupts that CPU `number` would take now.
    fn interrupts(&self, number: usize, cpu: &Cpu, enabled: &mut AgentSet) {
        let waits = |serves: bool| match cpu.occupant.map(|actor| self.actors[actor].status) {
            Some(Status::Waits { serves: does, .. }) => serves == does,
            _ => false,
        };
        let open = cpu.masked == 0 && !waits(false);
        if cpu.flush && (open || waits(true)) {
            enabled.insert(Agent::new(Kind::Flush, number));
        }
        if self.settings.ticks
            && cpu.masked == 0
            && cpu.ticks < INTERFERENCE
            && cpu.occupant.is_some()
        {
            enabled.insert(Agent::new(Kind::Tick, number));
        }
    }

    /// Nobody can go on: the end, or a deadlock.
    fn stuck(&mut self) {
        let over = |actor: &Actor| actor.status == Status::Done;
        if self.failure.is_none() && !self.actors.iter().all(over) {
            let message = super::deadlock::story(self);
            self.fail(FailureKind::Deadlock, message, None);
        }
    }

    /// Puts `agent` on its CPU; whether an interrupt begins with it.
    pub(super) fn enter(&mut self, agent: Agent) -> bool {
        let number = agent.number();
        self.decided = None;
        let before = self.cpu();
        self.running = agent;
        match agent.kind() {
            Kind::Actor => {
                let cpu = &mut self.cpus[self.actors[number].cpu];
                if cpu.last.replace(number) != Some(number) {
                    self.actors[number].displaced = true;
                }
                cpu.occupant = Some(number);
                self.actors[number].in_user = false;
                false
            }
            _ if self.cpus[number].handler.is_some() => false,
            kind => {
                let cpu = &mut self.cpus[number];
                cpu.flow = Flow::default();
                if kind == Kind::Flush {
                    cpu.flush = false;
                } else {
                    // What is left of a tick is no interference: it has to go on.
                    self.running = Agent::new(Kind::Handler, number);
                    cpu.ticks += 1;
                }
                cpu.handler = Some((self.running, Status::Ready));
                self.memory.pass(before, number);
                true
            }
        }
    }

    /// The handler of CPU `number` has returned.
    pub(super) fn leave_handler(&mut self, number: usize) {
        self.cpus[number].handler = None;
        if self.solo {
            // Steps wake nobody then: whoever waited for this one looks again.
            let waits = |actor: &&mut Actor| matches!(actor.status, Status::Waits { .. });
            self.actors.iter_mut().filter(waits).for_each(|actor| actor.status = Status::Ready);
        }
        if let Some(occupant) = self.cpus[number].occupant {
            self.running = Agent::new(Kind::Actor, occupant);
        }
    }

    // ---- waits ----

    /// The running flow waits for `at` to change.
    /// Whether somebody else is next.
    pub(super) fn wait(&mut self, at: u64, serves: bool) -> bool {
        let running = self.running;
        let status = Status::Waits { at, serves };
        self.set_status(running, status);
        if at == 0 {
            // It cannot say for what: its turn is over, that is all.
            self.set_status(running, Status::Ready);
        } else {
            self.memory.word(at).waiters.insert(running);
        }
        self.next[running.index()] = Next { at, writes: false };
        self.flow().is_chosen = at != 0;
        self.decide() != Some(running)
    }

    /// The running actor gives up its CPU, and can go on at once. Whether it does.
    pub(super) fn gives_up(&mut self) -> bool {
        let running = self.running;
        let cpu = self.cpu();
        self.cpus[cpu].occupant = None;
        self.next[running.index()] = Next::default();
        if self.decide() == Some(running) {
            self.enter(running);
            return true;
        }
        false
    }

    /// The running actor is in user code, or in the kernel.
    pub(super) fn set_in_user(&mut self, is_in: bool) {
        if self.running.kind() == Kind::Actor {
            let number = self.running.number();
            self.actors[number].in_user = is_in;
        }
    }

    /// A user access names `page`.
    pub(super) fn notes_access(&mut self, page: u64) {
        if self.settings.prefetch && self.accessed.len() < 16 && !self.accessed.contains(&page) {
            self.accessed.push(page);
        }
    }

    /// CPU `number` walks for an address that somebody used, ahead of any access of its own.
    fn prefetch(&mut self, number: usize) {
        let Some(walk) = self.walk else { return };
        let Some(page) = self.accessed.get(self.moments as usize % self.accessed.len().max(1))
        else {
            return;
        };
        let hardware = Arc::clone(&self.hardware);
        let page = *page;
        if let Err(story) = walk(&hardware, &mut self.cpus[number].tlb, page) {
            self.fail(FailureKind::Broken, format!("CPU {number} looks ahead: {story}"), None);
        }
    }

    pub(super) fn set_status(&mut self, agent: Agent, status: Status) {
        match agent.kind() {
            Kind::Actor => self.actors[agent.number()].status = status,
            _ => {
                if let Some((_, old)) = &mut self.cpus[agent.number()].handler {
                    *old = status;
                }
            }
        }
    }

    /// The running actor sleeps on `at`; its CPU is free.
    pub(super) fn sleep(&mut self, at: u64, timed: bool) {
        let number = self.running.number();
        let cpu = self.actors[number].cpu;
        self.set_status(self.running, Status::Sleeps { at, timed });
        self.cpus[cpu].occupant = None;
        self.next[self.running.index()] = Next { at, writes: false };
        self.actors[number].flow.is_chosen = true;
        self.decide();
    }

    /// Wakes those who sleep on `at`.
    pub(super) fn wake(&mut self, at: u64) {
        let from = self.cpu();
        for number in 0..self.actors.len() {
            if matches!(self.actors[number].status, Status::Sleeps { at: word, .. } if word == at) {
                self.actors[number].status = Status::Ready;
                let to = self.actors[number].cpu;
                self.memory.pass(from, to);
            }
        }
    }

    // ---- flaws put in at run time ----

    /// Whether this run has `flaw` at `site`.
    #[inline]
    pub(super) fn has(&self, flaw: Flaw, site: Site) -> bool {
        self.settings.mutation.is_some_and(|put_in| put_in.flaw == flaw && put_in.hits(site))
    }

    /// Notes that `flaw` could be put in at `site`, in a step on the word `key` if it is one on a word.
    #[inline]
    pub(super) fn survey(&mut self, flaw: Flaw, site: Site, key: Option<u64>) {
        if self.settings.survey && !self.solo {
            let shared = key.is_none_or(|key| self.memory.word(key).is_shared());
            self.coverage.place(Mutation { site, flaw }, shared);
        }
    }

    // ---- words ----

    /// Carries out one step of the running flow.
    #[inline]
    pub(super) fn execute(&mut self, cell: Cell, op: Op, order: Order, site: Site) -> u64 {
        let cpu = self.cpu();
        let key = self.name(cell.address);
        if !self.focus.has(key) && self.is_alone(key, cpu, op) {
            self.steps += 1;
            // SAFETY: the component's promise (`Seam::carry_out`).
            return unsafe { perform(cell, op) };
        }
        self.note(key, op, site);
        if op.is_rmw() || (op.writes() && order == Order::SeqCst) {
            self.drain(cpu);
        }
        if !op.writes() || op.is_rmw() {
            let plain = op == Op::Get;
            if let Some(race) = self.memory.loads(cpu, key, order, plain) {
                self.race(key, op, site, &race);
            }
        }
        if !op.writes() {
            let held = self.cpus[cpu].buffer.iter().rev().find(|held| held.cell == cell);
            // SAFETY: the component's promise (`Seam::carry_out`).
            return held.map_or_else(|| unsafe { perform(cell, op) }, |held| held.value);
        }
        if op.is_rmw() {
            self.survey(Flaw::SplitRmw, site, Some(key));
        } else {
            self.survey(Flaw::DropStore, site, Some(key));
            if self.has(Flaw::DropStore, site) {
                return 0;
            }
        }
        let (carries, race) = self.memory.stores(cpu, key, op, order, site);
        if let Some(race) = race {
            self.race(key, op, site, &race);
        }
        if let (Op::Store(value) | Op::Set(value), false) = (op, order == Order::SeqCst)
            && self.settings.tso
            && (!self.cpus[cpu].buffer.is_empty() || self.takes(Chance::Delay))
        {
            self.cpus[cpu].buffer.push_back(Held { cell, key, value, carries });
            return 0;
        }
        // SAFETY: as above.
        let old = unsafe { perform(cell, op) };
        self.land(key, carries);
        old
    }

    /// Whether this is a step on a word that nobody else cares for, by a CPU that holds no store back: then
    /// nothing has to be known of it but who made it.
    #[inline]
    fn is_alone(&mut self, key: u64, cpu: usize, op: Op) -> bool {
        let who = self.who();
        if !self.touched.is_private(key, who, op.writes()) {
            // What passed through the word before is not known: no word can be called a race from here on.
            self.blind = true;
            self.focus.learn(key);
            return false;
        }
        self.cpus[cpu].buffer.is_empty()
            && (op.is_rmw() || !self.settings.tso || !op.writes())
            && self.story.is_none()
    }

    /// The running agent among those that touch words: actors, then the handlers of CPUs.
    #[inline]
    fn who(&self) -> u32 {
        let number = self.running.number();
        (if self.running.kind() == Kind::Actor { number } else { MOST + number }) as u32
    }

    /// Makes what a store carries known, and those ready who wait for the word.
    fn land(&mut self, key: u64, carries: Clock) {
        for waiter in self.memory.lands(key, carries).iter() {
            self.set_status(waiter, Status::Ready);
        }
    }

    /// Lets the oldest store that `cpu` holds back reach memory.
    fn drain_one(&mut self, cpu: usize) {
        if let Some(Held { cell, key, value, carries }) = self.cpus[cpu].buffer.pop_front() {
            self.tell(Agent::new(Kind::Drain, cpu), None, || {
                format!("the store to {key:#x} lands")
            });
            // SAFETY: the word was alive when the store was made, and its CPU lets stores land before it frees
            // anything (`Seam` hooks, and the heap's).
            unsafe { perform(cell, Op::Store(value)) };
            self.land(key, carries);
        }
    }

    /// Lets all stores that `cpu` holds back reach memory.
    #[inline]
    pub(super) fn drain(&mut self, cpu: usize) {
        while !self.cpus[cpu].buffer.is_empty() {
            self.drain_one(cpu);
        }
    }

    /// Passes a full fence on `cpu`.
    pub(super) fn fence(&mut self, cpu: usize) {
        self.drain(cpu);
        self.memory.fence(cpu);
    }

    /// Notes a step, for the hash, the coverage and the story.
    #[inline]
    fn note(&mut self, key: u64, op: Op, site: Site) {
        self.steps += 1;
        if self.steps == ENDLESS {
            let message = format!("{ENDLESS} steps, and nobody arrives");
            self.fail(FailureKind::Livelock, message, Some(site));
        }
        let running = self.running;
        let line = u64::from(site.line()) << 8 | u64::from(site.column());
        let mix = key ^ line << 20 ^ (running.index() as u64) << 58;
        self.hash = (self.hash.rotate_left(5) ^ mix).wrapping_mul(0x517c_c1b7_2722_0a95);
        let who = self.who() as usize;
        if self.memory.touch(key, who as u32, op.writes()) {
            self.focus.learn(key);
            self.saw(Next { at: key, writes: op.writes() });
            let word = self.memory.word(key);
            let old = word.history;
            word.history = (old.rotate_left(7) ^ line ^ (who as u64) << 48)
                .wrapping_mul(0x2127_599b_f432_5c37);
            self.class = self.class.wrapping_add(word.history).wrapping_sub(old);
            let last = (word.last, word.last_site);
            (word.last, word.last_site) = (who as u8, Some(site));
            if usize::from(last.0) != who
                && let Some(before) = last.1
            {
                self.coverage.pair(before, site);
            }
        } else {
            let word = self.memory.word(key);
            (word.last, word.last_site) = (who as u8, Some(site));
        }
        if self.story.is_some() {
            let what = super::story::step(self, key, op);
            self.tell(running, Some(site), || what);
        }
    }

    /// Tells the chooser of a step of the running agent.
    fn saw(&mut self, step: Next) {
        let running = self.running;
        if let Some(chooser) = &mut self.chooser {
            chooser.saw(running, step);
        }
    }

    /// Adds a line to the story, if one is told.
    pub(super) fn tell(&mut self, agent: Agent, site: Option<Site>, what: impl FnOnce() -> String) {
        if self.story.is_none() || self.solo {
            return;
        }
        let cpu = self.cpu_of(agent);
        let held = self.held(agent).map(|lock| lock.class.name.to_owned()).collect();
        let function = site.and_then(|_| super::story::function());
        let line = Line { agent, cpu, what: what(), site, function, held };
        if let Some(story) = &mut self.story {
            story.push(line);
        }
    }

    /// Locks that an agent holds.
    pub(super) fn held(&self, agent: Agent) -> impl Iterator<Item = &LockUse> {
        let flow = match agent.kind() {
            Kind::Actor | Kind::Timeout => &self.actors[agent.number()].flow,
            _ => &self.cpus[agent.number()].flow,
        };
        flow.witness.held()
    }

    // ---- locks ----

    /// The running flow is about to wait for `lock`, or to try it.
    pub(super) fn lock_begins(&mut self, lock: &LockUse, waits: bool) {
        if waits {
            let told = self.flow().witness.step(rumpvm_platform::LockStep::Want, lock);
            if let Err(violation) = told {
                self.fail(FailureKind::LockRule, violation.to_string(), Some(lock.site));
            }
            let name = self.name(lock.address);
            let held: Vec<(u64, &'static LockClass)> =
                self.held(self.running).map(|held| (self.name(held.address), held.class)).collect();
            if let Some(cycle) = self.locks.wants(&held, (name, lock)) {
                self.fail(FailureKind::LockRule, cycle, Some(lock.site));
            }
        }
        self.saw(Next { at: self.name(lock.address), writes: true });
        self.begins(lock);
        if self.running.kind() == Kind::Actor {
            self.actors[self.running.number()].wants = waits.then_some(*lock);
        }
    }

    /// A lock was taken, or not; or it was released.
    pub(super) fn lock_ends(&mut self, step: rumpvm_platform::LockStep, lock: &LockUse) {
        let told = self.flow().witness.step(step, lock);
        if let Err(violation) = told {
            self.fail(FailureKind::LockRule, violation.to_string(), Some(lock.site));
        }
        if step == rumpvm_platform::LockStep::Taken
            && let Some(other) = self.other_holder(lock)
        {
            let message = format!("{lock} is taken, and held already: {other}");
            self.fail(FailureKind::LockRule, message, Some(lock.site));
        }
        if self.running.kind() == Kind::Actor {
            self.actors[self.running.number()].wants = None;
        }
        let flow = self.flow();
        flow.quiet = flow.quiet.saturating_sub(1);
        flow.moving = None;
        if self.story.is_some() {
            let what = format!("{step:?} {}", super::story::lock(self, lock)).to_lowercase();
            self.tell(self.running, Some(lock.site), || what);
        }
    }

    /// How another flow holds `lock`, when neither of the two shares it. Tokens come and go while their holder
    /// blocks.
    fn other_holder(&self, lock: &LockUse) -> Option<LockUse> {
        if lock.shared || lock.class.kind == LockKind::Token {
            return None;
        }
        let (kind, number) = (self.running.kind(), self.running.number());
        let actors = self.actors.iter().enumerate();
        let actors = actors.filter(|(at, _)| kind != Kind::Actor || *at != number);
        let cpus = self.cpus.iter().enumerate();
        let cpus = cpus.filter(|(at, _)| kind == Kind::Actor || *at != number);
        let flows = actors.map(|(_, actor)| &actor.flow).chain(cpus.map(|(_, cpu)| &cpu.flow));
        let mut held = flows.flat_map(|flow| flow.witness.held());
        held.find(|other| other.address == lock.address && !other.shared).copied()
    }

    /// A lock is about to be released.
    pub(super) fn unlock_begins(&mut self, lock: &LockUse) {
        let told = self.flow().witness.step(rumpvm_platform::LockStep::Free, lock);
        if let Err(violation) = told {
            self.fail(FailureKind::LockRule, violation.to_string(), Some(lock.site));
        }
        self.saw(Next { at: self.name(lock.address), writes: true });
        self.begins(lock);
    }

    fn begins(&mut self, lock: &LockUse) {
        let flow = self.flow();
        flow.quiet += 1;
        flow.moving = (lock.class.kind == LockKind::Spin).then_some(*lock);
    }

    /// Checks that the running thread may give up its CPU.
    pub(super) fn may_sleep(&mut self, what: &str) {
        if let Err(violation) = self.flow().witness.may_sleep() {
            self.fail(FailureKind::Context, violation.to_string(), None);
        }
        let cpu = self.cpu();
        if self.cpus[cpu].masked > 0 {
            let message = format!("{what} with interrupts masked on CPU {cpu}");
            self.fail(FailureKind::Context, message, None);
        }
        if self.running.kind() != Kind::Actor {
            self.fail(FailureKind::Context, format!("{what} in an interrupt"), None);
        }
    }

    /// A timer tick has come in: nothing may be held that interrupts must not find held.
    pub(super) fn tick(&mut self, number: usize) {
        let Some(occupant) = self.cpus[number].occupant else { return };
        let spin = |lock: &&LockUse| lock.class.kind == LockKind::Spin;
        let found = self.held(Agent::new(Kind::Actor, occupant)).find(spin).copied();
        if let Some(lock) = found {
            let message = format!("a timer tick comes in while CPU {number} holds {lock}");
            self.fail(FailureKind::Context, message, Some(lock.site));
        }
        if let Some(lock) = self.actors[occupant].flow.moving {
            let message =
                format!("a timer tick comes in while CPU {number} is taking or releasing {lock}");
            self.fail(FailureKind::Context, message, Some(lock.site));
        }
    }

    // ---- the end ----

    pub(super) fn fail(&mut self, kind: FailureKind, message: String, site: Option<Site>) {
        let place = site.map(|site| format!("{}:{}", site.file(), site.line()));
        if self.failure.is_none() {
            self.failure = Some(Failure { kind, message, place });
            super::run::set_failed(!self.unwinding);
        }
    }

    fn race(&mut self, key: u64, op: Op, site: Site, race: &super::memory::Race) {
        if self.blind {
            return;
        }
        let verb = if op.writes() { "writes" } else { "reads" };
        let other = race.site.map_or_else(|| "a plain load".to_owned(), |site| site.to_string());
        let message = format!(
            "{} is touched without an order: CPU {} {verb} it at {site}, CPU {} did at {other}",
            super::story::word(self, key),
            self.cpu(),
            race.cpu,
        );
        self.fail(FailureKind::Race, message, Some(site));
    }
}

pub(super) use std::sync::atomic::Ordering as Order;
