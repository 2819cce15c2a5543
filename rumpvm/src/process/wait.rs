//! wait(2): a parent learns that a child has ended, and the child's record goes.

use rumpvm_platform::Platform;

use super::{Pid, Process, Processes, State};
use crate::error::CallError;
use crate::sync::Ordering;

/// Which child to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitFor {
    /// Whichever ends first.
    Any,
    /// This one.
    Pid(Pid),
}

/// What a scan of the children found.
enum Found {
    Ended(Pid, i32),
    Running,
    None,
}

impl<P: Platform> Process<P> {
    /// Waits for a child to end and reaps it; returns its number and status. With `nohang` returns nothing
    /// if none has ended yet. Any thread of the parent may call it; each child is reaped by one.
    ///
    /// Sleeps.
    pub fn wait(
        &self,
        vm: &Processes<P>,
        whom: WaitFor,
        nohang: bool,
    ) -> Result<Option<(Pid, i32)>, CallError> {
        loop {
            // Before the scan: an event after it makes the sleep return (L2).
            let events = self.events.load(Ordering::Acquire);
            match self.scan(vm, whom) {
                Found::Ended(pid, status) => return Ok(Some((pid, status))),
                Found::None => return Err(CallError::NoChild),
                Found::Running if nohang => return Ok(None),
                Found::Running => self.events.sleep_while(events),
            }
        }
    }

    fn scan(&self, vm: &Processes<P>, whom: WaitFor) -> Found {
        let mut list = vm.table.lock();
        let mut found = Found::None;
        for at in 0..list.processes.len() {
            let child = &list.processes[at];
            let wanted = whom == WaitFor::Any || whom == WaitFor::Pid(child.pid);
            if child.parent.load(Ordering::Acquire) != self.pid.0 || !wanted {
                continue;
            }
            let mut state = child.state.lock();
            if let State::Zombie(status) = *state {
                *state = State::Reaped;
                drop(state);
                let pid = child.pid;
                list.processes.remove(at);
                return Found::Ended(pid, status);
            }
            found = Found::Running;
        }
        found
    }
}
