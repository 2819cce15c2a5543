//! Memory over the calls: enough moments to draw, however long the recording is.

use std::time::Instant;

use rumpvm::{Statistics, Vm};
use rumpvm_hosted::Hosted;

use super::outcome::{Moment, Outcome, Tally};

/// Moments of a curve: as many as a drawing has room for.
const MOMENTS: usize = 200;

/// Takes moments as events go by.
pub(super) struct Curve {
    began: Instant,
    events: usize,
    step: usize,
    moments: Vec<Moment>,
    peak: Moment,
}

impl Curve {
    /// For a recording of `events` events.
    pub(super) fn new(events: usize) -> Self {
        let step = events.div_ceil(MOMENTS).max(1);
        Self {
            began: Instant::now(),
            events: 0,
            step,
            moments: Vec::new(),
            peak: Moment::default(),
        }
    }

    /// An event has gone by.
    pub(super) fn look(&mut self, vm: &Vm<Hosted>, outcome: &Outcome) {
        self.events += 1;
        if self.events.is_multiple_of(self.step) {
            let moment = self.moment(&vm.statistics(), outcome);
            self.moments.push(moment);
            if moment.frames > self.peak.frames {
                self.peak = moment;
            }
        }
    }

    fn moment(&self, statistics: &Statistics, outcome: &Outcome) -> Moment {
        let in_use = statistics.frames_total - statistics.frames_free;
        Moment {
            seconds: self.began.elapsed().as_secs_f64(),
            calls: Tally::sum(outcome.calls.values()).calls,
            frames: in_use - statistics.frames_records,
            table_frames: statistics.tables_made - statistics.tables_freed,
        }
    }

    /// All moments, and the one with most memory in use.
    pub(super) fn into_moments(self) -> (Vec<Moment>, Moment) {
        (self.moments, self.peak)
    }
}
