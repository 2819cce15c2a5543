//! The scenarios, by report. To add one, write a file with a `pub(super) fn table()` and add it here.

mod cache;
mod device;
mod error_paths;
mod foreign_space;
mod litter;
mod per_cpu;
mod prefault;
mod records;
mod table_count;
mod write_out;

use crate::Scenario;

/// All of them, in the order of the reports.
pub fn all() -> Vec<Scenario> {
    [
        error_paths::table(),
        foreign_space::table(),
        prefault::table(),
        litter::table(),
        table_count::table(),
        write_out::table(),
        cache::table(),
        device::table(),
        records::table(),
        per_cpu::table(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The scenario of that name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}
