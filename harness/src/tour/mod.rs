//! The tour: what a newcomer is shown. Six recordings of real programs, then the five workloads, one
//! after another, each on a machine of its own and each ending with `check`.
//!
//! The whole takes half a minute on two CPUs: recordings take less than a second each, workloads as long
//! as `TIME` says.

mod traces;

use std::io;
use std::time::Duration;

use crate::report::Part;
use crate::workload::{self, Limit, Settings, Workload};
use traces::Recording;

/// How long a workload goes on.
const TIME: Duration = Duration::from_secs(4);

/// One station of the tour.
pub enum Station {
    /// A recording.
    Recording(&'static Recording),
    /// A workload.
    Workload(Workload),
}

impl Station {
    /// All stations, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        let recordings = traces::RECORDINGS.iter().map(Self::Recording);
        recordings.chain(Workload::ALL.map(Self::Workload))
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Recording(recording) => recording.name,
            Self::Workload(workload) => workload.name(),
        }
    }
}

/// Runs one station; `progress` is told now and then how much is over, 0 to 1.
pub fn visit(station: &Station, progress: &(dyn Fn(f64) + Sync)) -> io::Result<Part> {
    let settings = Settings { cpus: 2, memory: 256 << 20, seed: 1, limit: Limit::Time(TIME) };
    match station {
        Station::Recording(recording) => recording.replay(progress),
        Station::Workload(workload) => workload::run(*workload, &settings, progress),
    }
}
