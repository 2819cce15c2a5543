//! PCT: priorities, and a few moments at which the first falls behind all others.

use rumpvm_hosted::explored::{Agent, Chance, Chooser, Moment};

use super::Mischief;

/// Finds a bug that `depth` well-placed orders are enough for in one run of `agents * length^(depth - 1)`, at worst.
pub struct Pct {
    mischief: Mischief,
    priorities: [u32; Agent::COUNT],
    /// Moments at which the first falls behind, in order.
    changes: Vec<u32>,
    /// The lowest priority so far.
    lowest: u32,
}

impl Pct {
    /// The priorities of this seed, for a run of about `length` moments.
    pub fn new(seed: u64, depth: u32, length: u32) -> Self {
        let mut mischief = Mischief::new(seed);
        let priorities = std::array::from_fn(|_| depth + mischief.below(u32::MAX - depth));
        let mut changes: Vec<u32> = (1..depth).map(|_| 1 + mischief.below(length.max(1))).collect();
        changes.sort_unstable_by(|one, other| other.cmp(one));
        Self { mischief, priorities, changes, lowest: depth }
    }
}

impl Chooser for Pct {
    fn next(&mut self, moment: &Moment<'_>) -> Agent {
        if let Some(agent) = self.mischief.interferes(moment) {
            return agent;
        }
        let ordinary = moment.enabled.ordinary();
        loop {
            let first = ordinary.iter().max_by_key(|agent| self.priorities[agent.index()]);
            let first = first.expect("somebody is enabled");
            if self.changes.last().is_none_or(|at| *at > moment.number) {
                return first;
            }
            self.changes.pop();
            self.lowest -= 1;
            self.priorities[first.index()] = self.lowest;
        }
    }

    fn takes(&mut self, what: Chance, _agent: Agent, _nth: u32) -> bool {
        self.mischief.takes(what)
    }
}
