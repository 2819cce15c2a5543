//! The story of a deadlock: who waits for whom.

use super::agent::{Agent, Kind};
use super::state::{State, Status};
use super::story;

/// Who waits for what, and who has it; a cycle if there is one.
pub(super) fn story(state: &State) -> String {
    let mut lines = Vec::new();
    for (number, actor) in state.actors.iter().enumerate() {
        let waits = match actor.status {
            Status::Done => continue,
            Status::Ready => "cannot get its CPU back".to_owned(),
            Status::Waits { at, .. } | Status::Sleeps { at, .. } => match actor.wants {
                Some(lock) => {
                    let holder = holder(state, lock.address, number);
                    format!("waits for {lock}, {holder}")
                }
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

fn holder(state: &State, address: usize, but: usize) -> String {
    for (number, actor) in state.actors.iter().enumerate() {
        let held = state.held(Agent::new(Kind::Actor, number)).find(|lock| lock.address == address);
        if let Some(lock) = held {
            let who = if number == but { "the same thread" } else { &actor.name };
            return format!("which {who} holds since {}", lock.site);
        }
    }
    "which nobody holds (nobody is left who could wake it)".to_owned()
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
