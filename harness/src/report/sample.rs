//! Two parts with made-up numbers, for the tests of the table and of the report.

use super::part::{Count, Part, PartKind, Sample};

/// A trace and a workload.
pub(crate) fn parts() -> Vec<Part> {
    ["git", "<server>"].into_iter().map(part).collect()
}

fn part(name: &str) -> Part {
    let sample = |tenth: u32| Sample {
        seconds: f64::from(tenth) / 10.0,
        used_bytes: u64::from(tenth) << 20,
        table_bytes: u64::from(tenth) << 12,
    };
    Part {
        name: name.into(),
        kind: PartKind::Workload,
        failures: Vec::new(),
        seconds: 2.0,
        operations: 123_456,
        faults: vec![Count::new("zero", 700), Count::new("file", 200), Count::new("write", 100)],
        copies: 90,
        pages_in: 210,
        pages_out: 7,
        peak_bytes: 20 << 20,
        table_bytes: 20 << 12,
        samples: (0..20).map(sample).collect(),
        details: vec![Count::new("forks", 12)],
        locks: Vec::new(),
    }
}
