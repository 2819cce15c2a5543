//! Random programs against a flat model of memory, in three formats; by seed.

use rumpvm_arch::{Format, I386, Pae, X86_64};
use rumpvm_tests::is_short;
use rumpvm_tests::random::{Choices, Plan, run};

fn programs<F: Format>(seeds: u64, operations: u64, fails: bool) -> u64 {
    let seeds = if is_short() { 1 } else { seeds };
    let plan = |seed| {
        let (name, choices) = (format!("seed {seed}"), Choices::of_seed(seed));
        Plan { name, choices, operations, fails }
    };
    (0..seeds).map(|seed| run::<F>(plan(seed))).sum()
}

#[test]
fn random_programs_see_what_a_flat_model_says_on_x86_64() {
    programs::<X86_64>(8, 3000, false);
}

#[test]
fn random_programs_see_what_a_flat_model_says_on_i386() {
    programs::<I386>(8, 3000, false);
}

#[test]
fn random_programs_see_what_a_flat_model_says_with_pae() {
    programs::<Pae>(4, 3000, false);
}

#[test]
fn calls_of_random_programs_that_are_refused_change_nothing_on_x86_64() {
    let refused = programs::<X86_64>(8, 1000, true);
    assert!(is_short() || refused > 1000, "only {refused} calls were refused");
}

#[test]
fn calls_of_random_programs_that_are_refused_change_nothing_on_i386() {
    let refused = programs::<I386>(8, 1000, true);
    assert!(is_short() || refused > 1000, "only {refused} calls were refused");
}
