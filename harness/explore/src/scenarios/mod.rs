//! The scenarios, by report. To add one, write a file with a `pub(super) fn table()` and add it here.

mod handler;
mod prefault;
mod primitives;
mod sleep_locks;
mod spin_locks;
mod tokens;
mod wait;

use crate::Scenario;

/// All of them, in the order of the reports.
pub fn all() -> Vec<Scenario> {
    [
        prefault::table(),
        wait::table(),
        tokens::table(),
        sleep_locks::table(),
        spin_locks::table(),
        primitives::table(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The scenario of that name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}
