//! The one schedule that is given.

use std::collections::HashMap;

use rumpvm_hosted::explored::{Agent, Chance, Choice, Chooser, Deviation, Moment};

/// Repeats a schedule: its deviations, and the default everywhere else.
pub struct Replay {
    choices: HashMap<(Agent, u32), Choice>,
}

impl Replay {
    /// A schedule.
    pub fn new(schedule: &[Deviation]) -> Self {
        Self { choices: schedule.iter().map(|it| ((it.agent, it.nth), it.choice)).collect() }
    }
}

impl Chooser for Replay {
    fn next(&mut self, moment: &Moment<'_>) -> Agent {
        match self.choices.get(&(moment.current, moment.nth)) {
            Some(Choice::Next(agent)) if moment.enabled.contains(*agent) => *agent,
            _ => moment.default(),
        }
    }

    fn takes(&mut self, what: Chance, agent: Agent, nth: u32) -> bool {
        self.choices.get(&(agent, nth)) == Some(&Choice::Takes(what))
    }
}
