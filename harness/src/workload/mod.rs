//! Workloads: programs that press on the memory of a machine, check every byte they read back, and
//! count.
//!
//! Flow:  settings -> a machine -> the workload's processes (`worker` is what they see of it) -> `Part`.
//! Owns:  the machine for the time of one run, and a folder for the files that it maps.
//!
//! The workloads themselves know only `worker`, `files`, `board`, `stop` and this file's types, and nothing of the
//! machine: `harness/guest` builds the same sources with real processes and system calls behind the same names.
//!
//! W1. Every load is compared with what must be there: a wrong byte is a failure.
//! W2. A process without memory ends, as by SIGKILL, and is counted; the others go on.
//! W3. What a worker does follows from the run's seed and the worker's number, not from other workers.

mod bigbuffer;
mod board;
mod bulkbuild;
mod content;
mod files;
mod load;
mod mapstorm;
mod measure;
mod pattern;
mod server;
mod slot;
mod stop;
mod tuxload;
mod worker;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::report::Part;
use stop::Stop;
use worker::Worker;

/// The workloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Processes that map many files shared, dirty a byte here and there, and write them back.
    Tuxload,
    /// Storms of fork, exec, map, dirty and exit, as a parallel package build makes them.
    Bulkbuild,
    /// One buffer almost as large as memory, filled, read and given back; sometimes one too large.
    Bigbuffer,
    /// A preforking server: children answer requests on copy-on-write data and are replaced.
    Server,
    /// A hundred threads in one address space: random mmap, mprotect, munmap.
    Mapstorm,
}

impl Workload {
    /// Every workload, in the order of the tour.
    pub const ALL: [Self; 5] =
        [Self::Tuxload, Self::Bulkbuild, Self::Bigbuffer, Self::Server, Self::Mapstorm];

    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tuxload => "tuxload",
            Self::Bulkbuild => "bulkbuild",
            Self::Bigbuffer => "bigbuffer",
            Self::Server => "server",
            Self::Mapstorm => "mapstorm",
        }
    }
}

/// The machine and the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// CPUs of the machine.
    pub cpus: usize,
    /// Bytes of memory of the machine.
    pub memory: u64,
    /// What random choices follow from.
    pub seed: u64,
    /// When to end.
    pub limit: Limit,
}

/// When a run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// After this time.
    Time(Duration),
    /// After so many rounds of each worker. What is counted then follows from the seed alone, as long
    /// as memory lasts.
    Rounds(u64),
}

/// Runs `workload` on a machine of its own. `progress` is told now and then how much is over, 0 to 1.
///
/// What goes wrong in the machine is in the part's failures; the error is the host's: no room for the
/// files or for the machine.
pub fn run(
    workload: Workload,
    settings: &Settings,
    progress: &(dyn Fn(f64) + Sync),
) -> io::Result<Part> {
    let job: Arc<dyn Job> = match workload {
        Workload::Tuxload => Arc::new(tuxload::Tuxload::prepare(settings)?),
        Workload::Bulkbuild => Arc::new(bulkbuild::Bulkbuild::prepare(settings)?),
        Workload::Bigbuffer => Arc::new(bigbuffer::Bigbuffer::prepare(settings)),
        Workload::Server => Arc::new(server::Server::prepare(settings)),
        Workload::Mapstorm => Arc::new(mapstorm::Mapstorm::prepare(settings)?),
    };
    measure::measure(workload.name(), job, settings, progress)
}

/// A workload that is ready to run.
trait Job: Send + Sync {
    /// What the first process does.
    fn start(self: Arc<Self>, worker: &mut Worker<'_>) -> Result<(), Stop>;

    /// What a process does after exec: it has its number, and one word from who started it.
    fn program(self: Arc<Self>, _: &mut Worker<'_>, word: u64) -> Result<(), Stop> {
        Err(Stop::Broken(format!("there is no program to start with {word}")))
    }

    /// What can be seen only after every process has ended and every file is closed.
    fn verify(&self) -> Result<(), String> {
        Ok(())
    }
}
