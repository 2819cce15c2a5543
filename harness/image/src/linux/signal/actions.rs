//! What a process does about each signal.

use super::{Set, Signal};

/// `struct sigaction` as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Action {
    /// Address of the handler, or one of the two below.
    pub(crate) handler: u64,
    pub(crate) flags: u64,
    /// Where the handler returns to.
    pub(crate) restorer: u64,
    /// What is blocked meanwhile.
    pub(crate) mask: Set,
}

/// `SIG_DFL`.
pub(crate) const DEFAULT: u64 = 0;
/// `SIG_IGN`.
pub(crate) const IGNORE: u64 = 1;

/// Bits of `sa_flags`.
pub(crate) mod flags {
    pub(crate) const NOCLDSTOP: u64 = 1;
    pub(crate) const NOCLDWAIT: u64 = 2;
    pub(crate) const RESTORER: u64 = 0x0400_0000;
    pub(crate) const ONSTACK: u64 = 0x0800_0000;
    pub(crate) const RESTART: u64 = 0x1000_0000;
    pub(crate) const NODEFER: u64 = 0x4000_0000;
    pub(crate) const RESETHAND: u64 = 0x8000_0000;
}

impl Action {
    const NONE: Self = Self { handler: DEFAULT, flags: 0, restorer: 0, mask: 0 };

    /// Whether it does nothing about `signal`.
    pub(crate) fn ignores(&self, signal: Signal) -> bool {
        match self.handler {
            IGNORE => true,
            DEFAULT => default_of(signal) == Default::Ignore,
            _ => false,
        }
    }
}

/// What a signal does that nobody handles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Default {
    Terminate,
    Ignore,
    Stop,
}

/// What `signal` does then.
pub(crate) fn default_of(signal: Signal) -> Default {
    match signal {
        Signal::CHLD | Signal::CONT | Signal::URG | Signal::WINCH => Default::Ignore,
        signal if signal.bit() & Signal::STOPS != 0 => Default::Stop,
        _ => Default::Terminate,
    }
}

/// All of a process.
#[derive(Clone)]
pub(crate) struct Actions([Action; 64]);

impl Actions {
    /// Defaults.
    pub(crate) const fn new() -> Self {
        Self([Action::NONE; 64])
    }

    pub(crate) fn get(&self, signal: Signal) -> Action {
        self.0[signal.index()]
    }

    pub(crate) fn set(&mut self, signal: Signal, action: Action) {
        self.0[signal.index()] = action;
    }

    /// What a fresh program has: handlers are gone, what is ignored stays so.
    pub(crate) fn exec(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == IGNORE { IGNORE } else { DEFAULT };
            *action = Action { handler, ..Action::NONE };
        }
    }
}
