//! Hunting: is there a failure at all? Scenario after scenario in each memory order, in turns that get longer, so
//! that what shows at once is found at once whichever of them shows it.
//!
//! Flow: scenarios -> one turn of [`explore`] each -> longer turns -> the first failure, or the limits.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{Depth, Found, Memory, Options, Scenario, explore};

/// Schedules of the first turn: what is learnt from anyway.
const FIRST: u64 = 64;

/// By how much each turn is longer than the one before.
const LONGER: u64 = 4;

/// How far to hunt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Schedules in all. Each scenario has its first turn in each memory order, whatever that makes.
    pub schedules: u64,
    /// For everything.
    pub time: Duration,
    /// Where the dice start.
    pub seed: u64,
}

/// What a hunt has brought.
#[derive(Clone, Debug)]
pub struct Bag {
    /// Schedules run.
    pub schedules: u64,
    /// Time that passed.
    pub time: Duration,
    /// Name of the scenario that failed, and how.
    pub found: Option<(&'static str, Found)>,
}

/// Explores all of `scenarios` until one fails.
pub fn hunt(scenarios: &[Scenario], limits: Limits) -> Result<Bag> {
    let start = Instant::now();
    let mut schedules = 0;
    let mut turn = FIRST;
    let mut seed = limits.seed;
    let turns = turns(scenarios);
    while turn >= FIRST && start.elapsed() < limits.time {
        for (memory, scenario) in &turns {
            let options = Options {
                depth: Depth::Schedules(turn),
                seed,
                strategy: None,
                memory: vec![*memory],
                cpus: None,
                short: 0,
            };
            let seen = explore(scenario, &options, |_| start.elapsed() < limits.time)?;
            schedules += seen.schedules;
            if let Some(found) = seen.found {
                let found = Some((scenario.name, found));
                return Ok(Bag { schedules, time: start.elapsed(), found });
            }
        }
        let left = limits.schedules.saturating_sub(schedules) / turns.len().max(1) as u64;
        turn = (turn * LONGER).min(left);
        seed = seed.wrapping_add(1);
    }
    Ok(Bag { schedules, time: start.elapsed(), found: None })
}

/// Every scenario in every memory order.
pub(crate) fn turns(scenarios: &[Scenario]) -> Vec<(Memory, &Scenario)> {
    let of = |memory| scenarios.iter().map(move |scenario| (memory, scenario));
    Memory::BOTH.into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use rumpvm_hosted::explored::{Settings, Stage};

    use super::*;

    const LIMITS: Limits = Limits { schedules: 300, time: Duration::MAX, seed: 1 };

    fn scenario(name: &'static str, setup: fn(&Stage)) -> Scenario {
        Scenario { name, report: "", says: "", settings: Settings::default(), setup }
    }

    #[test]
    fn a_hunt_ends_with_the_first_scenario_that_fails_and_names_it() {
        let calm = scenario("calm", |stage| stage.actor(0, "calm", || ()));
        let wild = scenario("wild", |stage| stage.actor(0, "wild", || panic!("found")));
        let bag = hunt(&[calm, wild], LIMITS).unwrap();
        let (name, found) = bag.found.expect("one of them always fails");
        assert_eq!((name, found.failure.message.as_str()), ("wild", "found"));
    }

    #[test]
    fn a_hunt_ends_when_its_schedules_are_spent() {
        let calm = scenario("calm", |stage| stage.actor(0, "calm", || ()));
        let bag = hunt(&[calm], LIMITS).unwrap();
        assert!(bag.found.is_none());
        assert!((200..=300).contains(&bag.schedules), "{} schedules", bag.schedules);
    }
}
