//! The scenarios, by report. To add one, write a file with a `pub(super) fn table()` and add it here.

mod cache;
mod device;
mod error_paths;
mod foreign_space;
mod handler;
mod litter;
mod per_cpu;
mod prefault;
mod primitives;
mod records;
mod resize;
mod sleep_locks;
mod spin_locks;
mod table_count;
mod tokens;
mod two_calls;
mod wait;
mod write_out;

use crate::Scenario;

/// All of them, in the order of the reports.
pub fn all() -> Vec<Scenario> {
    [
        error_paths::table(),
        foreign_space::table(),
        prefault::table(),
        two_calls::table(),
        litter::table(),
        table_count::table(),
        write_out::table(),
        cache::table(),
        device::table(),
        resize::table(),
        records::table(),
        per_cpu::table(),
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
