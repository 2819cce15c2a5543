//! Steps on shared words: carried out, held back, noted; and the flaws that can be put into them at run time.

use std::sync::atomic::Ordering;

use rumpvm_platform::{Cell, Op, Site};

use super::{ENDLESS, Held, State, Status};
use crate::explored::agent::{Agent, Kind, MOST};
use crate::explored::choice::{Chance, Next};
use crate::explored::memory::{Clock, perform};
use crate::explored::outcome::FailureKind;
use crate::explored::settings::{Flaw, Mutation};
use crate::explored::story;

impl State {
    /// Whether this run has `flaw` at `site`.
    #[inline]
    pub(in crate::explored) fn has(&self, flaw: Flaw, site: Site) -> bool {
        self.settings.mutation.is_some_and(|put_in| put_in.flaw == flaw && put_in.hits(site))
    }

    /// Whether this run has a flaw at `site`.
    #[inline]
    pub(in crate::explored) fn is_flawed(&self, site: Site) -> bool {
        self.settings.mutation.is_some_and(|put_in| put_in.hits(site))
    }

    /// Notes that `flaw` could be put in at `site`, in a step on the word `key` if it is one on a word.
    #[inline]
    pub(in crate::explored) fn survey(&mut self, flaw: Flaw, site: Site, key: Option<u64>) {
        if self.settings.survey && !self.solo {
            let shared = key.is_none_or(|key| self.memory.word(key).is_shared());
            self.coverage.place(Mutation { site, flaw }, shared);
        }
    }

    /// Carries out one step of the running flow.
    #[inline]
    pub(in crate::explored) fn execute(
        &mut self,
        cell: Cell,
        op: Op,
        order: Ordering,
        site: Site,
    ) -> u64 {
        let cpu = self.cpu();
        let key = self.name(cell.address);
        // A flaw hits private words too.
        if !self.focus.has(key) && !self.is_flawed(site) && self.is_alone(key, cpu, op) {
            self.steps += 1;
            // SAFETY: the component's promise (`Seam::carry_out`).
            return unsafe { perform(cell, op) };
        }
        self.note(key, op, site);
        if op.is_rmw() || (op.writes() && order == Ordering::SeqCst) {
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
        if let (Op::Store(value) | Op::Set(value), false) = (op, order == Ordering::SeqCst)
            && self.settings.tso
            && self.holds_back(cpu, key, site)
        {
            self.cpus[cpu].buffer.push_back(Held { cell, key, value, carries });
            return 0;
        }
        // SAFETY: as above.
        let old = unsafe { perform(cell, op) };
        self.land(key, carries);
        old
    }

    /// Whether `cpu` holds a store to the word `key` back: because it was chosen, or behind another one.
    fn holds_back(&mut self, cpu: usize, key: u64, site: Site) -> bool {
        let told = |state: &Self| format!("the store to {} is held back", story::word(state, key));
        if self.cpus[cpu].buffer.is_empty() {
            return self.takes_and_tells(Chance::Delay, Some(site), told);
        }
        self.tell(self.running, Some(site), |state| told(state) + " too");
        true
    }

    /// Whether this is a step on a word that nobody else cares for, by a CPU that holds no store back: then
    /// nothing has to be known of it but who made it.
    #[inline]
    pub(super) fn is_alone(&mut self, key: u64, cpu: usize, op: Op) -> bool {
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
    pub(super) fn who(&self) -> u32 {
        let number = self.running.number();
        (if self.running.kind() == Kind::Actor { number } else { MOST + number }) as u32
    }

    /// Makes what a store carries known, and those ready who wait for the word.
    pub(super) fn land(&mut self, key: u64, carries: Clock) {
        for waiter in self.memory.lands(key, carries).iter() {
            self.set_status(waiter, Status::Ready);
        }
    }

    /// Lets the oldest store that `cpu` holds back reach memory.
    pub(super) fn drain_one(&mut self, cpu: usize) {
        if let Some(Held { cell, key, value, carries }) = self.cpus[cpu].buffer.pop_front() {
            self.mix(key);
            self.tell(Agent::new(Kind::Drain, cpu), None, |state| {
                format!("the store to {} lands", story::word(state, key))
            });
            // SAFETY: the word was alive when the store was made, and its CPU lets stores land before it frees
            // anything (`Seam` hooks, and the heap's).
            unsafe { perform(cell, Op::Store(value)) };
            self.land(key, carries);
        }
    }

    /// Lets all stores that `cpu` holds back reach memory.
    #[inline]
    pub(in crate::explored) fn drain(&mut self, cpu: usize) {
        while !self.cpus[cpu].buffer.is_empty() {
            self.drain_one(cpu);
        }
    }

    /// Passes a full fence on `cpu`.
    pub(in crate::explored) fn fence(&mut self, cpu: usize) {
        self.drain(cpu);
        self.memory.fence(cpu);
    }

    /// Notes a step, for the hash, the coverage and the story.
    #[inline]
    pub(super) fn note(&mut self, key: u64, op: Op, site: Site) {
        self.steps += 1;
        if self.steps == ENDLESS {
            let message = format!("{ENDLESS} steps, and nobody arrives");
            self.fail(FailureKind::Livelock, message, Some(site));
        }
        let running = self.running;
        let line = u64::from(site.line()) << 8 | u64::from(site.column());
        self.mix(key ^ line << 20 ^ (running.index() as u64) << 58);
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
        let on = Next { at: key, writes: op.writes() };
        self.tell_step(running, Some(site), on, |state| story::step(state, key, op));
    }

    /// Tells the chooser of a step of the running agent.
    pub(super) fn saw(&mut self, step: Next) {
        let running = self.running;
        if let Some(chooser) = &mut self.chooser {
            chooser.saw(running, step);
        }
    }
}
