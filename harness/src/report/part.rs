//! What one part of a run did: a replayed trace or a workload, as numbers that a table, a plot or a
//! program can show.

use serde::Serialize;

/// One part of a run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Part {
    /// What it is called.
    pub name: String,
    /// What kind of part it is.
    pub kind: PartKind,
    /// What went wrong, a sentence each. Empty: every result was right and `check` passed.
    pub failures: Vec<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How many operations it made: calls and accesses of the programs, not of the component.
    pub operations: u64,
    /// Faults by kind; every part lists the same kinds in the same order.
    pub faults: Vec<Count>,
    /// Pages copied on write.
    pub copies: u64,
    /// Pages read from files.
    pub pages_in: u64,
    /// Pages written to files.
    pub pages_out: u64,
    /// Most bytes of frames in use at once; the records of the frames are left out.
    pub peak_bytes: u64,
    /// Most bytes of page tables seen at once.
    pub table_bytes: u64,
    /// Curves over time.
    pub samples: Vec<Sample>,
    /// What else is worth telling: counts that only this part has.
    pub details: Vec<Count>,
    /// What its locks went through, if they were counted (feature `lock-counters`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<LockRow>,
}

/// Which kind of part it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// The recorded memory of a real program.
    Trace,
    /// A synthetic load that checks its data.
    Workload,
}

/// Something counted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Count {
    /// What was counted.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// What was counted of one class of locks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LockRow {
    /// What the lock table calls it.
    pub class: String,
    /// Times taken.
    pub acquired: u64,
    /// Times waited for.
    pub contended: u64,
    /// Nanoseconds of the longest hold.
    pub longest: u64,
}

/// The memory in use at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub seconds: f64,
    /// Bytes of frames in use; the records of the frames are left out.
    pub used_bytes: u64,
    /// Bytes of them that are page tables.
    pub table_bytes: u64,
}

impl Part {
    /// Whether nothing went wrong.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// Operations per second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.operations as f64 / self.seconds } else { 0.0 }
    }

    /// Faults of all kinds.
    pub fn fault_count(&self) -> u64 {
        self.faults.iter().map(|fault| fault.count).sum()
    }

    /// Page tables as a share of all memory in use, when both were largest; 0 to 1.
    pub fn table_share(&self) -> f64 {
        if self.peak_bytes == 0 { 0.0 } else { self.table_bytes as f64 / self.peak_bytes as f64 }
    }
}

impl Count {
    /// `count` of `what`.
    pub fn new(what: impl Into<String>, count: u64) -> Self {
        Self { what: what.into(), count }
    }
}
