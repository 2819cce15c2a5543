//! The host's Linux as a voice: programs are carried out by processes of the host, forked for that.
//!
//! Flow:  [`Linux::start`] -> shared memory -> warden -> a process for each of the program's -> [`Linux::finish`].
//! Locks: none.
//! Sleep: `finish` waits until the program was carried out, or took longer than it may.
//! Owns:  the warden, which ends with it, or with the thread that made it.
//!
//! Together with `differ`, which it serves, this is the only part of the harness with `unsafe` in it.

mod crowd;
mod kernel;
mod look;
mod perform;
mod probe;
mod segments;
mod shared;
mod worker;

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::differ::{Answers, Failed, Program, Voice};
use shared::{IDLE, Mapping};

/// Longer than a worker's own patience, so that its story is heard first.
const PATIENCE: Duration = Duration::from_secs(30);

/// The host's kernel.
pub struct Linux {
    /// The warden's process, until it was waited for.
    warden: Option<i32>,
    /// Dropped after the warden has ended.
    memory: Mapping,
}

impl Linux {
    /// Starts the processes. Belongs to the calling thread: when that ends, they do.
    pub fn new() -> io::Result<Self> {
        let memory = Mapping::new()?;
        let parent = std::process::id();
        // SAFETY: the child calls nothing but `warden`, which does not allocate or lock (W1).
        let warden = unsafe { libc::fork() };
        match warden {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: this is the only thread of a process forked for this.
            0 => unsafe { worker::warden(memory.get(), parent) },
            _ => Ok(Self { warden: Some(warden), memory }),
        }
    }
}

impl Linux {
    /// Whether the warden is gone. Does not wait.
    fn has_ended(&mut self) -> bool {
        let Some(warden) = self.warden else { return true };
        // SAFETY: it is our child; the status is not wanted.
        let gone = unsafe { libc::waitpid(warden, std::ptr::null_mut(), libc::WNOHANG) };
        if gone != 0 {
            self.warden = None;
        }
        gone != 0
    }
}

impl Voice for Linux {
    fn name(&self) -> &'static str {
        "Linux"
    }

    fn start(&mut self, program: &Program) -> Result<(), Failed> {
        if self.has_ended() {
            return Err(Failed("the host's side has ended".into()));
        }
        self.memory.get().post(program);
        Ok(())
    }

    fn finish(&mut self, _program: &Program) -> Result<Answers, Failed> {
        let begun = Instant::now();
        loop {
            let shared = self.memory.get();
            let state = shared.state.load(Ordering::Acquire);
            if state == IDLE {
                break;
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Failed("the host's side does not answer".into()));
            }
            shared::sleep(&shared.state, state, Some(left.min(Duration::from_secs(1))));
            if self.has_ended() {
                return Err(Failed("the host's side has ended".into()));
            }
        }
        let shared = self.memory.get();
        match shared.trouble() {
            Some(trouble) => Err(Failed(trouble)),
            None => Ok(shared.collect()),
        }
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        let Some(warden) = self.warden else { return };
        // SAFETY: the group is the warden's own, and it is our child, not waited for yet.
        unsafe {
            libc::kill(-warden, libc::SIGKILL);
            libc::kill(warden, libc::SIGKILL);
            libc::waitpid(warden, std::ptr::null_mut(), 0);
        }
    }
}
