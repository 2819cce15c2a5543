//! wait(2): a parent learns that a child has ended, and the child's record goes.

use rumpvm_platform::Platform;

use super::{Pid, Process, Processes};
use crate::error::CallError;
use crate::sync::Hold;

/// Which child to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitFor {
    /// Whichever ends first.
    Any,
    /// This one.
    Pid(Pid),
}

/// What a look at the children found.
pub(super) enum Found<P: Platform> {
    /// One that has ended, with its status; it is out of the table.
    Ended(Hold<Process<P>, P>, i32),
    /// Children, and all of them run.
    Running,
    /// No child.
    None,
}

impl<P: Platform> Process<P> {
    /// Waits for a child to end and reaps it; returns its number and status. With `nohang` returns nothing
    /// if none has ended yet. Any thread of the parent may call it; each child is reaped by one (L1).
    ///
    /// Sleeps, and gives the token up meanwhile.
    pub fn wait(
        &self,
        vm: &Processes<P>,
        whom: WaitFor,
        nohang: bool,
    ) -> Result<Option<(Pid, i32)>, CallError> {
        vm.table.exclusive(|table| {
            loop {
                // Before the look: what happens after it ends the sleep (L2).
                let seen = self.events.seen();
                match table.change(|list| list.reap(self.pid, whom)) {
                    Found::Ended(child, status) => return Ok(Some((child.pid, status))),
                    Found::None => return Err(CallError::NoChild),
                    Found::Running if nohang => return Ok(None),
                    Found::Running => self.events.wait(seen),
                }
            }
        })
    }
}
