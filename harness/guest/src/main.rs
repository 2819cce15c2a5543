//! The five workloads as a program: the sources of `harness/src/workload`, on real processes, threads and system calls.
//!
//! Usage: load WORKLOAD SEED MEMORY ROUNDS, with a SI letter behind the memory or `free` for what is free. Runs on Linux
//! and in the boot image alike; ends with one line, and with status 1 if a byte was wrong or a call failed that must not.
//!
//! Flow:  a workload -> `worker`, `files`, `board`, which have the same names as in the harness -> `system` -> calls.
//! Owns:  a folder for the files, which goes at the end.
//!
//! What differs from the harness: an instruction fetch is a load, because what lies in the files is no code; and who runs
//! out of memory is killed by the kernel.

// The workloads use some verbs each; here they are all of one program.
#[path = "../../src/workload/bigbuffer.rs"]
mod bigbuffer;
mod board;
#[path = "../../src/workload/bulkbuild.rs"]
mod bulkbuild;
#[path = "../../src/workload/content.rs"]
mod content;
mod files;
mod load;
#[path = "../../src/workload/mapstorm.rs"]
mod mapstorm;
#[path = "../../src/workload/pattern.rs"]
mod pattern;
#[path = "../../src/workload/server.rs"]
mod server;
#[path = "../../src/workload/slot.rs"]
mod slot;
mod stop;
mod system;
#[path = "../../src/workload/tuxload.rs"]
mod tuxload;
mod worker;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use load::{Load, Settings};
use stop::Stop;
use worker::Worker;

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

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(settings) = Settings::read(&words) else {
        eprintln!(
            "usage: load tuxload|bulkbuild|bigbuffer|server|mapstorm SEED MEMORY|free ROUNDS"
        );
        return ExitCode::from(2);
    };
    match run(settings) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> io::Result<ExitCode> {
    system::catch_faults()?;
    system::share(settings.again.as_ref().map(|again| again.board))?;
    let job = prepare(&settings)?;
    let load = Arc::new(Load::new(settings));
    if let Some(again) = &load.settings.again {
        let status = worker::run(&load, again.number, |worker| job.program(worker, again.word));
        return Ok(ExitCode::from(status as u8));
    }
    worker::run(&load, 0, |worker| job.clone().start(worker));
    load.join();
    if load.failures() == 0
        && let Err(story) = job.verify()
    {
        load.fail(&story);
    }
    files::remove()?;
    println!("{}", load.story());
    Ok(if load.failures() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn prepare(settings: &Settings) -> io::Result<Arc<dyn Job>> {
    Ok(match settings.workload.as_str() {
        "tuxload" => Arc::new(tuxload::Tuxload::prepare(settings)?),
        "bulkbuild" => Arc::new(bulkbuild::Bulkbuild::prepare(settings)?),
        "bigbuffer" => Arc::new(bigbuffer::Bigbuffer::prepare(settings)),
        "server" => Arc::new(server::Server::prepare(settings)),
        "mapstorm" => Arc::new(mapstorm::Mapstorm::prepare(settings)?),
        other => return Err(io::Error::other(format!("there is no workload {other}"))),
    })
}
