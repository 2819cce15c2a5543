//! What came of a replay, as numbers and lists that a person or a program can read.

use std::collections::BTreeMap;

use rumpvm::Statistics;
use serde::Serialize;

use super::options::Touch;
use super::untold::Untold;
use crate::trace::{LineNumber, Task};

/// The result of one recording.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outcome {
    /// Whether rumpvm did all that Linux did: no disagreement, and `check` found nothing.
    pub agrees: bool,
    /// Lines of the recording.
    pub lines: u32,
    /// Calls by kind.
    pub calls: BTreeMap<String, Tally>,
    /// Each result that was not Linux's.
    pub disagreements: Vec<Disagreement>,
    /// Results that cannot be compared, by the reason.
    pub untold: BTreeMap<Untold, Places>,
    /// Calls that were not replayed, because they change no address space or in a way that is not
    /// modelled, by name.
    pub not_replayed: BTreeMap<String, u64>,
    /// Lines that could not be used.
    pub broken: Vec<BrokenLine>,
    /// Mappings that the kernel made itself at exec, found out from later calls.
    pub inferred: Inferred,
    /// Processes that ran.
    pub processes: u64,
    /// Threads beyond the first of each process.
    pub threads: u64,
    /// Pages touched between the calls.
    pub touches: Touches,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Pages copied on write.
    pub pages_copied: u64,
    /// Pages read from files.
    pub pages_in: u64,
    /// Pages written to files.
    pub pages_out: u64,
    /// Memory over the calls.
    pub curve: Vec<Moment>,
    /// The moment with most memory in use.
    pub peak: Moment,
    /// What forks would have cost, and did.
    pub forks: Forks,
    /// What `check` found at the end.
    pub check: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// All that the machine has counted.
    #[serde(skip)]
    pub statistics: Statistics,
}

/// Counts of one kind of call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Tally {
    /// All of them.
    pub calls: u64,
    /// With Linux's result.
    pub agreed: u64,
    /// With another result.
    pub disagreed: u64,
    /// With a result that cannot be compared.
    pub untold: u64,
}

/// A result that was not Linux's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Disagreement {
    /// The line with Linux's result.
    pub line: LineNumber,
    /// Who made the call.
    pub task: Task,
    /// The call.
    pub call: String,
    /// What Linux returned.
    pub linux: String,
    /// What rumpvm returned.
    pub rumpvm: String,
}

/// Some lines.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Places {
    /// How many.
    pub count: u64,
    /// The first few of them.
    pub first: Vec<LineNumber>,
}

/// A line that could not be used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BrokenLine {
    /// Which.
    pub line: LineNumber,
    /// Why.
    pub reason: String,
}

/// Mappings that no call of the recording made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Inferred {
    /// Pages in them.
    pub pages: u64,
    /// Where they were needed.
    pub places: Places,
}

/// What was touched between the calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Touches {
    /// By which policy.
    pub policy: Touch,
    /// Pages touched.
    pub pages: u64,
    /// Touches that the machine had no memory for.
    pub without_memory: u64,
}

/// Memory in use at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Moment {
    /// Seconds since the replay began.
    pub seconds: f64,
    /// Calls made before.
    pub calls: u64,
    /// Frames in use, those of page tables included.
    pub frames: u64,
    /// Frames that are page tables.
    pub table_frames: u64,
}

/// What forks cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Forks {
    /// How many there were.
    pub count: u64,
    /// Resident pages of all parents: entries that a fork which copies page tables would have written.
    pub entries_shared: u64,
    /// Page-table pages of all parents: what such a fork would have made.
    pub tables_shared: u64,
    /// Page-table pages that had to be made after all, because somebody wrote below them.
    pub tables_unshared: u64,
    /// Amap nodes that had to be copied because somebody wrote below them.
    pub nodes_unshared: u64,
}

/// How many lines [`Places`] keeps.
const PLACES_KEPT: usize = 5;

impl Places {
    /// Counts `line`.
    pub(super) fn add(&mut self, line: LineNumber) {
        self.count += 1;
        if self.first.len() < PLACES_KEPT {
            self.first.push(line);
        }
    }
}

impl Tally {
    /// The sum of the counts of several kinds.
    pub fn sum<'a>(tallies: impl IntoIterator<Item = &'a Self>) -> Self {
        tallies.into_iter().fold(Self::default(), |sum, one| Self {
            calls: sum.calls + one.calls,
            agreed: sum.agreed + one.agreed,
            disagreed: sum.disagreed + one.disagreed,
            untold: sum.untold + one.untold,
        })
    }
}
