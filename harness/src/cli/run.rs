//! `rumpvm run`: one workload, its numbers, its verdict.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::{Verdict, output, progress};
use crate::report::{self, Part};
use crate::values;
use crate::workload::{self, Limit, Settings, Workload};

#[derive(Args)]
pub(super) struct RunArgs {
    /// Which workload.
    #[arg(value_enum)]
    workload: Workload,

    /// CPUs of the machine.
    #[arg(long, default_value = "2", value_parser = values::cpus(), value_name = "N")]
    cpus: usize,

    /// Memory of the machine: 512M, 2G...
    #[arg(long, default_value = "256M", value_parser = values::memory, value_name = "SIZE")]
    memory: u64,

    /// What random choices follow from.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,

    /// How long to go on: 60s, 2m...
    #[arg(long, default_value = "10s", value_parser = values::time, value_name = "TIME")]
    time: Duration,

    /// End after so many rounds of each worker instead, whatever time they take.
    ///
    /// What is counted then follows from the seed alone, as long as memory lasts.
    #[arg(
        long,
        conflicts_with = "time",
        value_parser = clap::value_parser!(u64).range(1..),
        value_name = "NUMBER"
    )]
    rounds: Option<u64>,

    /// Also write an HTML report with plots.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Print the result as JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Runs the workload.
pub(super) fn run(arguments: &RunArgs) -> Result<Verdict> {
    let limit = arguments.rounds.map_or(Limit::Time(arguments.time), Limit::Rounds);
    let (cpus, memory, seed) = (arguments.cpus, arguments.memory, arguments.seed);
    let settings = Settings { cpus, memory, seed, limit };
    let name = arguments.workload.name();
    if let Some(path) = &arguments.report {
        output::can_write(path)?;
    }
    let part =
        progress::shown(name, |progress| workload::run(arguments.workload, &settings, progress));
    let part = part.with_context(|| format!("{name} cannot start"))?;
    let parts = [part];
    if let Some(path) = &arguments.report {
        let about = format!("{name}, {cpus} CPUs, {}, seed {seed}", report::bytes(memory));
        report::write(path, &parts, &about)
            .with_context(|| format!("cannot write the report {}", path.display()))?;
    }
    let [part] = parts;
    if arguments.json {
        print_json(&part, &settings)?
    } else {
        print_text(&part)?
    }
    Ok(Verdict::of(part.passed()))
}

fn print_json(part: &Part, settings: &Settings) -> Result<()> {
    let whole = json!({
        "cpus": settings.cpus,
        "memory": settings.memory,
        "seed": settings.seed,
        "passed": part.passed(),
        "result": part,
    });
    output::say(serde_json::to_string_pretty(&whole)?)
}

fn print_text(part: &Part) -> Result<()> {
    output::say(report::text(std::slice::from_ref(part)))?;
    for detail in &part.details {
        output::say(format_args!("{:>16}  {}", report::count(detail.count), detail.what))?;
    }
    if !part.locks.is_empty() {
        output::say(report::locks(&part.locks))?;
    }
    for failure in &part.failures {
        eprintln!("FAILED: {failure}");
    }
    if part.passed() {
        output::say("check passed")?;
    }
    Ok(())
}
