//! How a task is scheduled: what Linux's calls say about it, and what that comes to on a CPU.
//!
//! Flow:  policy, nice value, level -> [`Schedule::priority`] -> the task's standing, which its CPU looks at.
//! Locks: the record's, for a few instructions and a message to a CPU.

use alloc::sync::Arc;

use rumpvm::sync::Spin;
use rumpvm_bare::{Bare, Priority, Standing};

use super::class;

/// Policies, as sched(7) numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    Other = 0,
    Fifo = 1,
    RoundRobin = 2,
    Batch = 3,
    Idle = 5,
}

impl Policy {
    /// There are no deadlines.
    pub(crate) fn new(number: u32) -> Option<Self> {
        use Policy::{Batch, Fifo, Idle, Other, RoundRobin};
        [Other, Fifo, RoundRobin, Batch, Idle].into_iter().find(|policy| *policy as u32 == number)
    }

    pub(crate) fn is_real_time(self) -> bool {
        matches!(self, Self::Fifo | Self::RoundRobin)
    }

    /// Whether a nice value counts.
    pub(crate) fn is_nice(self) -> bool {
        matches!(self, Self::Other | Self::Batch)
    }
}

/// What the calls set and get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Schedule {
    pub(crate) policy: Policy,
    /// From -20 to 19. Kept, while it does not count.
    pub(crate) nice: i32,
    /// From 1 to [`HIGHEST`] for real-time policies, 0 for others.
    pub(crate) level: u32,
    /// Children have nothing that needs a right.
    pub(crate) resets: bool,
}

/// Highest level of a real-time policy.
pub(crate) const HIGHEST: u32 = 99;
/// Lowest and highest nice value.
pub(crate) const NICE: (i32, i32) = (-20, 19);

/// Weights of nice values (Linux, kernel/sched/core.c): a step is some tenth of a CPU between two that spin.
const WEIGHTS: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904,
    3906, 3121, 2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87,
    70, 56, 45, 36, 29, 23, 18, 15,
];
/// That of `SCHED_IDLE`.
const IDLE: u32 = 3;

impl Schedule {
    /// As the first process has it.
    pub(crate) const USUAL: Self = Self { policy: Policy::Other, nice: 0, level: 0, resets: false };

    /// What a child begins with.
    pub(crate) fn inherited(self) -> Self {
        let child = Self { resets: false, ..self };
        match self.resets {
            true if self.policy.is_real_time() => Self::USUAL,
            true => Self { nice: self.nice.max(0), ..child },
            false => child,
        }
    }

    fn priority(self) -> Priority {
        match self.policy {
            Policy::Other | Policy::Batch => {
                Priority::Share(WEIGHTS[(self.nice - NICE.0) as usize])
            }
            Policy::Idle => Priority::Share(IDLE),
            policy => {
                let turns = policy == Policy::RoundRobin;
                Priority::RealTime { level: self.level as u8, turns }
            }
        }
    }
}

/// A task's schedule.
pub(crate) struct Scheduled {
    schedule: Spin<Schedule, Bare>,
    /// What its CPU looks at.
    pub(crate) standing: Arc<Standing>,
}

impl Scheduled {
    pub(crate) fn new(schedule: Schedule) -> Self {
        let standing = Arc::new(Standing::new(schedule.priority()));
        Self { schedule: Spin::new(&class::RECORD, schedule), standing }
    }

    pub(crate) fn get(&self) -> Schedule {
        *self.schedule.lock()
    }

    /// Changes it as `change` says, which may refuse.
    pub(crate) fn change<E>(
        &self,
        change: impl FnOnce(&mut Schedule) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut schedule = self.schedule.lock();
        let mut new = *schedule;
        change(&mut new)?;
        *schedule = new;
        self.standing.set(new.priority());
        Ok(())
    }
}
