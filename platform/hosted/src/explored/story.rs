//! Names for people: what a step was, and what a word is part of.

use rumpvm_platform::{CpuSet, LockStep, LockUse, Op};

use super::agent::Kind;
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
    let shared = if lock.shared { ", shared" } else { "" };
    format!("{}{shared} ({})", lock.class.name, word(state, state.name(lock.address)))
}

/// What is done to a lock.
pub(super) fn verb(step: LockStep) -> &'static str {
    match step {
        LockStep::Want => "wants",
        LockStep::Try => "tries",
        LockStep::Taken => "takes",
        LockStep::Failed => "does not get",
        LockStep::Free => "is about to release",
        LockStep::Freed => "releases",
    }
}

/// What the running flow waits for, on its CPU: a lock, if it wants one, or the word `key`.
pub(super) fn wait(state: &State, key: u64) -> String {
    match wanted(state) {
        Some(wanted) => format!("waits for {wanted}"),
        None => format!("waits for {} to change", word(state, key)),
    }
}

/// As [`wait`], of a thread that gives its CPU up.
pub(super) fn sleep(state: &State, key: u64) -> String {
    match wanted(state) {
        Some(wanted) => format!("sleeps until it gets {wanted}"),
        None => format!("sleeps on {}", word(state, key)),
    }
}

/// The lock that the running flow wants, if it wants one: where, and who has it.
fn wanted(state: &State) -> Option<String> {
    let running = state.running;
    let number = (running.kind() == Kind::Actor).then(|| running.number())?;
    let wanted = state.actors[number].wants.last()?;
    let holders = holders(state, wanted, number).map_or_else(String::new, |by| format!(", {by}"));
    Some(format!("{}, wanted in {}{holders}", lock(state, wanted), wanted.site))
}

/// Who keeps actor `number` from having `lock`, and since where; nothing if no thread does.
pub(super) fn holders(state: &State, lock: &LockUse, number: usize) -> Option<String> {
    let told = |(holder, held): (usize, &LockUse)| {
        let who = if holder == number { "the same thread" } else { &state.actors[holder].name };
        let shared = if held.shared { " shared" } else { "" };
        format!("{who} holds{shared} since {}", held.site)
    };
    let holders: Vec<String> = state.holders(lock.address).map(told).collect();
    (!holders.is_empty()).then(|| format!("which {}", holders.join(" and ")))
}

/// CPUs, by their numbers.
pub(super) fn cpus(cpus: &CpuSet) -> String {
    let numbers: Vec<String> = cpus.iter().map(|cpu| cpu.0.to_string()).collect();
    let plural = if numbers.len() == 1 { "" } else { "s" };
    format!("CPU{plural} {}", numbers.join(", "))
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

/// The function of the component, or of the scenario or test, that is being executed: the innermost one that is no
/// part of a lock. Inlined functions are known by their plain names only, so the file says whose they are.
pub(super) fn function() -> Option<String> {
    let mut found = None;
    backtrace::trace(|frame| {
        backtrace::resolve_frame(frame, |symbol| {
            if let (Some(name), Some(file)) = (symbol.name(), symbol.filename())
                && found.is_none()
                && is_told(&file.to_string_lossy())
            {
                found = short(&format!("{name:#}"));
            }
        });
        found.is_none()
    });
    found
}

fn is_told(file: &str) -> bool {
    let of_component = file.contains("rumpvm/src/") && !file.contains("rumpvm/src/sync/");
    of_component || file.contains("explore/src/scenarios/") || file.contains("explore/tests/")
}

/// The last part of a path that is a name: `<Pmap<P>>::enter` and `pmap::enter::<P>::{closure#0}` are both `enter`. A closure
/// that was inlined has none of its own.
fn short(name: &str) -> Option<String> {
    let mut depth = 0;
    let plain: String = name
        .chars()
        .filter(|letter| {
            depth += i32::from(*letter == '<');
            let is_outside = depth == 0;
            depth -= i32::from(*letter == '>');
            is_outside
        })
        .collect();
    let parts = plain.split("::").filter(|part| !part.is_empty() && !part.starts_with('{'));
    parts.last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn a_function_is_called_by_its_own_name() {
        for name in ["<Pmap<P>>::enter", "pmap::leaf::enter::<a::B>::{closure#0}", "enter"] {
            assert_eq!(short(name).as_deref(), Some("enter"));
        }
        assert_eq!(short("{closure#0}<a::B>"), None);
    }
}
