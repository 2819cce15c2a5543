//! Shrinking: what of a failing schedule is needed for the failure.

use anyhow::{Context, Result};
use rumpvm_hosted::explored::{Deviation, Explorer, Failure, Settings};

use crate::Scenario;
use crate::strategy::Replay;

/// Most runs that shrinking makes.
const RUNS: u32 = 20_000;

/// The smallest schedule that was found to fail in the same way.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// Its choices.
    pub schedule: Vec<Deviation>,
    /// How it fails.
    pub failure: Failure,
    /// The schedule failed again when it was run again. If not, the explorer is wrong, and nothing was left out.
    pub repeats: bool,
    /// Runs that it took.
    pub runs: u32,
}

/// Leaves out of `schedule` what is not needed: halves, quarters, and so on down to single choices, again and again
/// until nothing more can go (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).
pub fn shrink(
    scenario: &Scenario,
    settings: Settings,
    schedule: &[Deviation],
    failure: &Failure,
) -> Result<Shrunk> {
    let mut explorer = Explorer::new(settings).context("no memory for a machine")?;
    let mut runs = 0;
    let mut fails = |candidate: &[Deviation]| {
        runs += 1;
        let replay = Box::new(Replay::new(candidate));
        let (outcome, _) = explorer.run(settings, scenario.setup, replay);
        // What the run really chose: choices that had no effect are gone.
        outcome.failure.filter(|now| now.is_like(failure)).map(|now| (outcome.schedule, now))
    };
    let Some(mut best) = fails(schedule) else {
        let (schedule, failure) = (schedule.to_vec(), failure.clone());
        return Ok(Shrunk { schedule, failure, repeats: false, runs });
    };
    let mut left = RUNS;
    let mut piece = best.0.len().div_ceil(2).max(1);
    while !best.0.is_empty() && left > 0 {
        let mut progress = false;
        let mut at = 0;
        while at < best.0.len() && left > 0 {
            let end = (at + piece).min(best.0.len());
            let candidate: Vec<Deviation> =
                best.0[..at].iter().chain(&best.0[end..]).copied().collect();
            left -= 1;
            match fails(&candidate) {
                Some(smaller) if smaller.0.len() < best.0.len() => {
                    best = smaller;
                    progress = true;
                }
                _ => at = end,
            }
        }
        if piece > 1 {
            piece = piece.div_ceil(2);
        } else if !progress {
            break;
        }
    }
    Ok(Shrunk { schedule: best.0, failure: best.1, repeats: true, runs })
}
