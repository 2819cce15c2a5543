//! What is done to locks, and where a thread may give up its CPU.

use rumpvm_platform::{LockKind, LockStep, LockUse};

use super::State;
use crate::explored::agent::{Agent, Kind};
use crate::explored::choice::Next;
use crate::explored::outcome::FailureKind;
use crate::explored::story;

impl State {
    /// The running flow is about to wait for `lock`, or to try it.
    pub(in crate::explored) fn lock_begins(&mut self, lock: &LockUse, waits: bool) {
        if waits {
            let told = self.flow().witness.step(LockStep::Want, lock);
            if let Err(violation) = told {
                self.fail(FailureKind::LockRule, violation.to_string(), Some(lock.site));
            }
            // A cycle through several ranks goes down somewhere, which the ranks forbid.
            let of_rank = |held: &&LockUse| held.class.rank == lock.class.rank;
            let held = self.held(self.running).filter(of_rank);
            let held: Vec<_> = held.map(|held| (self.name(held.address), *held)).collect();
            if let Some(cycle) = self.locks.wants(&held, (self.name(lock.address), *lock)) {
                self.fail(FailureKind::LockRule, cycle, Some(lock.site));
            }
        }
        self.saw(Next { at: self.name(lock.address), writes: true });
        self.begins(lock);
        if waits && self.running.kind() == Kind::Actor {
            self.actors[self.running.number()].wants.push(*lock);
        }
    }

    /// A lock was taken, or not; or it was released.
    pub(in crate::explored) fn lock_ends(&mut self, step: LockStep, lock: &LockUse) {
        let told = self.flow().witness.step(step, lock);
        if let Err(violation) = told {
            self.fail(FailureKind::LockRule, violation.to_string(), Some(lock.site));
        }
        if step == LockStep::Taken
            && let Some(other) = self.other_holder(lock)
        {
            let message = format!("{lock} is taken, and held already: {other}");
            self.fail(FailureKind::LockRule, message, Some(lock.site));
        }
        if step != LockStep::Freed && self.running.kind() == Kind::Actor {
            let wants = &mut self.actors[self.running.number()].wants;
            if let Some(at) = wants.iter().rposition(|wanted| wanted.address == lock.address) {
                wants.truncate(at);
            }
        }
        let flow = self.flow();
        flow.quiet = flow.quiet.saturating_sub(1);
        flow.moving = None;
        let on = Next { at: self.name(lock.address), writes: true };
        self.tell_step(self.running, Some(lock.site), on, |state| {
            format!("{} {}", story::verb(step), story::lock(state, lock))
        });
    }

    /// How another flow holds `lock`, when neither of the two shares it. Tokens come and go while their holder
    /// blocks.
    pub(super) fn other_holder(&self, lock: &LockUse) -> Option<LockUse> {
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

    /// The threads that hold the lock at `address`, each with how it took it.
    pub(in crate::explored) fn holders(
        &self,
        address: usize,
    ) -> impl Iterator<Item = (usize, &LockUse)> {
        let actors = self.actors.iter().enumerate();
        actors.filter_map(move |(number, actor)| {
            let held = actor.flow.witness.held().find(|lock| lock.address == address)?;
            Some((number, held))
        })
    }

    /// A lock is about to be released.
    pub(in crate::explored) fn unlock_begins(&mut self, lock: &LockUse) {
        let told = self.flow().witness.step(LockStep::Free, lock);
        if let Err(violation) = told {
            self.fail(FailureKind::LockRule, violation.to_string(), Some(lock.site));
        }
        self.saw(Next { at: self.name(lock.address), writes: true });
        self.begins(lock);
    }

    pub(super) fn begins(&mut self, lock: &LockUse) {
        let flow = self.flow();
        flow.quiet += 1;
        flow.moving = (lock.class.kind == LockKind::Spin).then_some(*lock);
    }

    /// Checks that the running thread may give up its CPU.
    pub(in crate::explored) fn may_sleep(&mut self, what: &str) {
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
    pub(in crate::explored) fn tick(&mut self, number: usize) {
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
}
