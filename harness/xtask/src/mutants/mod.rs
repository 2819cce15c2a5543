//! `cargo xtask mutants`: whether anybody would notice if the code were wrong.
//!
//! | mutants | are | have to be noticed by |
//! |---|---|---|
//! | by name, or all | patches of `tests/mutants` | the explorer |
//! | `--sites` | stores, fences, wake-ups and the like left out at run time | the explorer |
//! | `--ordinary` | small changes that cargo-mutants lists, switched at run time | the ordinary tests |

mod child;
mod explored;
mod hunter;
mod ordinary;
mod patch;
mod scratch;
mod sites;
mod survivors;

use anyhow::Result;
use clap::Args;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Patches of tests/mutants, without the ending; all of them if none is named.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Instead, each store, fence, wake-up and so on that can be left out or split at run time, in each place.
    #[arg(long, conflicts_with = "names")]
    sites: bool,
    /// Schedules for each of those.
    #[arg(long, value_name = "N", requires = "sites", default_value_t = sites::SCHEDULES)]
    schedules: u64,
    /// Instead, small changes that cargo-mutants lists, against the ordinary tests.
    #[arg(long, conflicts_with_all = ["names", "sites"])]
    ordinary: bool,
    /// Only every Nth of them, beginning with number K, from 0.
    #[arg(long, value_name = "K/N", requires = "ordinary", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Only those that survived the last run, after a change of the tests alone.
    #[arg(long, requires = "ordinary")]
    survivors: bool,
    /// Only by these tests, which are those that have changed since.
    #[arg(long, value_name = "NAME,...", requires = "survivors", value_delimiter = ',')]
    tests: Vec<String>,
}

/// Runs the mutants that the arguments name.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.ordinary {
        let Arguments { shard, survivors, .. } = *arguments;
        let tests = &arguments.tests;
        ordinary::run(&ordinary::Choice { shard, survivors, tests })
    } else if arguments.sites {
        sites::run(arguments.schedules)
    } else {
        explored::run(&arguments.names)
    }
}

/// `K/N`, K below N.
fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(k, n)| k < n).ok_or_else(|| "K/N, K from 0 and below N".to_owned())
}
