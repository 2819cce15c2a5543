//! Waits: of a CPU for a word, of a thread for a wake-up; and what user code does meanwhile.

use std::sync::Arc;

use rumpvm_arch::VirtAddr;

use super::{State, Status};
use crate::explored::agent::{Agent, Kind};
use crate::explored::choice::Next;
use crate::explored::outcome::FailureKind;
use crate::explored::story;

impl State {
    /// The running flow waits for `at` to change. Whether somebody else is next.
    pub(in crate::explored) fn wait(&mut self, at: u64, serves: bool) -> bool {
        let running = self.running;
        let status = Status::Waits { at, serves };
        self.set_status(running, status);
        if at == 0 {
            // It cannot say for what: its turn is over, that is all.
            self.set_status(running, Status::Ready);
        } else {
            self.memory.word(at).waiters.insert(running);
            self.tell(running, None, |state| story::wait(state, at));
        }
        self.next[running.index()] = Next { at, writes: false };
        self.flow().is_chosen = at != 0;
        self.decide() != Some(running)
    }

    /// The running actor gives up its CPU, and can go on at once. Whether it does.
    pub(in crate::explored) fn gives_up(&mut self) -> bool {
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
    pub(in crate::explored) fn set_in_user(&mut self, is_in: bool) {
        if self.running.kind() == Kind::Actor {
            let number = self.running.number();
            self.actors[number].in_user = is_in;
        }
    }

    /// A user access names `page`.
    pub(in crate::explored) fn notes_access(&mut self, page: u64) {
        if self.settings.prefetch && self.accessed.len() < 16 && !self.accessed.contains(&page) {
            self.accessed.push(page);
        }
    }

    /// CPU `number` walks for an address that somebody used, ahead of any access of its own.
    pub(super) fn prefetch(&mut self, number: usize) {
        let Some(walk) = self.walk else { return };
        let Some(page) = self.accessed.get(self.moments as usize % self.accessed.len().max(1))
        else {
            return;
        };
        let hardware = Arc::clone(&self.hardware);
        let page = *page;
        self.tell(Agent::new(Kind::Prefetch, number), None, |_| {
            format!("looks {} up ahead of any access", VirtAddr::of_page(page))
        });
        if let Err(story) = walk(&hardware, &mut self.cpus[number].tlb, page) {
            self.fail(FailureKind::Broken, format!("CPU {number} looks ahead: {story}"), None);
        }
    }

    pub(in crate::explored) fn set_status(&mut self, agent: Agent, status: Status) {
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
    pub(in crate::explored) fn sleep(&mut self, at: u64, timed: bool) {
        let number = self.running.number();
        let cpu = self.actors[number].cpu;
        self.set_status(self.running, Status::Sleeps { at, timed });
        self.cpus[cpu].occupant = None;
        self.next[self.running.index()] = Next { at, writes: false };
        self.actors[number].flow.is_chosen = true;
        self.decide();
    }

    /// Wakes those who sleep on `at`.
    pub(in crate::explored) fn wake(&mut self, at: u64) {
        let from = self.cpu();
        for number in 0..self.actors.len() {
            if matches!(self.actors[number].status, Status::Sleeps { at: word, .. } if word == at) {
                self.actors[number].status = Status::Ready;
                let to = self.actors[number].cpu;
                self.memory.pass(from, to);
            }
        }
    }
}
