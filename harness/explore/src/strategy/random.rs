//! A random walk.

use rumpvm_hosted::explored::{Agent, Chance, Chooser, Moment};

use super::Mischief;

/// Goes on with who runs, or with anybody: one moment in 2, 4, 16 or 64 is a switch.
pub struct Random {
    mischief: Mischief,
    rate: u32,
}

impl Random {
    /// The walk of this seed.
    pub fn new(seed: u64) -> Self {
        let mut mischief = Mischief::new(seed);
        let rate = [2, 4, 16, 64][mischief.below(4) as usize];
        Self { mischief, rate }
    }
}

impl Chooser for Random {
    fn next(&mut self, moment: &Moment<'_>) -> Agent {
        if let Some(agent) = self.mischief.interferes(moment) {
            return agent;
        }
        let ordinary = moment.enabled.ordinary();
        if ordinary.contains(moment.current) && self.mischief.below(self.rate) != 0 {
            return moment.current;
        }
        let which = self.mischief.below(ordinary.count() as u32) as usize;
        ordinary.iter().nth(which).expect("it is below their number")
    }

    fn takes(&mut self, what: Chance, _agent: Agent, _nth: u32) -> bool {
        self.mischief.takes(what)
    }
}
