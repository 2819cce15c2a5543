//! Schedules that once failed do not fail any more: each file of `tests/schedules`, run again.

use std::fs;
use std::path::Path;

use rumpvm_explore::{Memory, replay, scenarios, settings};
use rumpvm_hosted::explored::Deviation;

/// Runs the schedule in `text`: a line `SCENARIO ORDER SCHEDULE` after comments.
fn run(text: &str) -> Result<(), String> {
    let line = text.lines().find(|line| !line.starts_with('#') && !line.trim().is_empty());
    let words: Vec<&str> = line.ok_or("it has no schedule")?.split_whitespace().collect();
    let [name, order, schedule] = words[..] else {
        return Err("a line is SCENARIO ORDER SCHEDULE".into());
    };
    let scenario = scenarios::named(name).ok_or(format!("there is no scenario {name}"))?;
    let memory = Memory::BOTH.into_iter().find(|memory| memory.name() == order);
    let memory = memory.ok_or(format!("there is no memory order {order}"))?;
    let steps: Result<Vec<Deviation>, String> = schedule.split(',').map(str::parse).collect();
    let outcome = replay(&scenario, settings(&scenario, memory, None), &steps?);
    match outcome.map_err(|error| error.to_string())?.failure {
        Some(failure) => Err(format!("{}: {}", failure.kind.name(), failure.message)),
        None => Ok(()),
    }
}

#[test]
fn schedules_that_once_failed_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schedules");
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_some_and(|kind| kind == "txt") {
            let text = fs::read_to_string(&path).expect("it is text");
            if let Err(story) = run(&text) {
                panic!("{}: {story}", path.display());
            }
        }
    }
}

#[test]
fn a_file_without_a_schedule_is_refused() {
    for (text, says) in [
        ("# nothing", "no schedule"),
        ("store-against-fork sc", "SCENARIO"),
        ("nonesuch sc 0.1-1", "nonesuch"),
        ("store-against-fork weak 0.1-1", "weak"),
        ("store-against-fork sc x", "AGENT"),
    ] {
        let story = run(text).expect_err("it is wrong");
        assert!(story.contains(says), "{story}");
    }
}
