//! Shrinking: what of a failing schedule is needed for the failure, or a shorter one that fails in the same way.
//!
//! Flow: schedule -> left out of what can be -> exhaustive search for a shorter one -> left out of again.

use anyhow::{Context, Result};
use rumpvm_hosted::explored::{Chooser, Deviation, Explorer, Failure, Settings};

use crate::Scenario;
use crate::strategy::{Exhaustive, Replay};

/// Most runs that leaving out makes.
const RUNS: u32 = 20_000;

/// Most runs of the search for a shorter schedule: a second, of long scenarios. What one or two choices bring about is
/// mostly among the first thousand.
const SEARCHED: u32 = 5_000;

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

/// Leaves out of `schedule` what is not needed, and looks for a shorter one: a failure that takes one choice may have
/// been found by chance with four, none of which can go alone.
pub fn shrink(
    scenario: &Scenario,
    settings: Settings,
    schedule: &[Deviation],
    failure: &Failure,
) -> Result<Shrunk> {
    let explorer = Explorer::new(settings).context("no memory for a machine")?;
    let mut trials = Trials { scenario, settings, failure, explorer, runs: 0 };
    let Some(first) = trials.replay(schedule) else {
        let (schedule, failure, runs) = (schedule.to_vec(), failure.clone(), trials.runs);
        return Ok(Shrunk { schedule, failure, repeats: false, runs });
    };
    let mut best = trials.reduce(first);
    if let Some(shorter) = trials.search(best.0.len()) {
        best = trials.reduce(shorter);
    }
    Ok(Shrunk { schedule: best.0, failure: best.1, repeats: true, runs: trials.runs })
}

/// A schedule that failed, and how.
type Failed = (Vec<Deviation>, Failure);

struct Trials<'a> {
    scenario: &'a Scenario,
    settings: Settings,
    failure: &'a Failure,
    explorer: Explorer,
    runs: u32,
}

impl Trials<'_> {
    /// One run: the schedule that it really chose, if it fails in the same way. Choices that had no effect are gone.
    fn run<C: Chooser + 'static>(&mut self, chooser: Box<C>) -> (Option<Failed>, Box<C>) {
        self.runs += 1;
        let (outcome, back) = self.explorer.run(self.settings, self.scenario.setup, chooser);
        let failure = outcome.failure.filter(|now| now.is_like(self.failure));
        (failure.map(|failure| (outcome.schedule, failure)), back)
    }

    fn replay(&mut self, schedule: &[Deviation]) -> Option<Failed> {
        self.run(Box::new(Replay::new(schedule))).0
    }

    /// Leaves out halves, quarters, and so on down to single choices, again and again until nothing more can go (Zeller and
    /// Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).
    fn reduce(&mut self, mut best: Failed) -> Failed {
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
                match self.replay(&candidate) {
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
        best
    }

    /// A schedule of fewer than `most` choices, if there is one among the first with 0, 1, 2... preemptions.
    fn search(&mut self, most: usize) -> Option<Failed> {
        // The runs so far have shown which words are shared.
        self.explorer.focus();
        let mut left = SEARCHED;
        for bound in 0..most as u32 {
            let mut search = Box::new(Exhaustive::new(bound));
            let mut late = self.explorer.late();
            loop {
                let (failed, back) = self.run(search);
                search = back;
                if let Some(shorter) = failed.filter(|(schedule, _)| schedule.len() < most) {
                    return Some(shorter);
                }
                left = left.checked_sub(1)?;
                if self.explorer.late() != late {
                    // There are more points than it was begun with: what it remembers means something else now.
                    late = self.explorer.late();
                    *search = Exhaustive::new(bound);
                } else if !search.advance() {
                    break;
                }
            }
        }
        None
    }
}
