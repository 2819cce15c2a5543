//! The scenarios, by report. To add one, write a file with a `pub(super) fn table()` and add it here.

mod attach;
mod cache;
mod classic;
mod device;
mod error_paths;
mod exec;
mod foreign_space;
mod frozen;
mod handler;
mod holes;
mod litter;
mod mappings;
mod noted;
mod per_cpu;
mod prefault;
mod primitives;
mod records;
mod regions;
mod resize;
mod sleep_locks;
mod spin_locks;
mod table_count;
mod tokens;
mod two_calls;
mod wait;
mod write_out;
mod zones;

use crate::Scenario;

/// All of them: first what the reports are about, then what it is built of.
pub fn all() -> Vec<Scenario> {
    [
        error_paths::table(),
        foreign_space::table(),
        prefault::table(),
        frozen::table(),
        two_calls::table(),
        litter::table(),
        table_count::table(),
        regions::table(),
        write_out::table(),
        holes::table(),
        noted::table(),
        cache::table(),
        classic::table(),
        zones::table(),
        device::table(),
        mappings::table(),
        resize::table(),
        records::table(),
        per_cpu::table(),
        attach::table(),
        wait::table(),
        exec::table(),
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
