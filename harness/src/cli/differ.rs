//! `rumpvm differ`: random programs on the host's Linux and on rumpvm; a difference, shrunk and printed.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::json;

use super::{Verdict, output, progress};
use crate::differ::{
    Difference, Ground, Hunt, MOST_PROCESSES, Ours, Program, Settings, TABLE, Voices, hunt, one,
    tell_c, tell_rust,
};
use crate::linux::Linux;
use crate::report;

#[derive(Args)]
pub(super) struct DifferArgs {
    /// Calls and accesses to compare.
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ops: u64,

    /// What the programs follow from.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,

    /// Most processes of a program.
    #[arg(long, default_value_t = MOST_PROCESSES, value_name = "P", value_parser = clap::value_parser!(u8).range(1..=MOST_PROCESSES as i64))]
    processes: u8,

    /// Threads that compare; as many as there are processors if nothing is said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,

    /// Compare one program, as it was printed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ops", "seed", "processes", "threads"])]
    program: Option<PathBuf>,

    /// Print what differs by design, with the reasons, and what this host does not have.
    #[arg(long)]
    by_design: bool,

    /// Print the result as JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Compares what was asked for.
pub(super) fn differ(arguments: &DifferArgs) -> Result<Verdict> {
    let mut linux = Linux::new().context("no process of the host can be made")?;
    let ground = Ground::of_host(&mut linux).context("the host cannot be asked")?;
    drop(linux);
    if arguments.by_design {
        return by_design(&ground);
    }
    if let Some(path) = &arguments.program {
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let program: Program = text.parse().map_err(|error: String| anyhow!(error))?;
        return compare_one(&program, &ground);
    }
    let lanes = arguments.threads.map_or_else(processors, usize::from);
    let (ops, seed, processes) = (arguments.ops, arguments.seed, arguments.processes);
    let settings = Settings { ops, seed, processes, lanes };
    let hunted =
        progress::shown("differ", |share| hunt(&settings, &ground, &|| voices(&ground), share))?;
    if arguments.json {
        output::say(as_json(&settings, &ground, &hunted))?;
    } else {
        say(&settings, &ground, &hunted)?;
    }
    Ok(Verdict::of(hunted.found.is_none()))
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn voices(ground: &Ground) -> io::Result<Voices> {
    Ok((Box::new(Linux::new()?), Box::new(Ours::new(ground)?)))
}

fn by_design(ground: &Ground) -> Result<Verdict> {
    for row in TABLE {
        output::say(format_args!("{}\n    {}", row.what, row.reason))?;
    }
    output::say(format_args!("\nOn this host (Linux {}):", ground.release))?;
    for note in &ground.notes {
        output::say(format_args!("    {note}"))?;
    }
    Ok(Verdict::Clean)
}

fn compare_one(program: &Program, ground: &Ground) -> Result<Verdict> {
    if program.ops.is_empty() {
        bail!("the program has no steps");
    }
    let difference = one(program, voices(ground)?)?;
    match &difference {
        None => output::say("no difference")?,
        Some(difference) => told(program, difference)?,
    }
    Ok(Verdict::of(difference.is_none()))
}

fn say(settings: &Settings, ground: &Ground, hunted: &Hunt) -> Result<()> {
    for note in &ground.notes {
        output::say(format_args!("note: {note}"))?;
    }
    let rate = hunted.ops as f64 / hunted.seconds;
    output::say(format_args!(
        "{} steps of {} programs compared with Linux {} in {:.1} s, {}/s; seed {}",
        report::count(hunted.ops),
        report::count(hunted.programs),
        ground.release,
        hunted.seconds,
        report::short(rate),
        settings.seed,
    ))?;
    if hunted.taken > 0 {
        output::say(format_args!(
            "in {} of them something was not in memory, and was when asked again",
            report::count(hunted.taken)
        ))?;
    }
    let Some(found) = &hunted.found else { return output::say("no difference") };
    output::say(format_args!(
        "\nProgram {} differs. Its {} steps, shrunk to {}:\n\n{}",
        found.number,
        found.steps,
        found.program.ops.len(),
        found.program,
    ))?;
    told(&found.program, &found.difference)
}

/// The difference, and the program in both languages.
fn told(program: &Program, difference: &Difference) -> Result<()> {
    let op = &program.ops[difference.step];
    let place = difference.place();
    output::say(format_args!(
        "Step {}, `{op}`:\n  Linux:  {place}{}\n  rumpvm: {place}{}\n",
        difference.step, difference.linux, difference.ours
    ))?;
    output::say(format_args!("As Rust:\n\n{}", tell_rust(program, difference)))?;
    output::say(format_args!("As C:\n\n{}", tell_c(program, difference)))
}

fn as_json(settings: &Settings, ground: &Ground, hunted: &Hunt) -> serde_json::Value {
    let found = hunted.found.as_ref().map(|found| {
        json!({
            "number": found.number,
            "program": found.program.to_string(),
            "step": found.difference.step,
            "linux": found.difference.linux,
            "rumpvm": found.difference.ours,
            "rust": tell_rust(&found.program, &found.difference),
            "c": tell_c(&found.program, &found.difference),
        })
    });
    json!({
        "release": ground.release,
        "notes": ground.notes,
        "seed": settings.seed,
        "programs": hunted.programs,
        "ops": hunted.ops,
        "seconds": hunted.seconds,
        "taken": hunted.taken,
        "found": found,
    })
}
