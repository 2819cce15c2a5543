//! One run: who is where, who waits for what, and who is next.
//!
//! `next` says who is next, `wait` what waiting is, `words` and `locks` what is done to those.
//!
//! Flow:  a hook of the component -> [`State`] -> [`Chooser`] -> the same thread goes on, or another agent does.
//! Locks: none; everything belongs to one host thread, and is borrowed for one hook at a time.
//! Owns:  actors and CPUs, and all that was chosen.
//!
//! E1. Whatever depends on the schedule depends on nothing else: no time, no address, no order of a hash.
//! E2. A step is taken by the agent that was chosen for it, and every step of another agent in between is a choice.

mod locks;
mod next;
mod wait;
mod words;

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use rumpvm_platform::{Cell, LockUse, Op, Site, ThreadLocal, Witness};

use crate::explored::agent::{Agent, AgentSet, Kind};
use crate::explored::choice::{Chooser, Deviation, Next};
use crate::explored::coverage::{Coverage, Focus};
use crate::explored::memory::{Clock, Memory, Touched};
use crate::explored::order::LockOrder;
use crate::explored::outcome::{Failure, FailureKind, Line};
use crate::explored::settings::Settings;
use crate::hardware::Hardware;
use crate::machine::Upcalls;
use crate::tlb::Tlb;

/// Names of words in the arena begin here; those of the heap are below.
pub(in crate::explored) const ARENA: u64 = 1 << 40;

/// Moments after which a run has to be fair, and after which it is a livelock.
const PATIENCE: u32 = 30_000;

/// Steps after which a run is a livelock, even if nobody else wants the CPU: a hundred times what long ones take.
const ENDLESS: u64 = 4_000_000;

/// What an actor is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::explored) enum Status {
    /// It can go on.
    Ready,
    /// It waits on its CPU for a word to change. Its CPU serves flush requests meanwhile, or nothing.
    Waits { at: u64, serves: bool },
    /// It has given its CPU up until a wake-up names the word.
    Sleeps { at: u64, timed: bool },
    /// It has ended.
    Done,
}

