//! Sleep queues: who waits for which word, as futexes do.
//!
//! Flow:  `Seam::sleep` -> registered under the word's address -> `Seam::wakeup` -> runnable on its CPU.
//! Locks: one per shard of queues; the comparison of the word happens under it.
//! Owns:  the registrations. Each is taken out by exactly one wake-up.
//!
//! S1. No lost wake-up: a sleeper counts itself before it compares the word, a waker changes the word
//!     before it looks at the count, and full fences stand between.

use std::sync::Mutex;
use std::sync::atomic::{self, AtomicU32, AtomicUsize, Ordering};

use rumpvm_platform::CpuId;
use rustc_hash::FxHashMap;

use crate::cpu::{Slot, lock};

/// Enough that a hundred sleeping threads seldom meet in one.
const SHARDS: usize = 64;

/// A thread that sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sleeper {
    pub(crate) cpu: CpuId,
    pub(crate) slot: Slot,
}

#[derive(Default)]
struct Shard {
    /// Sleepers here, and those about to be.
    count: AtomicUsize,
    queues: Mutex<FxHashMap<usize, Vec<Sleeper>>>,
}

pub(crate) struct Sleepers {
    shards: [Shard; SHARDS],
}

impl Default for Sleepers {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()) }
    }
}

impl Sleepers {
    /// Registers `sleeper` if `*word` is still `expected`; says whether it may go to sleep.
    pub(crate) fn enter(&self, word: &AtomicU32, expected: u32, sleeper: Sleeper) -> bool {
        let shard = self.shard(word);
        let mut queues = lock(&shard.queues);
        shard.count.fetch_add(1, Ordering::SeqCst);
        fence();
        if word.load(Ordering::SeqCst) != expected {
            shard.count.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        queues.entry(address(word)).or_default().push(sleeper);
        true
    }

    /// Takes out everyone who sleeps on `word`, in the order in which they came.
    pub(crate) fn leave(&self, word: &AtomicU32) -> Vec<Sleeper> {
        let shard = self.shard(word);
        fence();
        if shard.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let woken = lock(&shard.queues).remove(&address(word)).unwrap_or_default();
        shard.count.fetch_sub(woken.len(), Ordering::SeqCst);
        woken
    }

    /// Who sleeps on what, for the report of a deadlock.
    pub(crate) fn story(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for shard in &self.shards {
            for (word, sleepers) in &*lock(&shard.queues) {
                let who = |sleeper: &Sleeper| {
                    format!("thread {} of CPU {}", sleeper.slot.0, sleeper.cpu.0)
                };
                let who: Vec<String> = sleepers.iter().map(who).collect();
                lines.push(format!("word {word:#x}: {}", who.join(", ")));
            }
        }
        lines.sort();
        lines.join("; ")
    }

    fn shard(&self, word: &AtomicU32) -> &Shard {
        // Words are at least 4 bytes apart, and often 64.
        let at = address(word);
        &self.shards[((at >> 2) ^ (at >> 8)) % SHARDS]
    }
}

/// Stores before it are seen by everyone before loads after it.
fn fence() {
    if cfg!(rumpvm_tsan) {
        // ThreadSanitizer does not know fences; it knows that all who change one word come in an order.
        static ORDER: AtomicU32 = AtomicU32::new(0);
        ORDER.fetch_add(1, Ordering::SeqCst);
    } else {
        atomic::fence(Ordering::SeqCst);
    }
}

fn address(word: &AtomicU32) -> usize {
    std::ptr::from_ref(word) as usize
}
