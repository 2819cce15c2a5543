//! What a scenario is.

use rumpvm_hosted::explored::{Settings, Stage};

/// A machine, actors, and a final check: what is to be explored.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What the command line calls it.
    pub name: &'static str,
    /// The report whose class of bug it is about.
    pub report: &'static str,
    /// What it does, in a sentence.
    pub says: &'static str,
    /// The machine, and what may go wrong on it.
    pub settings: Settings,
    /// Puts actors on the stage.
    pub setup: fn(&Stage),
}

impl Scenario {
    /// A scenario on the usual machine.
    pub const fn new(
        name: &'static str,
        report: &'static str,
        says: &'static str,
        setup: fn(&Stage),
    ) -> Self {
        Self { name, report, says, settings: Settings::USUAL, setup }
    }
}
