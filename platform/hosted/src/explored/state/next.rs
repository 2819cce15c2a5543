//! Who is next: who could be, who is chosen, and who then runs where.

use rumpvm_platform::Site;

use super::{Actor, Cpu, Flow, INTERFERENCE, PATIENCE, State, Status};
use crate::explored::agent::{Agent, AgentSet, Kind};
use crate::explored::choice::{self, Chance, Choice, Deviation, Moment, Next};
use crate::explored::deadlock;
use crate::explored::outcome::FailureKind;

impl State {
    /// The running flow is about to do `next`. Whether it may go on at once; otherwise somebody else was
    /// decided upon, and it must be suspended.
    #[inline]
    pub(in crate::explored) fn arrive(&mut self, next: Next) -> bool {
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
    pub(in crate::explored) fn arrive_between(&mut self, address: usize) -> bool {
        if self.solo || self.failure.is_some() {
            return true;
        }
        let running = self.running;
        self.next[running.index()] = Next { at: self.name(address), writes: true };
        self.decide() == Some(running)
    }

    /// As [`State::arrive_between`]. A split between whose halves nothing happens is no flaw: so the running flow may
    /// rest here until nobody else can go on.
    pub(in crate::explored) fn rest_between(&mut self, address: usize) -> bool {
        if self.takes(Chance::Rest, None) {
            self.resting.insert(self.running);
        }
        self.arrive_between(address)
    }

    /// The running flow rests no more.
    pub(in crate::explored) fn goes_on(&mut self) {
        self.resting.remove(self.running);
    }

    /// Chooses who is next, and carries out the steps of those who need no coroutine.
    pub(in crate::explored) fn decide(&mut self) -> Option<Agent> {
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
                    self.tell(chosen, None, |state| {
                        format!("of {} passes", state.actors[chosen.number()].name)
                    });
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

    pub(super) fn choose(&mut self, enabled: AgentSet) -> Agent {
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
            self.deviates(Deviation { agent: running, nth, choice: Choice::Next(chosen) });
        }
        chosen
    }

    pub(super) fn meets(&mut self, agent: Agent) -> u32 {
        let met = &mut self.met[agent.index()];
        *met += 1;
        *met
    }

    /// Notes a choice against the default.
    fn deviates(&mut self, it: Deviation) {
        let choice = match it.choice {
            Choice::Next(next) => next.index() as u64,
            Choice::Takes(what) => 1 << 8 | what as u64,
        };
        self.mix((it.agent.index() as u64) << 48 | u64::from(it.nth) << 16 | choice);
        self.schedule.push(it);
    }

    /// Whether `what` happens to the running agent now, at `site`.
    pub(in crate::explored) fn takes(&mut self, what: Chance, site: Option<Site>) -> bool {
        self.takes_and_tells(what, site, |_| what.says().to_owned())
    }

    /// As [`State::takes`]; if it does, `told` says so.
    pub(in crate::explored) fn takes_and_tells(
        &mut self,
        what: Chance,
        site: Option<Site>,
        told: impl FnOnce(&Self) -> String,
    ) -> bool {
        let possible = what == Chance::Rest || self.settings.chances.contain(what);
        if self.solo || self.failure.is_some() || !possible {
            return false;
        }
        let running = self.running;
        let nth = self.meets(running);
        let taken = self.chooser.as_mut().is_some_and(|chooser| chooser.takes(what, running, nth));
        if taken {
            self.deviates(Deviation { agent: running, nth, choice: Choice::Takes(what) });
            self.tell(running, site, told);
        }
        taken
    }

    pub(super) fn enabled(&self) -> AgentSet {
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
        let awake = enabled.without(self.resting);
        if awake.ordinary().is_empty() { enabled } else { awake }
    }

    /// Whether the CPU of a ready actor is his to run on.
    pub(super) fn may_run(&self, number: usize, actor: &Actor) -> bool {
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
    pub(super) fn interrupts(&self, number: usize, cpu: &Cpu, enabled: &mut AgentSet) {
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
    pub(super) fn stuck(&mut self) {
        let over = |actor: &Actor| actor.status == Status::Done;
        if self.failure.is_none() && !self.actors.iter().all(over) {
            let message = deadlock::story(self);
            self.fail(FailureKind::Deadlock, message, None);
        }
    }

    /// Puts `agent` on its CPU; whether an interrupt begins with it.
    pub(in crate::explored) fn enter(&mut self, agent: Agent) -> bool {
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
    pub(in crate::explored) fn leave_handler(&mut self, number: usize) {
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
}
