//! `rumpvm replay`: recordings, one after another, and whether Linux and rumpvm agree.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Verdict, output, progress};
use crate::replay::{self, Outcome, ReplayArgs};

/// Replays every file that was named. One that is refused does not keep the others from their turn, but the
/// command fails in the end.
pub(super) fn replay(arguments: &ReplayArgs) -> Result<Verdict> {
    let mut outcomes = Vec::new();
    let mut refused = None;
    for path in &arguments.files {
        match one(path, arguments) {
            Ok(outcome) => {
                if !arguments.json {
                    output::say(format_args!("{}\n{outcome}", path.display()))?;
                }
                outcomes.push((path, outcome));
            }
            Err(error) => {
                if let Some(earlier) = refused.replace(error) {
                    eprintln!("rumpvm: {earlier:#}");
                }
            }
        }
    }
    if arguments.json {
        let whole: Vec<_> = outcomes
            .iter()
            .map(|(path, outcome)| json!({ "file": path.display().to_string(), "result": outcome }))
            .collect();
        output::say(serde_json::to_string_pretty(&whole)?)?;
    }
    if let Some(error) = refused {
        return Err(error);
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
