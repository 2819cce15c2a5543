//! What the seeded strategies have in common: how often something goes wrong, and how often hardware interferes.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rumpvm_hosted::explored::{Agent, Chance, Moment};

/// One in so many; 0 for never.
const RATES: [u32; 4] = [0, 64, 16, 4];

/// As often a store is held back. A real CPU does so with every one.
const DELAYS: [u32; 4] = [0, 16, 4, 1];

/// Dice with a taste of their own, drawn from the seed.
pub struct Mischief {
    dice: Xoshiro256PlusPlus,
    accidents: u32,
    delays: u32,
    interference: u32,
}

impl Mischief {
    /// The dice of this seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut one = |rates: [u32; 4]| rates[dice.next_u32() as usize % rates.len()];
        let (accidents, delays, interference) = (one(RATES), one(DELAYS), one(RATES));
        Self { dice, accidents, delays, interference: interference * 4 }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.dice.next_u32()) * u64::from(end)) >> 32) as u32
    }

    /// Any number.
    pub fn any(&mut self) -> u32 {
        self.dice.next_u32()
    }

    /// One in `rate`.
    fn falls(&mut self, rate: u32) -> bool {
        rate != 0 && self.below(rate) == 0
    }

    /// Whether `what` happens.
    pub fn takes(&mut self, what: Chance) -> bool {
        let rate = match what {
            Chance::Delay => self.delays,
            Chance::Rest => 2,
            _ => self.accidents,
        };
        self.falls(rate)
    }

    /// A tick or a prefetch that comes in now.
    pub fn interferes(&mut self, moment: &Moment<'_>) -> Option<Agent> {
        let ordinary = moment.enabled.ordinary();
        if ordinary == moment.enabled || !self.falls(self.interference) {
            return None;
        }
        let others = moment.enabled.count() - ordinary.count();
        let which = self.below(others as u32) as usize;
        moment.enabled.iter().filter(|agent| !ordinary.contains(*agent)).nth(which)
    }
}
