//! The story of a deadlock: who waits for whom.
//!
//! A circle of locks alone is told before it closes, by the order of locks; so here one of those in it waits for
//! something else than a lock.

use rumpvm_platform::LockUse;

use super::state::{State, Status};
use super::story;

/// Who waits for what, and who has it since where: this is the cycle, if there is one.
pub(super) fn story(state: &State) -> String {
    let mut lines = Vec::new();
    for (number, actor) in state.actors.iter().enumerate() {
        let waits = match actor.status {
            Status::Done => continue,
            Status::Ready => "cannot get its CPU back".to_owned(),
            Status::Waits { at, .. } | Status::Sleeps { at, .. } => match actor.wants.last() {
                Some(lock) => waits_for(state, number, lock),
                None => {
                    let alone = alone(state, number);
                    format!("waits for {} to change{alone}", story::word(state, at))
                }
            },
        };
        lines.push(format!("{} (CPU {}) {waits}", actor.name, actor.cpu));
    }
    for (number, cpu) in state.cpus.iter().enumerate() {
        if let Some((agent, _)) = cpu.handler {
            lines.push(format!("{agent:?} of CPU {number} does not return"));
        }
    }
    lines.join("; ")
}

fn waits_for(state: &State, number: usize, lock: &LockUse) -> String {
    let word = story::word(state, state.name(lock.address));
    match story::holders(state, lock, number) {
        Some(holders) => format!("waits for {lock}, {word}, {holders}"),
        None => format!(
            "waits for {lock}, {word}, which no thread holds (nobody is left who could wake it)"
        ),
    }
}

/// Says so if all others have ended: then a wake-up was lost, or came too early.
fn alone(state: &State, number: usize) -> &'static str {
    let mut others = state.actors.iter().enumerate().filter(|(other, _)| *other != number);
    if others.all(|(_, actor)| actor.status == Status::Done) {
        " (nobody is left who could wake it)"
    } else {
        ""
    }
}
