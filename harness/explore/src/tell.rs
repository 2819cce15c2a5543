//! The story of a failure: one column for each CPU, one line for each step, then what broke.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rumpvm_hosted::explored::{Line, Outcome};

/// Width of a column.
const COLUMN: usize = 58;

/// Most lines of a story; of a longer one the end is told.
const LINES: usize = 120;

/// The story of `outcome` as text. With `whole` every step is told, otherwise those that two CPUs had to do with.
pub fn tell(outcome: &Outcome, whole: bool) -> String {
    let mut text = String::new();
    let lines = if whole { outcome.story.iter().collect() } else { told(&outcome.story) };
    let cpus = 1 + outcome.story.iter().map(|line| line.cpu).max().unwrap_or(0);
    let skipped = lines.len().saturating_sub(if whole { usize::MAX } else { LINES });
    for cpu in 0..cpus {
        let _ = write!(text, "{:COLUMN$}", format!("CPU {cpu}"));
    }
    text.push('\n');
    if skipped > 0 {
        let _ = writeln!(text, "... {skipped} steps before");
    }
    for line in lines.into_iter().skip(skipped) {
        let _ = writeln!(text, "{:indent$}{}", "", one(line), indent = COLUMN * line.cpu);
    }
    if let Some(failure) = &outcome.failure {
        let _ = writeln!(text, "\n{}: {}", failure.kind.name(), failure.message);
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

/// The steps that matter: on words that more than one agent touched, and all that is no step on a word; but not
/// what locks do inside.
fn told(story: &[Line]) -> Vec<&Line> {
    let mut agents: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for line in story {
        if let Some(word) = word(&line.what) {
            let known = agents.entry(word).or_default();
            if !known.contains(&line.agent.index()) {
                known.push(line.agent.index());
            }
        }
    }
    let is_shared = |line: &&Line| word(&line.what).is_none_or(|word| agents[word].len() > 1);
    story.iter().filter(|line| !line.inner).filter(is_shared).collect()
}

/// The word that a step is on.
fn word(what: &str) -> Option<&str> {
    let start = what.find("word ")?;
    Some(&what[start..])
}
