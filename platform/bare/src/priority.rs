//! Priorities: who runs before whom on a CPU, and how those share it who are equal.
//!
//! | kind | runs | among equals |
//! |---|---|---|
//! | real time | before all lower levels and all ordinary threads, until it sleeps | until it sleeps, or a turn each |
//! | ordinary | while no real-time thread is ready | in proportion to weights |
//!
//! An ordinary thread has a virtual time: the time that it ran, times [`Priority::EVEN`] over its weight. The one with the
//! least runs, so whoever always wants to run gets time in proportion to his weight, whatever interrupts him. While
//! all threads that are ready on a CPU are ordinary and even, they just run in the order in which they came (`ready`).
//!
//! Flow:  who owns a thread -> [`Standing::set`] -> its CPU looks again -> `ready` picks.
//! Locks: none; what it says is read with the queue's lock.
//! Owns:  nothing.
//!
//! R1. Virtual time counts from that of the thread that was picked last, the floor, and at most to a turn of one's own
//!     after it. So nobody saves time up by sleeping, and whoever is ready runs when others have had that turn.

use core::sync::atomic::{AtomicU32, Ordering, fence};

use spin::Once;

use crate::cpu::Cpu;
use crate::scheduler;
use crate::spent::Spent;

/// What a thread claims of its CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// A part of what real-time threads leave, in proportion to this weight.
    Share(u32),
    /// All of it before lower levels; levels begin at 1.
    RealTime {
        /// Higher ones come first.
        level: u8,
        /// It takes turns with its equals.
        turns: bool,
    },
}

/// A priority in one word: level, then whether it takes turns, then weight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u32);

const TURNS: u32 = 1 << 23;
const LEVEL: u32 = 24;

impl Priority {
    /// Weight of a thread that nobody has said anything about.
    pub const EVEN: u32 = 1024;
    /// For what stands for an interrupt, and is done as soon as one: before every program.
    pub const INTERRUPT: Self = Self::RealTime { level: u8::MAX, turns: false };

    fn word(self) -> Word {
        match self {
            Self::Share(weight) => Word(weight.clamp(1, TURNS - 1)),
            Self::RealTime { level, turns } => {
                Word(u32::from(level.max(1)) << LEVEL | if turns { TURNS } else { 0 })
            }
        }
    }
}

impl Word {
    /// Nothing has been said.
    pub(crate) const PLAIN: Self = Self(Priority::EVEN);

    pub(crate) fn is_real_time(self) -> bool {
        self.0 >= 1 << LEVEL
    }

    pub(crate) fn takes_turns(self) -> bool {
        self.0 & TURNS != 0
    }

    /// Zero for ordinary threads.
    pub(crate) fn level(self) -> u32 {
        self.0 >> LEVEL
    }

    /// Virtual time that passes while an ordinary thread runs for `time`.
    pub(crate) fn virtual_time(self, time: u64) -> u64 {
        time.saturating_mul(u64::from(Priority::EVEN)) / u64::from(self.0)
    }
}

/// A thread's priority, in a place that others may change, and what it has had of its CPU.
pub struct Standing {
    word: AtomicU32,
    /// What the thread has spent of its CPU.
    pub(crate) spent: Spent,
    /// Where its thread lives, once there is one.
    cpu: Once<&'static Cpu>,
}

impl Standing {
    /// For a thread that is yet to be.
    pub fn new(priority: Priority) -> Self {
        Self { word: AtomicU32::new(priority.word().0), spent: Spent::new(), cpu: Once::new() }
    }

    /// Changes it. Takes effect at once, whatever the thread does.
    pub fn set(&self, priority: Priority) {
        let word = priority.word().0;
        if self.word.swap(word, Ordering::SeqCst) == word {
            return;
        }
        // Either we see where the thread is, or who puts it there sees the word.
        fence(Ordering::SeqCst);
        if let Some(cpu) = self.cpu.get() {
            scheduler::look_again(cpu);
        }
    }

    /// Nanoseconds that its thread has had a CPU up to now.
    pub fn time(&self) -> u64 {
        self.spent.time()
    }

    /// Whether its thread runs, or would if it were its turn.
    pub fn is_ready(&self) -> bool {
        self.spent.is_ready()
    }

    pub(crate) fn settle(&self, cpu: &'static Cpu) {
        self.cpu.call_once(|| cpu);
        fence(Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Relaxed))
    }
}
