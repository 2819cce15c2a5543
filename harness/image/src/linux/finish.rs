//! The end of everything: the first process has ended, and what else runs is ended with it.
//!
//! Sleep: [`wait`], which the machine's first thread calls.

use rumpvm::sync::{Atomic, Event, Ordering};
use rumpvm_bare::{Bare, calendar};
use spin::Once;

use super::signal::Signal;
use super::system::system;

struct Finish {
    /// [`ENDED`] and the wait status of the first process.
    status: Atomic<u64, Bare>,
    event: Event<Bare>,
}

const ENDED: u64 = 1 << 32;
/// For so long what still runs may take to end.
const PATIENCE: u64 = 5_000_000_000;

fn state() -> &'static Finish {
    static STATE: Once<Finish> = Once::new();
    STATE.call_once(|| Finish { status: Atomic::new(0), event: Event::new() })
}

/// The first process has ended with a wait status.
pub(crate) fn finish(status: i32) {
    state().status.store(ENDED | u64::from(status.cast_unsigned()), Ordering::Release);
    state().event.raise();
}

/// Waits for that; returns the exit status as a shell says it. With `checks` everything else is ended, and every
/// invariant is checked.
pub(crate) fn wait(checks: bool) -> u8 {
    let state = state();
    let status = loop {
        let seen = state.event.seen();
        let status = state.status.load(Ordering::Acquire);
        if status & ENDED != 0 {
            break status as u32;
        }
        state.event.wait(seen);
    };
    if checks {
        end_others();
        check();
    }
    match status & 0x7f {
        0 => (status >> 8) as u8,
        signal => 128 + signal as u8,
    }
}

fn end_others() {
    let end = calendar::since_start() + PATIENCE;
    let nobody: Atomic<u32, Bare> = Atomic::new(0);
    while system().counts().1 > 0 && calendar::since_start() < end {
        system().for_each(|process| process.end(Signal::KILL.number().cast_signed()));
        // Each of them ends by itself at its next look.
        nobody.sleep_until(0, Some(calendar::since_start() + 1_000_000));
    }
}

fn check() {
    let (processes, tasks) = system().counts();
    log::info!("at the end: {processes} processes, {tasks} threads");
    // Threads that have just ended give their memory back a moment later.
    let nobody: Atomic<u32, Bare> = Atomic::new(0);
    nobody.sleep_until(0, Some(calendar::since_start() + 20_000_000));
    match system().kernel.check() {
        Ok(()) => log::info!("check passed"),
        Err(broken) => panic!("after the last program: {broken}"),
    }
}