pub(in crate::explored) struct Actor {
    pub(in crate::explored) name: String,
    pub(in crate::explored) cpu: usize,
    pub(in crate::explored) status: Status,
    /// It may be displaced: it runs user code.
    pub(in crate::explored) in_user: bool,
    /// Others have used its CPU since it last ran.
    pub(in crate::explored) displaced: bool,
    /// Locks that it has asked for and not got, the innermost last: who waits for a sleep lock takes its interlock on
    /// the way.
    pub(in crate::explored) wants: Vec<LockUse>,
    pub(in crate::explored) local: Box<ThreadLocal>,
    pub(in crate::explored) timed_out: bool,
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
pub(in crate::explored) struct Cpu {
    pub(in crate::explored) tlb: Tlb,
    pub(in crate::explored) masked: u32,
    /// Flush requests that have not arrived.
    pub(in crate::explored) flush: bool,
    /// The interrupt that is being handled, and whether it waits.
    pub(in crate::explored) handler: Option<(Agent, Status)>,
    /// Who runs on it.
    pub(in crate::explored) occupant: Option<usize>,
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
pub(in crate::explored) type Walk = fn(&Hardware, &mut Tlb, u64) -> Result<(), String>;

pub(in crate::explored) struct State {
    pub(in crate::explored) settings: Settings,
    pub(in crate::explored) hardware: Arc<Hardware>,
    pub(in crate::explored) cpus: Vec<Cpu>,
    pub(in crate::explored) actors: Vec<Actor>,
    /// Who executes.
    pub(in crate::explored) running: Agent,
    /// Who was chosen and has not begun.
    pub(in crate::explored) decided: Option<Agent>,
    pub(in crate::explored) chooser: Option<Box<dyn Chooser>>,
    /// Nobody but the stage's own actor runs: nothing to choose, nothing to note.
    pub(in crate::explored) solo: bool,
    pub(in crate::explored) upcalls: Option<Weak<dyn Upcalls>>,
    pub(in crate::explored) memory: Memory,
    touched: Touched,
    /// A word turned out to be shared after some of what passed through it had gone unnoticed.
    blind: bool,
    pub(in crate::explored) focus: Focus,
    pub(in crate::explored) coverage: Coverage,
    pub(in crate::explored) locks: LockOrder,
    pub(in crate::explored) failure: Option<Failure>,
    /// Those who rest between the halves of a step that was split.
    resting: AgentSet,
    /// A panic is on its way up: no step is a choice any more.
    pub(in crate::explored) unwinding: bool,
    pub(in crate::explored) schedule: Vec<Deviation>,
    pub(in crate::explored) steps: u64,
    pub(in crate::explored) moments: u32,
    pub(in crate::explored) hash: u64,
    pub(in crate::explored) class: u64,
    pub(in crate::explored) story: Option<Vec<Line>>,
    /// Walks as hardware does that looks ahead; knows the format.
    pub(in crate::explored) walk: Option<Walk>,
    /// Pages that user accesses named, for prefetches.
    pub(in crate::explored) accessed: Vec<u64>,
    met: [u32; Agent::COUNT],
    next: [Next; Agent::COUNT],
}

impl Cpu {
    /// Whoever was on it is gone.
    pub(in crate::explored) fn vacate(&mut self) {
        (self.occupant, self.last, self.handler) = (None, None, None);
        self.flow = Flow::default();
    }
}

impl State {
    pub(in crate::explored) fn new(settings: Settings, hardware: Arc<Hardware>) -> Self {
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
            resting: AgentSet::NONE,
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
    pub(in crate::explored) fn reset(&mut self, settings: Settings) {
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
        self.resting = AgentSet::NONE;
        self.unwinding = false;
        self.schedule.clear();
        (self.steps, self.moments, self.hash, self.class) = (0, 0, 0, 0);
        self.story = None;
        self.accessed.clear();
        self.met = [0; Agent::COUNT];
        self.next = [Next::default(); Agent::COUNT];
    }

    /// Adds an actor.
    pub(in crate::explored) fn add_actor(&mut self, cpu: usize, name: &str) -> usize {
        let number = self.actors.len();
        self.actors.push(Actor {
            name: name.to_owned(),
            cpu,
            status: Status::Ready,
            in_user: true,
            displaced: true,
            wants: Vec::new(),
            local: Box::new(ThreadLocal::new(number as u64 + 1)),
            timed_out: false,
            flow: Flow::default(),
        });
        number
    }

    /// The CPU of whoever executes.
    #[inline]
    pub(in crate::explored) fn cpu(&self) -> usize {
        self.cpu_of(self.running)
    }

    pub(in crate::explored) fn cpu_of(&self, agent: Agent) -> usize {
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
    pub(in crate::explored) fn local(&self) -> Option<NonNull<ThreadLocal>> {
        let number = match self.running.kind() {
            Kind::Actor => self.running.number(),
            _ => self.cpus[self.running.number()].occupant?,
        };
        Some(NonNull::from(&*self.actors[number].local))
    }

    /// Name of a word: the same in every run (E1).
    #[inline]
    pub(in crate::explored) fn name(&self, address: usize) -> u64 {
        if let Some(offset) = crate::explored::heap::offset(address) {
            return offset as u64 + 1;
        }
        match self.hardware.arena.offset(address) {
            Some(offset) => ARENA + offset as u64,
            None => crate::explored::run::stack_word(address)
                // A word of the program itself: its address may differ, but there is one of each.
                .unwrap_or((1 << 41) + (address as u64 & 0xfff)),
        }
    }

    /// Adds a line to the story, if one is told, about what may matter to everyone.
    pub(in crate::explored) fn tell(
        &mut self,
        agent: Agent,
        site: Option<Site>,
        what: impl FnOnce(&Self) -> String,
    ) {
        self.tell_step(agent, site, Next::default(), what);
    }

    /// Adds a line to the story, if one is told, about a step on a word.
    pub(in crate::explored) fn tell_step(
        &mut self,
        agent: Agent,
        site: Option<Site>,
        on: Next,
        what: impl FnOnce(&Self) -> String,
    ) {
        if self.story.is_none() || self.solo {
            return;
        }
        let cpu = self.cpu_of(agent);
        let held = self.held(agent).map(|lock| lock.class.name.to_owned()).collect();
        let function = site.and_then(|_| crate::explored::story::function());
        let inner = on.at != 0 && self.flow_of(agent).quiet > 0 && !self.settings.fine;
        let who = match agent.kind() {
            Kind::Actor => self.actors[agent.number()].name.clone(),
            kind => kind.name().to_owned(),
        };
        let line = Line { agent, who, cpu, what: what(self), on, site, function, held, inner };
        if let Some(story) = &mut self.story {
            story.push(line);
        }
    }

    /// Takes `what` into the number that stands for the run.
    #[inline]
    fn mix(&mut self, what: u64) {
        self.hash = (self.hash.rotate_left(5) ^ what).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// What belongs to whatever an agent executes.
    fn flow_of(&self, agent: Agent) -> &Flow {
        match agent.kind() {
            Kind::Actor | Kind::Timeout => &self.actors[agent.number()].flow,
            _ => &self.cpus[agent.number()].flow,
        }
    }

    /// Locks that an agent holds.
    pub(in crate::explored) fn held(&self, agent: Agent) -> impl Iterator<Item = &LockUse> {
        self.flow_of(agent).witness.held()
    }

    pub(in crate::explored) fn fail(
        &mut self,
        kind: FailureKind,
        message: String,
        site: Option<Site>,
    ) {
        let place = site.map(|site| format!("{}:{}", site.file(), site.line()));
        if self.failure.is_none() {
            self.failure = Some(Failure { kind, message, place });
            crate::explored::run::set_failed(!self.unwinding);
        }
    }

    fn race(&mut self, key: u64, op: Op, site: Site, race: &crate::explored::memory::Race) {
        if self.blind {
            return;
        }
        let verb = if op.writes() { "writes" } else { "reads" };
        let other = race.site.map_or_else(|| "a plain load".to_owned(), |site| site.to_string());
        let message = format!(
            "{} is touched without an order: CPU {} {verb} it at {site}, CPU {} did at {other}",
            crate::explored::story::word(self, key),
            self.cpu(),
            race.cpu,
        );
        self.fail(FailureKind::Race, message, Some(site));
    }
}
