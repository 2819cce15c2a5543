//! The story of a failure: one column for each CPU, one line for each step, then what broke.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rumpvm_hosted::explored::{Agent, Failure, Line, Outcome};

/// Width of a column.
const COLUMN: usize = 58;

/// Most lines of a story; of a longer one the end is told.
const LINES: usize = 120;

/// The story of `outcome` as text. With `whole` every step is told, otherwise those that two agents had to do with,
/// and what went wrong. Where a CPU goes from one agent to another, the line begins with the other one's number, as
/// schedules have it, and his name.
pub fn tell(outcome: &Outcome, whole: bool) -> String {
    let mut text = String::new();
    let lines = if whole { outcome.story.iter().collect() } else { matter(&outcome.story) };
    let cpus = 1 + outcome.story.iter().map(|line| line.cpu).max().unwrap_or(0);
    let skipped = lines.len().saturating_sub(if whole { usize::MAX } else { LINES });
    let heads: Vec<String> =
        (0..cpus).map(|cpu| format!("{:COLUMN$}", format!("CPU {cpu}"))).collect();
    let _ = writeln!(text, "{}", heads.concat().trim_end());
    if skipped > 0 {
        let _ = writeln!(text, "... {skipped} steps before");
    }
    let mut last: Vec<Option<Agent>> = vec![None; cpus];
    for line in lines.into_iter().skip(skipped) {
        let _ = write!(text, "{:indent$}", "", indent = COLUMN * line.cpu);
        if last[line.cpu].replace(line.agent) != Some(line.agent) {
            let _ = write!(text, "{} {}: ", line.agent.index(), line.who);
        }
        let _ = writeln!(text, "{}", one(line));
    }
    if let Some(failure) = &outcome.failure {
        let _ = writeln!(text, "\n{}", why(failure));
    }
    text
}

/// Why a run failed, and where, in a sentence.
pub fn why(failure: &Failure) -> String {
    let mut text = format!("{}: {}", failure.kind.name(), failure.message);
    if let Some(place) = &failure.place
        && !failure.message.contains(place)
    {
        let _ = write!(text, " at {place}");
    }
    text
}

fn one(line: &Line) -> String {
    let mut text = line.what.clone();
    if let Some(function) = &line.function {
        let _ = write!(text, " in {function}");
    }
    if let Some(site) = line.site {
        let file = site.file().strip_prefix("rumpvm/src/").unwrap_or(site.file());
        let _ = write!(text, ", {file}:{}", site.line());
    }
    if !line.held.is_empty() {
        let _ = write!(text, " [{}]", line.held.join(", "));
    }
    text
}

/// The steps that matter: on words that more than one agent touched and one of them wrote, and all that is no step on
/// a word; but not what locks do inside.
fn matter(story: &[Line]) -> Vec<&Line> {
    let mut words: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
    for line in story {
        let (agents, written) = words.entry(line.on.at).or_default();
        *agents |= 1 << line.agent.index();
        *written |= line.on.writes;
    }
    let matters = |line: &&Line| {
        line.on.at == 0 || matches!(words[&line.on.at], (agents, true) if agents.count_ones() > 1)
    };
    story.iter().filter(|line| !line.inner).filter(matters).collect()
}
