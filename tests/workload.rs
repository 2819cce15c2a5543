//! Every workload ends with right data and clean books, whatever the seed, and with little memory too.

use rumpvm_harness::report::Part;
use rumpvm_harness::workload::{Limit, Settings, Workload, run};

fn settings(cpus: usize, megabytes: u64, seed: u64, rounds: u64) -> Settings {
    Settings { cpus, memory: megabytes << 20, seed, limit: Limit::Rounds(rounds) }
}

/// Runs `workload`, which must pass.
fn passed(workload: Workload, settings: &Settings) -> Part {
    let part = run(workload, settings, &|_| ()).expect("the host has room for the files");
    assert!(part.passed(), "{workload:?} {settings:?}: {:#?}", part.failures);
    part
}

fn counted(part: &Part, what: &str) -> u64 {
    part.details.iter().find(|count| count.what == what).map_or(0, |count| count.count)
}

#[test]
fn every_workload_ends_clean_for_three_seeds() {
    for workload in Workload::ALL {
        for seed in 1..=3 {
            let part = passed(workload, &settings(2, 64, seed, 3));
            assert!(part.operations > 0, "{workload:?} did nothing");
        }
    }
}

#[test]
fn the_same_seed_on_one_cpu_gives_the_same_counts() {
    for workload in Workload::ALL {
        let settings = settings(1, 64, 7, 3);
        let (one, other) = (passed(workload, &settings), passed(workload, &settings));
        assert_eq!(one.details, other.details, "{workload:?}");
    }
}

#[test]
fn another_seed_gives_other_counts() {
    let [one, other] = [1, 2].map(|seed| passed(Workload::Mapstorm, &settings(1, 64, seed, 3)));
    assert_ne!(one.details, other.details);
}

#[test]
fn a_buffer_larger_than_memory_ends_its_process_and_nothing_else() {
    // Every fourth buffer is too large.
    let part = passed(Workload::Bigbuffer, &settings(2, 32, 1, 8));
    assert!(counted(&part, "out of memory") >= 2, "{part:#?}");
}

#[test]
fn out_of_memory_leaves_the_machine_clean_in_every_workload() {
    for workload in Workload::ALL {
        passed(workload, &settings(2, 4, 1, 3));
    }
}
