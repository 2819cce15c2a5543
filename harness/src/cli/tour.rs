//! `rumpvm` without more: the tour, its table, its report.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::{Verdict, output, progress};
use crate::report::{self, Part};
use crate::tour::{self, Station};

/// Where the report goes, unless told otherwise.
const REPORT: &str = "rumpvm-report.html";

#[derive(Args, Default)]
pub(super) struct TourArgs {
    /// Where to write the HTML report [default: rumpvm-report.html].
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Goes from station to station and shows what was seen.
pub(super) fn tour(arguments: &TourArgs) -> Result<Verdict> {
    let path = arguments.report.clone().unwrap_or_else(|| REPORT.into());
    output::can_write(&path)?;
    let mut parts: Vec<Part> = Vec::new();
    for station in Station::all() {
        let name = station.name();
        let part = progress::shown(name, |progress| tour::visit(&station, progress));
        let part = part.with_context(|| format!("{name} cannot start"))?;
        progress::tell(&part);
        parts.push(part);
    }
    output::say(report::text(&parts))?;
    report::write(&path, &parts, "the tour: six recorded programs, five workloads")
        .with_context(|| format!("cannot write the report {}", path.display()))?;
    output::say(format_args!("report: {}", path.canonicalize().unwrap_or(path).display()))?;
    Ok(Verdict::of(parts.iter().all(Part::passed)))
}
