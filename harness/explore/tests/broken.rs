//! The explorer's own panics are no failures of a run: they end the program, and say so.

use std::env;
use std::process::Command;

use rumpvm_explore::strategy::Strategy;
use rumpvm_hosted::explored::{Agent, BROKEN, Chance, Chooser, Explorer, Moment, Settings, Stage};

/// Set in the child.
const CHILD: &str = "RUMPVM_BROKEN_CHOOSER";

struct Broken;

impl Chooser for Broken {
    fn next(&mut self, _moment: &Moment<'_>) -> Agent {
        panic!("the chooser has lost its way");
    }

    fn takes(&mut self, _what: Chance, _agent: Agent, _nth: u32) -> bool {
        false
    }
}

fn setup(stage: &Stage) {
    for number in 0..2 {
        stage.actor(number, "actor", || ());
    }
}

#[test]
fn a_panic_of_the_explorer_ends_the_program_and_is_no_failure_of_the_run() {
    let settings = Settings { frames: 1, ..Settings::default() };
    if env::var_os(CHILD).is_some() {
        let mut explorer = Explorer::new(settings).expect("memory for a machine");
        let outcome = explorer.run(settings, setup, Box::new(Broken)).0;
        panic!("the run ended: {:?}", outcome.failure);
    }
    let name = "a_panic_of_the_explorer_ends_the_program_and_is_no_failure_of_the_run";
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(BROKEN), "{said}");
    assert!(said.contains("the chooser has lost its way") && said.contains("explorer itself"));
}

#[test]
fn a_panic_of_an_actor_is_a_failure_of_the_run() {
    let settings = Settings { frames: 1, ..Settings::default() };
    let mut explorer = Explorer::new(settings).expect("memory for a machine");
    let setup: fn(&Stage) = |stage| stage.actor(0, "actor", || panic!("an invariant"));
    let chooser = Box::new(Strategy::Random.chooser(1, 0));
    let failure = explorer.run(settings, setup, chooser).0.failure.expect("it has panicked");
    assert_eq!(failure.message, "an invariant");
}
