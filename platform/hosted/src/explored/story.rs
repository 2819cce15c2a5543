//! Names for people: what a step was, and what a word is part of.

use rumpvm_platform::{LockUse, Op};

use super::state::{ARENA, State};

const PROGRAM: u64 = 1 << 41;

/// What a word is part of.
pub(super) fn word(state: &State, key: u64) -> String {
    if key >= PROGRAM {
        return "a word of the program".to_owned();
    }
    if key >= ARENA {
        let at = state.hardware.arena.start().0 + (key - ARENA);
        let frame = rumpvm_arch::PhysAddr(at).frame();
        return format!("word {} of {frame:?}", at % rumpvm_arch::PAGE_SIZE / 8);
    }
    format!("record word {:#x}", key - 1)
}

/// What a lock is called.
pub(super) fn lock(state: &State, lock: &LockUse) -> String {
    format!("{} ({})", lock.class.name, word(state, state.name(lock.address)))
}

/// What a step does.
pub(super) fn step(state: &State, key: u64, op: Op) -> String {
    let word = word(state, key);
    match op {
        Op::Load | Op::Get => format!("load {word}"),
        Op::Store(value) | Op::Set(value) => format!("store {value:#x} to {word}"),
        Op::Swap(value) => format!("swap {value:#x} into {word}"),
        Op::CompareExchange { old, new } => format!("exchange {old:#x} by {new:#x} in {word}"),
        Op::Add(value) => format!("add {value} to {word}"),
        Op::Sub(value) => format!("subtract {value} from {word}"),
        Op::Or(value) => format!("set {value:#x} in {word}"),
        Op::And(value) => format!("clear {:#x} in {word}", !value),
    }
}

/// The function of the component, or of the scenario, that is being executed: the innermost one that is no part of a
/// lock. Inlined functions are known by their plain names only, so the file says whose they are.
pub(super) fn function() -> Option<String> {
    let mut found = None;
    backtrace::trace(|frame| {
        backtrace::resolve_frame(frame, |symbol| {
            if let (Some(name), Some(file)) = (symbol.name(), symbol.filename())
                && found.is_none()
                && is_told(&file.to_string_lossy())
            {
                found = Some(short(&format!("{name:#}")));
            }
        });
        found.is_none()
    });
    found
}

fn is_told(file: &str) -> bool {
    let of_component = file.contains("rumpvm/src/") && !file.contains("rumpvm/src/sync/");
    of_component || file.contains("explore/src/scenarios/")
}

/// The last part of a path that is a name: `<Pmap<P>>::enter` and `pmap::leaf::enter` are both `enter`.
fn short(name: &str) -> String {
    let parts = name.split("::").filter(|part| !part.contains(['{', '<', '>']));
    parts.last().unwrap_or(name).to_owned()
}
