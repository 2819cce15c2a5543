//! Hunting: is there a failure at all? Scenario after scenario in each memory order, in turns that get longer, so
//! that what shows at once is found at once whichever of them shows it.
//!
//! Flow: scenarios -> one turn of [`explore`] each -> longer turns -> the first failure, or the limits.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{Depth, Found, Memory, Options, Scenario, explore};

/// Schedules of the first turn; twice the learning and a little exhaustive search.
const FIRST: u64 = 128;

/// By how much each turn is longer than the one before.
const LONGER: u64 = 4;

/// How far to hunt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Schedules for each scenario in each memory order.
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
    let mut turn = FIRST.min(limits.schedules);
    let mut spent = 0;
    let mut seed = limits.seed;
    while turn > 0 && start.elapsed() < limits.time {
        for (memory, scenario) in turns(scenarios) {
            let options = Options {
                depth: Depth::Schedules(turn),
                seed,
                strategy: None,
                memory: vec![memory],
                cpus: None,
            };
            let seen = explore(scenario, &options, |_| start.elapsed() < limits.time)?;
            schedules += seen.schedules;
            if let Some(found) = seen.found {
                let found = Some((scenario.name, found));
                return Ok(Bag { schedules, time: start.elapsed(), found });
            }
        }
        spent += turn;
        turn = turn.saturating_mul(LONGER).min(limits.schedules - spent);
        seed = seed.wrapping_add(1);
    }
    Ok(Bag { schedules, time: start.elapsed(), found: None })
}

/// Every scenario in every memory order.
fn turns(scenarios: &[Scenario]) -> impl Iterator<Item = (Memory, &Scenario)> {
    let of = |memory| scenarios.iter().map(move |scenario| (memory, scenario));
    Memory::BOTH.into_iter().flat_map(of)
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
        assert!(bag.schedules >= 2 * 300, "{} schedules", bag.schedules);
    }
}
