//! An [`Outcome`] as text for people.

use std::fmt::{self, Display, Formatter};

use rumpvm_arch::PAGE_SIZE;

use super::outcome::{Moment, Outcome, Tally};
use crate::report;

/// Disagreements and broken lines shown one by one; the rest is counted. JSON has them all.
const SHOWN: usize = 20;

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        calls(self, f)?;
        memory(self, f)?;
        lists(self, f)?;
        verdict(self, f)
    }
}

fn calls(outcome: &Outcome, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "{:<10} {:>9} {:>9} {:>9} {:>9}", "call", "made", "agreed", "untold", "differ")?;
    for (kind, tally) in &outcome.calls {
        row(f, kind, tally)?;
    }
    row(f, "all", &Tally::sum(outcome.calls.values()))
}

fn row(f: &mut Formatter<'_>, kind: &str, tally: &Tally) -> fmt::Result {
    let Tally { calls, agreed, disagreed, untold } = tally;
    writeln!(f, "{kind:<10} {calls:>9} {agreed:>9} {untold:>9} {disagreed:>9}")
}

fn memory(outcome: &Outcome, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "\nprocesses: {}; further threads: {}; lines: {}; seconds: {:.2}",
        outcome.processes, outcome.threads, outcome.lines, outcome.seconds
    )?;
    let faults: Vec<String> =
        outcome.faults.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    writeln!(f, "faults: {}", faults.join(", "))?;
    writeln!(
        f,
        "pages: {} copied, {} read from files, {} written to files",
        outcome.pages_copied, outcome.pages_in, outcome.pages_out
    )?;
    let peak = outcome.peak;
    writeln!(
        f,
        "memory: at most {} in use, {} of it page tables ({})",
        report::bytes(peak.frames * PAGE_SIZE),
        report::bytes(peak.table_frames * PAGE_SIZE),
        report::percent(peak.table_frames as f64 / peak.frames.max(1) as f64)
    )?;
    writeln!(f, "        {}", bars(outcome))?;
    let touches = outcome.touches;
    writeln!(f, "touched: {} pages, {} without memory", touches.pages, touches.without_memory)?;
    forks(outcome, f)
}

fn forks(outcome: &Outcome, f: &mut Formatter<'_>) -> fmt::Result {
    let forks = outcome.forks;
    if forks.count == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "forks: {} of them; copied page tables would have cost {} entries in {} tables; sharing them \
         cost {} tables and {} amap nodes later",
        forks.count,
        forks.entries_shared,
        forks.tables_shared,
        forks.tables_unshared,
        forks.nodes_unshared
    )
}

/// Memory in use over the calls, one column of eight heights for each part of the recording.
fn bars(outcome: &Outcome) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const COLUMNS: usize = 64;
    let step = outcome.curve.len().div_ceil(COLUMNS).max(1);
    let most = outcome.peak.frames.max(1);
    let highest = |part: &[Moment]| part.iter().map(|moment| moment.frames).max().unwrap_or(0);
    let height = |frames: u64| HEIGHTS[((frames * 7).div_ceil(most) as usize).min(7)];
    outcome.curve.chunks(step).map(|part| height(highest(part))).collect()
}

fn lists(outcome: &Outcome, f: &mut Formatter<'_>) -> fmt::Result {
    if outcome.inferred.pages > 0 {
        let (pages, places) = (outcome.inferred.pages, outcome.inferred.places.told());
        writeln!(f, "inferred: {pages} pages that exec had mapped, for {places}")?;
    }
    for (why, places) in &outcome.untold {
        writeln!(f, "untold: {}: {why}", places.told())?;
    }
    for (name, count) in &outcome.not_replayed {
        writeln!(f, "not replayed: {count} {name}")?;
    }
    for broken in outcome.broken.iter().take(SHOWN) {
        writeln!(f, "broken: line {}: {}", broken.line, broken.reason)?;
    }
    more(f, "broken lines", outcome.broken.len())
}

fn verdict(outcome: &Outcome, f: &mut Formatter<'_>) -> fmt::Result {
    for it in outcome.disagreements.iter().take(SHOWN) {
        writeln!(
            f,
            "DISAGREES: line {}: {}: {}: Linux {}, rumpvm {}",
            it.line, it.task, it.call, it.linux, it.rumpvm
        )?;
    }
    more(f, "disagreements", outcome.disagreements.len())?;
    match &outcome.check {
        Some(story) => writeln!(f, "CHECK FAILED: {story}"),
        None if outcome.agrees => writeln!(f, "rumpvm agrees with Linux; check found nothing"),
        None => writeln!(f, "rumpvm does not agree with Linux; check found nothing"),
    }
}

fn more(f: &mut Formatter<'_>, what: &str, count: usize) -> fmt::Result {
    if count > SHOWN { writeln!(f, "... {} {what} in all", count) } else { Ok(()) }
}
