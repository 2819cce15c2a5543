//! From the component's statistics to the numbers of a part.

use std::time::Duration;

use rumpvm::stats::Statistics;
use rumpvm_arch::PAGE_SIZE;

use super::part::{Count, Part, PartKind, Sample};

/// A part but for what the component has counted.
pub struct Run {
    /// What it is called.
    pub name: String,
    /// What kind of part it is.
    pub kind: PartKind,
    /// What went wrong, a sentence each.
    pub failures: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
    /// How many operations it made.
    pub operations: u64,
    /// Curves over time.
    pub samples: Vec<Sample>,
    /// Counts that only this part has.
    pub details: Vec<Count>,
}

impl Run {
    /// The part, on a machine that has done nothing else and whose counts are `counted`.
    pub fn with_statistics(self, counted: &Statistics) -> Part {
        let tables = self.samples.iter().map(|sample| sample.table_bytes).max();
        Part {
            name: self.name,
            kind: self.kind,
            failures: self.failures,
            seconds: self.elapsed.as_secs_f64(),
            operations: self.operations,
            faults: faults(counted),
            copies: counted.faults_copy,
            pages_in: counted.pages_in,
            pages_out: counted.pages_out,
            peak_bytes: counted.frames_peak.saturating_sub(counted.frames_records) * PAGE_SIZE,
            table_bytes: tables.unwrap_or_default(),
            samples: self.samples,
            details: self.details,
            locks: Vec::new(),
        }
    }
}

impl Sample {
    /// What is in use, `at` this time after the start. The records of the frames are left out: they
    /// follow from the size of the machine and not from what it does.
    pub fn new(at: Duration, counted: &Statistics) -> Self {
        // Counts are read one after another while the machine runs on: a difference may be off by a few.
        let idle = counted.frames_free + counted.frames_records;
        let used = counted.frames_total.saturating_sub(idle);
        let tables = counted.tables_made.saturating_sub(counted.tables_freed);
        Self {
            seconds: at.as_secs_f64(),
            used_bytes: used * PAGE_SIZE,
            table_bytes: tables * PAGE_SIZE,
        }
    }
}

/// Faults by kind, as the table shows them. Those that found nothing to do, began again, failed, or grew
/// a stack first are few, and one kind.
fn faults(counted: &Statistics) -> Vec<Count> {
    let other = counted.faults_stack
        + counted.faults_spurious
        + counted.faults_retry
        + counted.faults_failed;
    vec![
        Count::new("zeroed", counted.faults_zero_fill),
        Count::new("zero page", counted.faults_zero_page),
        Count::new("copied", counted.faults_copy),
        Count::new("reused", counted.faults_reuse),
        Count::new("soft", counted.faults_soft),
        Count::new("pager", counted.faults_pager),
        Count::new("other", other),
    ]
}
