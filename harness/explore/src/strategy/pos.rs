//! Partial-order sampling: every step has a priority of its own.

use rumpvm_hosted::explored::{Agent, AgentSet, Chance, Chooser, Moment};

use super::Mischief;

/// Takes the step with the highest priority; steps that conflict with it draw anew.
pub struct Pos {
    mischief: Mischief,
    priorities: [u32; Agent::COUNT],
    /// Those whose step has a priority.
    drawn: AgentSet,
}

impl Pos {
    /// The priorities of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            mischief: Mischief::new(seed),
            priorities: [0; Agent::COUNT],
            drawn: AgentSet::default(),
        }
    }
}

impl Chooser for Pos {
    fn next(&mut self, moment: &Moment<'_>) -> Agent {
        if let Some(agent) = self.mischief.interferes(moment) {
            return agent;
        }
        let ordinary = moment.enabled.ordinary();
        for agent in ordinary.iter() {
            if !self.drawn.contains(agent) {
                self.priorities[agent.index()] = self.mischief.any();
                self.drawn.insert(agent);
            }
        }
        let first = ordinary.iter().max_by_key(|agent| self.priorities[agent.index()]);
        let first = first.expect("somebody is enabled");
        let taken = moment.next[first.index()];
        self.drawn.remove(first);
        for agent in ordinary.iter() {
            if agent != first && moment.next[agent.index()].conflicts(taken) {
                self.drawn.remove(agent);
            }
        }
        first
    }

    fn takes(&mut self, what: Chance, _agent: Agent, _nth: u32) -> bool {
        self.mischief.takes(what)
    }
}
