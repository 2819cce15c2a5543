//! The scenarios, by report. To add one, write a file with a `pub(super) fn table()` and add it here.

mod prefault;

use crate::Scenario;

/// All of them, in the order of the reports.
pub fn all() -> Vec<Scenario> {
    [prefault::table()].into_iter().flatten().collect()
}

/// The scenario of that name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}
