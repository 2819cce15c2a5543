//! Counting: judgements into an [`Outcome`].
//!
//! R2 of `driver` is kept here.

use super::judge::Judged;
use std::collections::BTreeMap;

use rumpvm::{Statistics, Vm};
use rumpvm_hosted::Hosted;

use super::curve::Curve;
use super::options::Touch;
use super::outcome::{BrokenLine, Disagreement, Forks, Inferred, Moment, Outcome, Places, Touches};
use super::touch::Touched;
use crate::trace::{Broken, LineNumber, Record, Task};

impl Outcome {
    /// Nothing counted yet.
    pub(super) fn new(policy: Touch, lines: u32) -> Self {
        Self {
            agrees: false,
            lines,
            calls: BTreeMap::new(),
            disagreements: Vec::new(),
            untold: BTreeMap::new(),
            not_replayed: BTreeMap::new(),
            broken: Vec::new(),
            inferred: Inferred::default(),
            processes: 0,
            threads: 0,
            touches: Touches { policy, pages: 0, without_memory: 0 },
            faults: BTreeMap::new(),
            pages_copied: 0,
            pages_in: 0,
            pages_out: 0,
            curve: Vec::new(),
            peak: Moment::default(),
            forks: Forks::default(),
            check: None,
            seconds: 0.0,
            statistics: Statistics::default(),
        }
    }

    /// Counts the call `record`, made by `task`.
    pub(super) fn count(&mut self, task: Task, record: &Record, judged: Judged) {
        if let Judged::NotReplayed { what } = judged {
            *self.not_replayed.entry(what).or_default() += 1;
            return;
        }
        let tally = self.calls.entry(record.call.kind().to_owned()).or_default();
        tally.calls += 1;
        match judged {
            Judged::Agreed | Judged::NotReplayed { .. } => tally.agreed += 1,
            Judged::Untold(why) => {
                tally.untold += 1;
                self.untold.entry(why).or_default().add(record.line);
            }
            Judged::Disagreed { rumpvm } => {
                tally.disagreed += 1;
                let (call, linux) = (record.call.to_string(), record.returned.to_string());
                let line = record.line;
                self.disagreements.push(Disagreement { line, task, call, linux, rumpvm });
            }
        }
    }

    /// Counts `pages` that had to be inferred for the call of `line`.
    pub(super) fn count_inferred(&mut self, line: LineNumber, pages: u64) {
        if pages > 0 {
            self.inferred.pages += pages;
            self.inferred.places.add(line);
        }
    }

    /// Counts what was touched after the call `record` of `task`.
    pub(super) fn count_touches(&mut self, task: Task, record: &Record, touched: Touched) {
        self.touches.pages += touched.pages;
        self.touches.without_memory += touched.without_memory;
        if let Some((at, error)) = touched.refused {
            self.disagreements.push(Disagreement {
                line: record.line,
                task,
                call: format!("use of {at} after {}", record.call),
                linux: "mapped".to_owned(),
                rumpvm: error.to_string(),
            });
        }
    }

    /// Takes over what the machine counted.
    pub(super) fn finish(&mut self, vm: &Vm<Hosted>, curve: Curve) {
        let statistics = vm.statistics();
        self.faults = faults(&statistics);
        self.pages_copied = statistics.faults_copy;
        self.pages_in = statistics.pages_in;
        self.pages_out = statistics.pages_out;
        self.forks.tables_unshared = statistics.tables_unshared;
        self.forks.nodes_unshared = statistics.nodes_unshared;
        self.statistics = statistics;
        (self.curve, self.peak) = curve.into_moments();
    }

    /// Lists the lines that could not be used.
    pub(super) fn list_broken(&mut self, broken: &[Broken]) {
        let told =
            |broken: &Broken| BrokenLine { line: broken.line, reason: broken.reason.to_string() };
        self.broken = broken.iter().map(told).collect();
    }
}

fn faults(statistics: &Statistics) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("zero-fill", statistics.faults_zero_fill),
        ("zero page", statistics.faults_zero_page),
        ("copy", statistics.faults_copy),
        ("reuse", statistics.faults_reuse),
        ("soft", statistics.faults_soft),
        ("pager", statistics.faults_pager),
        ("stack", statistics.faults_stack),
        ("spurious", statistics.faults_spurious),
        ("failed", statistics.faults_failed),
    ])
}

impl Places {
    /// `3 (lines 5, 9, 12)`.
    pub(super) fn told(&self) -> String {
        let lines: Vec<String> = self.first.iter().map(ToString::to_string).collect();
        let more = if self.count > lines.len() as u64 { ", ..." } else { "" };
        let word = if self.count == 1 { "line" } else { "lines" };
        format!("{} ({word} {}{more})", self.count, lines.join(", "))
    }
}
