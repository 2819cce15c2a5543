//! `rumpvm replay`: recordings, one after another, and whether Linux and rumpvm agree.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Verdict, progress};
use crate::replay::{self, Outcome, ReplayArgs};

/// Replays every file that was named. One that is refused ends the command.
pub(super) fn replay(arguments: &ReplayArgs) -> Result<Verdict> {
    let mut outcomes = Vec::new();
    for path in &arguments.files {
        let outcome = one(path, arguments)?;
        if !arguments.json {
            println!("{}\n{outcome}", path.display());
        }
        outcomes.push((path, outcome));
    }
    if arguments.json {
        let whole: Vec<_> = outcomes
            .iter()
            .map(|(path, outcome)| json!({ "file": path.display().to_string(), "result": outcome }))
            .collect();
        println!("{}", serde_json::to_string_pretty(&whole)?);
    }
    Ok(Verdict::of(outcomes.iter().all(|(_, outcome)| outcome.agrees)))
}

fn one(path: &Path, arguments: &ReplayArgs) -> Result<Outcome> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let outcome = progress::shown(&name, |progress| {
        let mut told = |done: u64, all: u64| progress(done as f64 / all.max(1) as f64);
        replay::replay(path, &arguments.options, &mut told)
    });
    outcome.with_context(|| format!("cannot replay {}", path.display()))
}
