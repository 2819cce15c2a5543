//! Starvation: something is put off for as long as anything else can go on.
//!
//! Priorities and walks put everything off for a short time now and then. Some bugs need one thing to be late for
//! the length of several calls of others: a flush that is on its way, a store that its CPU holds back, a thread between
//! two steps on one word.

use rumpvm_hosted::explored::{Agent, AgentSet, Chance, Chooser, Kind, MOST, Moment};

use super::{Mischief, Pct, Random};

/// What is put off.
enum Victim {
    /// These agents, whatever they are about to do.
    Agents(AgentSet),
    /// Whoever is about to touch a word of some: one in `share`, which ones is for `salt` to say.
    Words { salt: u64, share: u64 },
}

impl Victim {
    /// One for each run.
    fn draw(dice: &mut Mischief) -> Self {
        let kind = match dice.below(8) {
            0 | 1 => Kind::Flush,
            2 => Kind::Drain,
            3 => Kind::Actor,
            _ => {
                let share = [4, 16, 64][dice.below(3) as usize];
                return Self::Words { salt: u64::from(dice.any()), share };
            }
        };
        // All flushes, or those of one CPU; but one actor, or nobody would be left. Low numbers are taken most.
        let all = kind != Kind::Actor && dice.below(2) == 0;
        let some = if all { u32::MAX } else { 1 << dice.below(4) };
        let mut agents = AgentSet::default();
        for number in (0..MOST).filter(|number| some & 1 << number != 0) {
            agents.insert(Agent::new(kind, number));
        }
        Self::Agents(agents)
    }

    fn includes(&self, moment: &Moment<'_>, agent: Agent) -> bool {
        match self {
            Self::Agents(agents) => agents.contains(agent),
            Self::Words { salt, share } => {
                let at = moment.next[agent.index()].at;
                let mixed = (at ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                at != 0 && agent.kind() == Kind::Actor && mixed.is_multiple_of(*share)
            }
        }
    }
}

/// Another strategy, but for what it puts off.
pub struct Starve {
    others: Box<dyn Chooser>,
    victim: Victim,
}

impl Starve {
    /// The victim of this seed, for a run of about `length` moments.
    pub fn new(seed: u64, length: u32) -> Self {
        let mut dice = Mischief::new(seed);
        let victim = Victim::draw(&mut dice);
        let others: Box<dyn Chooser> = match dice.below(3) {
            0 => Box::new(Random::new(!seed)),
            depth => Box::new(Pct::new(!seed, 1 + depth, length)),
        };
        Self { others, victim }
    }
}

impl Chooser for Starve {
    fn next(&mut self, moment: &Moment<'_>) -> Agent {
        let mut left = moment.enabled;
        for agent in moment.enabled.iter() {
            if self.victim.includes(moment, agent) {
                left.remove(agent);
            }
        }
        // When nothing else can go, one of them does: so it is late, and not for ever.
        let enabled = if left.ordinary().is_empty() { moment.enabled } else { left };
        self.others.next(&Moment { enabled, ..*moment })
    }

    fn takes(&mut self, what: Chance, agent: Agent, nth: u32) -> bool {
        // Stores that are to be late have to be held back to begin with.
        let drains = |agents: &AgentSet| agents.iter().any(|agent| agent.kind() == Kind::Drain);
        let late = matches!(&self.victim, Victim::Agents(agents) if drains(agents));
        what == Chance::Delay && late || self.others.takes(what, agent, nth)
    }
}
