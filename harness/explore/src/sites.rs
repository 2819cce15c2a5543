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

/// A hunt for one flaw works no longer, whatever it is doing.
const LONGEST: Duration = Duration::from_secs(20);

/// For how long this thread has had a CPU: on a busy machine a hunt is to do the same as on an idle one. Where nobody
/// says, the time of day.
fn worked(start: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// A flaw that could be put in, and the scenarios in which it would be met.
#[derive(Clone, Debug)]
pub struct Place {
    /// The flaw.
    pub mutation: Mutation,
    /// Who gets there; those first of which it is the largest part.
    pub scenarios: Vec<Scenario>,
}

/// How large a part of a scenario a place is: times that it is met at a word which others touch as well, and times
/// at all, in a million steps. A short scenario about one thing shows what is wrong with it sooner than a long one that
/// comes by as well.
type Part = (u64, u64);

/// All places of the component that `scenarios` get to, by file and line. The same in every call.
pub fn survey(scenarios: &[Scenario]) -> Result<Vec<Place>> {
    let mut places: BTreeMap<Mutation, Vec<(Part, Scenario)>> = BTreeMap::new();
    for scenario in scenarios {
        for (mutation, part) in places_of(scenario)? {
            places.entry(mutation).or_default().push((part, *scenario));
        }
    }
    let place = |(mutation, scenarios)| Place { mutation, scenarios: ranked(scenarios) };
    Ok(places.into_iter().map(place).collect())
}

/// In turns those of which it is the largest part at words that others touch, and at all: words of one CPU alone,
/// such as those of its pins, make others go wrong as well.
fn ranked(mut scenarios: Vec<(Part, Scenario)>) -> Vec<Scenario> {
    scenarios.sort_by_key(|(part, _)| Reverse(*part));
    let mut at_all = scenarios.clone();
    at_all.sort_by_key(|(part, _)| Reverse(part.1));
    let mut ranked: Vec<Scenario> = Vec::new();
    for (_, scenario) in scenarios.into_iter().zip(at_all).flat_map(|(one, other)| [one, other]) {
        if ranked.iter().all(|known| known.name != scenario.name) {
            ranked.push(scenario);
        }
    }
    ranked
}

/// Where flaws could be put in.
fn places_of(scenario: &Scenario) -> Result<BTreeMap<Mutation, Part>> {
    let mut places: BTreeMap<Mutation, Part> = BTreeMap::new();
    for memory in Memory::BOTH {
        let settings = Settings { survey: true, ..settings(scenario, memory, None) };
        let mut explorer = Explorer::new(settings).context("no memory for a machine")?;
        let mut steps = 0;
        for number in 0..RUNS {
            let strategy = PORTFOLIO[number as usize % PORTFOLIO.len()];
            let chooser = Box::new(strategy.chooser(number, 1000));
            let (outcome, _) = explorer.run(settings, scenario.setup, chooser);
            if let Some(failure) = outcome.failure {
                bail!("{} fails with no flaw put in: {}", scenario.name, failure.message);
            }
            steps += outcome.steps;
        }
        for (place, met) in explorer.places() {
            if place.site.file().contains("rumpvm/src/") {
                let part = places.entry(place).or_default();
                part.0 += met.shared * 1_000_000 / steps.max(1);
                part.1 += met.times * 1_000_000 / steps.max(1);
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
    let before = worked(start);
    let goes_on = || worked(start) - before < LONGEST;
    for (number, scenario) in hunted.iter().enumerate() {
        if bag.found.is_some() || !goes_on() {
            break;
        }
        let options = Options {
            depth: Depth::Schedules(schedules / hunted.len() as u64),
            seed: number as u64,
            strategy: None,
            memory: vec![memory],
            cpus: None,
            short: 0,
        };
        let seen = explore(scenario, &options, |_| goes_on())?;
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
