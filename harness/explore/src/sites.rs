//! Flaws put in at run time, place by place: would any scenario notice?
//!
//! A place is a line and column of the component at which a step on a shared word, a fence, a sleep or a wake-up
//! begins. A step within a lock counts as the place that takes or gives back the lock.
//!
//! Flow: survey of clean runs -> places, each with the scenarios that get there -> with the flaw put in, a few runs
//! of each of them, and a hunt in those that share most of what is done there.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rumpvm_hosted::explored::{Explorer, Flaw, Mutation, Settings};

use crate::hunt::{Bag, turns};
use crate::strategy::PORTFOLIO;
use crate::{Depth, Found, Memory, Options, Scenario, explore, settings};

/// Clean runs of each scenario in each memory order. Places that fewer than one run in a hundred gets to would
/// seldom be hit by a hunt either.
const RUNS: u64 = 128;

/// Runs of every scenario with a flaw put in, in each memory order: most flaws show in any run.
const GLANCES: u64 = 4;

/// Scenarios of a hunt: one more is so much less time for each of them.
const HUNTED: usize = 8;

/// A hunt for one flaw takes no longer, whatever it is doing.
const LONGEST: Duration = Duration::from_secs(20);

/// A flaw that could be put in, and the scenarios in which it would be met.
#[derive(Clone, Debug)]
pub struct Place {
    /// The flaw.
    pub mutation: Mutation,
    /// Who gets there; those first in which most of it is done to words that others touch as well.
    pub scenarios: Vec<Scenario>,
}

/// All places of the component that `scenarios` get to, by file and line. The same in every call.
pub fn survey(scenarios: &[Scenario]) -> Result<Vec<Place>> {
    let mut places: BTreeMap<Mutation, Vec<(u64, Scenario)>> = BTreeMap::new();
    for scenario in scenarios {
        for (mutation, shared) in places_of(scenario)? {
            places.entry(mutation).or_default().push((shared, *scenario));
        }
    }
    let place = |(mutation, mut scenarios): (Mutation, Vec<(u64, Scenario)>)| {
        scenarios.sort_by_key(|(shared, _)| Reverse(*shared));
        Place { mutation, scenarios: scenarios.into_iter().map(|(_, scenario)| scenario).collect() }
    };
    Ok(places.into_iter().map(place).collect())
}

/// Where flaws could be put in, and how often each would have hit a word that others touch.
fn places_of(scenario: &Scenario) -> Result<BTreeMap<Mutation, u64>> {
    let mut places = BTreeMap::new();
    for memory in Memory::BOTH {
        let settings = Settings { survey: true, ..settings(scenario, memory, None) };
        let mut explorer = Explorer::new(settings).context("no memory for a machine")?;
        for number in 0..RUNS {
            let strategy = PORTFOLIO[number as usize % PORTFOLIO.len()];
            let chooser = Box::new(strategy.chooser(number, 1000));
            let (outcome, _) = explorer.run(settings, scenario.setup, chooser);
            if let Some(failure) = outcome.failure {
                bail!("{} fails with no flaw put in: {}", scenario.name, failure.message);
            }
        }
        for (place, shared) in explorer.places() {
            if place.site.file().contains("rumpvm/src/") {
                *places.entry(place).or_default() += shared;
            }
        }
    }
    Ok(places)
}

/// Looks for a failure with the flaw put in, in about so many schedules of the scenarios that meet it, shared out
/// among those that share most.
pub fn try_flaw(place: &Place, schedules: u64) -> Result<Bag> {
    let flawed = |scenario: &Scenario| {
        let settings = Settings { mutation: Some(place.mutation), ..scenario.settings };
        Scenario { settings, ..*scenario }
    };
    let scenarios: Vec<Scenario> = place.scenarios.iter().map(flawed).collect();
    let mut bag = glance(&scenarios)?;
    // A fence does nothing in sequential memory; any other flaw needs no store to be late.
    let fence = place.mutation.flaw == Flaw::DropFence;
    let memory = if fence { Memory::Tso } else { Memory::Sequential };
    let hunted = &scenarios[..scenarios.len().min(HUNTED)];
    let start = Instant::now();
    for (number, scenario) in hunted.iter().enumerate() {
        if bag.found.is_some() || start.elapsed() >= LONGEST {
            break;
        }
        let options = Options {
            depth: Depth::Schedules(schedules / hunted.len() as u64),
            seed: number as u64,
            strategy: None,
            memory: vec![memory],
            cpus: None,
        };
        let seen = explore(scenario, &options, |_| start.elapsed() < LONGEST)?;
        bag.schedules += seen.schedules;
        bag.found = seen.found.map(|found| (scenario.name, found));
    }
    bag.time += start.elapsed();
    Ok(bag)
}

/// A few runs of each scenario.
fn glance(scenarios: &[Scenario]) -> Result<Bag> {
    let start = Instant::now();
    let mut schedules = 0;
    for (memory, scenario) in turns(scenarios) {
        let settings = settings(scenario, memory, None);
        let mut explorer = Explorer::new(settings).context("no memory for a machine")?;
        for number in 0..GLANCES {
            let strategy = PORTFOLIO[number as usize];
            let chooser = Box::new(strategy.chooser(number, 1000));
            let (outcome, _) = explorer.run(settings, scenario.setup, chooser);
            schedules += 1;
            if let Some(failure) = outcome.failure {
                let (strategy, after) = (strategy.name(), schedules - 1);
                let found = Found { failure, schedule: outcome.schedule, memory, strategy, after };
                let found = Some((scenario.name, found));
                return Ok(Bag { schedules, time: start.elapsed(), found });
            }
        }
    }
    Ok(Bag { schedules, time: start.elapsed(), found: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;

    #[test]
    fn a_lock_that_is_not_given_back_is_noticed() {
        let places = survey(&scenarios::all()).unwrap();
        let unlock = places.iter().find(|place| {
            place.mutation.flaw == Flaw::DropStore
                && place.mutation.site.file().ends_with("sync/spin.rs")
        });
        let bag = try_flaw(unlock.expect("every scenario unlocks"), 1000).unwrap();
        assert!(bag.found.is_some());
    }

    #[test]
    fn two_surveys_find_the_same_places() {
        let places = || -> Vec<Mutation> {
            let places = survey(&scenarios::all()).unwrap();
            places.into_iter().map(|place| place.mutation).collect()
        };
        assert_eq!(places(), places());
    }
}
