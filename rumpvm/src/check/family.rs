//! Processes: states and the family tree.

use alloc::format;

use rumpvm_platform::Platform;

use super::{Broken, ensure};
use crate::process::{Processes, State};

pub(super) fn check<P: Platform>(vm: &Processes<P>) -> Result<(), Broken> {
    let mut broken = Ok(());
    vm.for_each_process(|process| {
        if broken.is_ok() {
            broken = (|| {
                let pid = process.pid().0;
                let has_space = process.space().is_some();
                match process.state() {
                    State::Running => ensure!(has_space, "process {pid} runs without a space"),
                    State::Zombie(_) => ensure!(!has_space, "zombie {pid} has a space"),
                    State::Reaped => {
                        return Err(Broken(format!("process {pid} is reaped and in the table")));
                    }
                }
                // L4, L8: whoever exits hands his children on, and nobody is born to the dead.
                if let Some(parent) = process.parent() {
                    let runs = vm.find_process(parent).map(|parent| parent.state());
                    let runs = runs == Some(State::Running);
                    ensure!(runs, "process {pid} is a child of {}, which does not run", parent.0);
                }
                Ok(())
            })();
        }
    });
    broken
}
