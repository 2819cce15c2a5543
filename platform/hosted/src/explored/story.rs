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

/// The function of the component that is being executed.
pub(super) fn function() -> Option<String> {
    let mut found = None;
    backtrace::trace(|frame| {
        backtrace::resolve_frame(frame, |symbol| {
            let Some(name) = symbol.name() else { return };
            let name = format!("{name:#}");
            let path = name.trim_start_matches('<');
            let is_ours = path.starts_with("rumpvm::") && !path.starts_with("rumpvm::sync::");
            if found.is_none() && (is_ours || path.starts_with("rumpvm_explore::scenarios::")) {
                found = Some(short(&name));
            }
        });
        found.is_none()
    });
    found
}

/// `rumpvm::pmap::leaf::<impl Pmap<P>>::enter` is called `pmap::leaf::enter`.
fn short(name: &str) -> String {
    let mut plain = String::new();
    let mut depth = 0;
    for letter in name.chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    let parts: Vec<&str> = plain.split("::").filter(|part| !part.is_empty()).collect();
    let start = parts.iter().position(|part| *part == "rumpvm").map_or(0, |at| at + 1);
    let rest: Vec<&str> =
        parts[start..].iter().filter(|part| !part.starts_with('{')).copied().collect();
    rest.join("::")
}
