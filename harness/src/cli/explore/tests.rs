//! What fails is said, shrunk, told, and can be run again as it was printed.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering as Std};

use clap::{CommandFactory, Parser};
use rumpvm::sync::{Atomic, Ordering};
use rumpvm_explore::{Pc, Scenario};
use rumpvm_hosted::explored::{Agent, Chance, Kind, Settings, Stage};
use serde_json::Value;

use super::run;
use crate::cli::{Arguments, Command, Verdict};

type Word = Atomic<u32, Pc>;

const SMALL: Settings = Settings { frames: 1, ..Settings::USUAL };

/// Wrong: it sleeps on a second look.
fn lost_wakeup(stage: &Stage) {
    let word = Rc::new(Word::new(0));
    let other = Rc::clone(&word);
    stage.actor(0, "waker", move || {
        word.store(1, Ordering::Release);
        word.wake_sleepers();
    });
    stage.actor(1, "sleeper", move || {
        if other.load(Ordering::Acquire) == 0 {
            other.sleep_while(other.load(Ordering::Acquire));
        }
    });
}

fn fickle(stage: &Stage) {
    static FIRST: AtomicBool = AtomicBool::new(true);
    stage.actor(0, "fickle", || assert!(!FIRST.swap(false, Std::Relaxed), "only once"));
}

fn toys() -> [Scenario; 3] {
    let toy = |name, setup| Scenario {
        settings: SMALL,
        ..Scenario::new(name, "no report", "what a toy does", setup)
    };
    let calm: fn(&Stage) = |stage| stage.actor(0, "thread", || ());
    [toy("calm", calm), toy("forgetful", lost_wakeup), toy("fickle", fickle)]
}

/// Whether all is well, and what was said.
fn says(line: &str) -> (bool, String) {
    let words = line.split_whitespace().map(|word| word.trim_matches('\''));
    let arguments = Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let Some(Command::Explore(arguments)) = arguments.command else {
        panic!("{line} explores nothing");
    };
    let mut out = Vec::new();
    let verdict = run(&arguments, &toys(), &mut out).unwrap_or_else(|error| panic!("{error:#}"));
    (matches!(verdict, Verdict::Clean), String::from_utf8(out).expect("it is text"))
}

#[track_caller]
fn has(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
}

#[test]
fn what_fails_is_told_and_fails_again_as_it_was_printed() {
    let (clean, said) = says("rumpvm explore forgetful --schedules 500");
    assert!(!clean);
    has(&said, &["FAILED", "what a toy does\ndeadlock: sleeper (CPU 1) waits", "after shrinking"]);
    has(&said, &["CPU 0", "0 waker: ", "1 sleeper: ", "sleeps on record word"]);
    assert!(!said.contains(" 1 choices") && !said.contains("is wrong"), "{said}");

    let printed = said.lines().find(|line| line.contains("--replay")).expect("it is printed");
    let (clean, again) = says(printed);
    assert!(!clean);
    has(&again, &["1 sleeper: ", "deadlock: sleeper (CPU 1) waits", "hash "]);
    assert!(!again.contains("Never came up"), "{again}");
    assert_eq!(again, says(printed).1);
}

#[test]
fn a_program_is_told_the_same() {
    let (clean, said) = says("rumpvm explore forgetful --schedules 500 --json");
    assert!(!clean);
    let said: Value = serde_json::from_str(&said).expect("it is one object");
    let found = &said["found"];
    assert_eq!((&found["kind"], &found["repeats"]), (&"deadlock".into(), &true.into()));
    let command = format!("{} --json", found["replay"].as_str().expect("it is text"));
    has(&command, &[found["shrunk"].as_str().expect("it is text")]);

    let (clean, again) = says(&command);
    assert!(!clean);
    let again: Value = serde_json::from_str(&again).expect("it is one object");
    assert_eq!(again["failure"]["kind"], "deadlock");
    assert_eq!(again["story"], found["story"]);
    let asleep = |line: &Value| line["who"] == "sleeper" && line["cpu"] == 1;
    assert!(again["story"].as_array().expect("it is a list").iter().any(asleep));
}

#[test]
fn all_are_said_in_their_order_and_summed_up() {
    let (clean, said) = says("rumpvm explore calm forgetful --schedules 500");
    assert!(!clean);
    let at = |part: &str| said.find(part).unwrap_or_else(|| panic!("{part} is missing:\n{said}"));
    assert!(at("calm ") < at("forgetful ") && at("forgetful ") < at("2 scenarios, "));
    has(&said, &[" points, 1 failed\n"]);
}

#[test]
fn a_failure_that_does_not_repeat_is_said_to_be_one() {
    let (clean, said) = says("rumpvm explore fickle --schedules 10");
    assert!(!clean);
    has(&said, &["broken invariant: only once at ", "did not fail again", "the explorer is wrong"]);
}

#[test]
fn a_schedule_under_which_nothing_fails_is_said_to_be_one() {
    let line = "rumpvm explore forgetful --memory sc --replay 0.2-1,0.99999-1,7.3-2";
    let (clean, said) = says(line);
    assert!(clean, "{said}");
    has(&said, &["Nothing failed.", "changed nothing: 0.99999-1,7.3-2\n"]);
}

#[test]
fn a_list_has_columns_and_can_be_read_by_programs() {
    let (_, said) = says("rumpvm explore --list");
    let columns: Vec<_> = said.lines().map(|line| line.find("what a toy does")).collect();
    assert!(columns.len() == 3 && columns.iter().all(|at| *at == columns[0]), "{said}");
    let (_, said) = says("rumpvm explore --list --json");
    let names = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
    let names: Vec<_> = names.map(|object| object["scenario"].clone()).collect();
    assert_eq!(names, ["calm", "forgetful", "fickle"]);
}

#[test]
fn exhaustion_says_whether_all_was_seen_and_may_be_cut_short() {
    let (clean, said) = says("rumpvm explore calm --exhaustive 1 --time 1h");
    assert!(clean);
    has(&said, &["all with 1 preemption\n"]);
}

#[test]
fn a_name_of_no_letters_is_no_scenario() {
    let words = ["rumpvm", "explore", ""];
    let Some(Command::Explore(arguments)) = Arguments::parse_from(words).command else {
        panic!("it explores");
    };
    let Err(error) = run(&arguments, &toys(), &mut Vec::new()) else { panic!("it is refused") };
    assert!(error.to_string().contains("--list"), "{error}");
}

#[test]
fn what_a_replay_would_ignore_is_refused() {
    for more in ["--seed 3", "--short 60", "--strategy pos"] {
        let line = format!("rumpvm explore calm --memory sc --replay 0.1-1 {more}");
        let error = Arguments::try_parse_from(line.split_whitespace()).err();
        assert!(error.is_some_and(|error| error.to_string().contains("--replay")), "{more}");
    }
}

#[test]
fn help_names_agents_and_accidents_by_their_numbers() {
    let mut all = Arguments::command();
    let help = all.find_subcommand_mut("explore").expect("it is there").render_long_help();
    let help = help.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    for (kind, what) in [
        (Kind::Actor, "the scenario's threads"),
        (Kind::Flush, "flush requests"),
        (Kind::Drain, "stores that leave"),
        (Kind::Timeout, "deadlines"),
        (Kind::Tick, "timer ticks"),
        (Kind::Prefetch, "page walks"),
        (Kind::Handler, "what handles a tick"),
    ] {
        has(&help, &[&format!("from {} {what}", Agent::new(kind, 0).index())]);
    }
    for what in Chance::ALL {
        has(&help, &[&format!("{} {}", what as u8, what.says())]);
    }
}
