//! Every case of `rumpvm-cases`, in every page-table format, each on a machine of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rumpvm_arch::{Format, I386, Pae, X86_64, X86_64La57};
use rumpvm_cases::{Case, all};
use rumpvm_harness::machine::Machine;
use rumpvm_hosted::Hosted;
use rumpvm_tests::is_short;

const MEMORY: u64 = 16 << 20;

/// Runs one case, then asks whether everything is sound and nothing is left.
fn run<F: Format>(case: Case<Hosted<F>>) {
    let machine = Machine::builder().memory(MEMORY).cpus(2).format::<F>().build();
    machine.on_cpu(move |vm| (case.run)(vm));
    machine.check();
    let made = machine.vm().statistics();
    assert_eq!(made.tables_made, made.tables_freed, "tables are left");
    assert_eq!(made.nodes_made, made.nodes_freed, "nodes are left");
}

/// Runs every case, and names those that failed.
fn run_all<F: Format>() {
    let mut failed = Vec::new();
    for case in all::<Hosted<F>>() {
        let name = format!("{}: {}", case.subject, case.name);
        if catch_unwind(AssertUnwindSafe(|| run(case))).is_err() {
            eprintln!("case {name} failed in {}", F::NAME);
            failed.push(name);
            if is_short() {
                break;
            }
        }
    }
    assert!(failed.is_empty(), "{}: {} cases failed: {failed:#?}", F::NAME, failed.len());
}

#[test]
fn every_case_holds_in_four_level_tables() {
    run_all::<X86_64>();
}

#[test]
fn every_case_holds_in_five_level_tables() {
    run_all::<X86_64La57>();
}

#[test]
fn every_case_holds_in_classic_32_bit_tables() {
    run_all::<I386>();
}

#[test]
fn every_case_holds_in_pae_tables() {
    run_all::<Pae>();
}
