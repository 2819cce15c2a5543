//! Flaws put in at run time, place by place: would any scenario notice?
//!
//! A place is a line and column of the component at which a step on a shared word, a fence, a sleep or a wake-up
//! begins. A step within a lock counts as the place that takes or gives back the lock.
//!
//! Flow: survey of clean runs -> places, each with the scenarios that get there -> a hunt with the flaw put in.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rumpvm_hosted::explored::{Explorer, Mutation, Settings};

use crate::hunt::{Bag, Limits, hunt};
use crate::strategy::PORTFOLIO;
use crate::{Memory, Scenario, settings};

/// Clean runs of each scenario in each memory order. Places that fewer than one run in a hundred gets to would
/// seldom be hit by a hunt either.
const RUNS: u64 = 128;

/// A hunt for one flaw takes no longer, whatever it is doing.
const LONGEST: Duration = Duration::from_secs(20);

/// A flaw that could be put in, and the scenarios in which it would be met.
#[derive(Clone, Debug)]
pub struct Place {
    /// The flaw.
    pub mutation: Mutation,
    /// Who gets there.
    pub scenarios: Vec<Scenario>,
}

/// All places of the component that `scenarios` get to, by file and line. The same in every call.
pub fn survey(scenarios: &[Scenario]) -> Result<Vec<Place>> {
    let mut places: BTreeMap<Mutation, Vec<Scenario>> = BTreeMap::new();
    for scenario in scenarios {
        for mutation in places_of(scenario)? {
            places.entry(mutation).or_default().push(*scenario);
        }
    }
    let places = places.into_iter();
    Ok(places.map(|(mutation, scenarios)| Place { mutation, scenarios }).collect())
}

fn places_of(scenario: &Scenario) -> Result<impl Iterator<Item = Mutation>> {
    let mut places = std::collections::BTreeSet::new();
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
        places.append(&mut explorer.places());
    }
    Ok(places.into_iter().filter(|place| place.site.file().contains("rumpvm/src/")))
}

/// Hunts with the flaw put in, for about so many schedules of the scenarios that meet it.
pub fn try_flaw(place: &Place, schedules: u64) -> Result<Bag> {
    let flawed = |scenario: &Scenario| {
        let settings = Settings { mutation: Some(place.mutation), ..scenario.settings };
        Scenario { settings, ..*scenario }
    };
    let scenarios: Vec<Scenario> = place.scenarios.iter().map(flawed).collect();
    hunt(&scenarios, Limits { schedules, time: LONGEST, seed: 0 })
}

#[cfg(test)]
mod tests {
    use rumpvm_hosted::explored::Flaw;

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
