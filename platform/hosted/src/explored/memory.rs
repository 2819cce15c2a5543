//! Shared words as the explorer sees them: who touched which, in which order, and whether that order is one.
//!
//! Happens-before is kept by vector clocks, one for each CPU (Lamport 1978; Flanagan and Freund, "FastTrack",
//! 2009). An atomic store with release order carries its CPU's clock to whoever acquires it. The plain accesses
//! (`Op::Get` and `Op::Set`: words that belong to a CPU, or to whoever holds a lock) must be ordered that
//! way with every other write; if one is not, the lock that should have ordered them was not held, whether
//! or not this run came out right.
//!
//! Locks: none. Owns: what is known of each word since the run began.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use rumpvm_platform::{Cell, Op, Site};

use super::agent::{AgentSet, MOST};

/// How far each CPU had come.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Clock([u32; MOST]);

impl Clock {
    #[inline]
    fn join(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
    }
}

/// What is known of one word.
#[derive(Clone, Copy)]
pub(super) struct Word {
    key: u64,
    stamp: u32,
    /// Clock that an acquiring load takes over.
    sync: Clock,
    /// Last write: when, by which CPU, where, and whether it was a plain one.
    written: u32,
    writer: u8,
    plain: bool,
    site: Option<Site>,
    /// Last plain load of each CPU.
    read: [u32; MOST],
    /// Who touched it, and whether anybody wrote.
    touched: u16,
    is_written: bool,
    /// Who waits for it to change.
    pub(super) waiters: AgentSet,
    /// Who touched it last, and where: for coverage.
    pub(super) last: u8,
    pub(super) last_site: Option<Site>,
    /// Order in which it was touched, folded.
    pub(super) history: u64,
}

const FRESH: Word = Word {
    key: 0,
    stamp: 0,
    sync: Clock([0; MOST]),
    written: 0,
    writer: 0,
    plain: false,
    site: None,
    read: [0; MOST],
    touched: 0,
    is_written: false,
    waiters: AgentSet::NONE,
    last: 0,
    last_site: None,
    history: 0,
};

impl Word {
    /// Whether more than one agent has touched it, and one of them wrote.
    #[inline]
    pub(super) fn is_shared(&self) -> bool {
        self.is_written && !self.touched.is_power_of_two()
    }
}

/// Two accesses without an order.
pub(super) struct Race {
    /// CPU and place of the earlier one, if it is known.
    pub(super) cpu: u8,
    pub(super) site: Option<Site>,
}

/// What is known of all words, and how far each CPU is.
pub(super) struct Memory {
    words: Vec<Word>,
    stamp: u32,
    used: usize,
    clocks: [Clock; MOST],
    /// What relaxed loads saw, taken over at the next fence.
    seen: [Clock; MOST],
    /// What the last fence of a CPU publishes with its relaxed stores.
    fenced: [Clock; MOST],
    fences: Clock,
}

impl Memory {
    pub(super) fn new() -> Self {
        let mut memory = Self {
            words: vec![FRESH; 1 << 12],
            stamp: 0,
            used: 0,
            clocks: Default::default(),
            seen: Default::default(),
            fenced: Default::default(),
            fences: Clock::default(),
        };
        memory.reset();
        memory
    }

    /// Forgets everything: what happened so far is over for everyone.
    pub(super) fn reset(&mut self) {
        self.stamp += 1;
        self.used = 0;
        for (cpu, clock) in self.clocks.iter_mut().enumerate() {
            *clock = Clock::default();
            clock.0[cpu] = 1;
        }
        self.seen = Default::default();
        self.fenced = Default::default();
        self.fences = Clock::default();
    }

    /// What is known of the word named `key`.
    #[inline]
    pub(super) fn word(&mut self, key: u64) -> &mut Word {
        if self.used * 2 > self.words.len() {
            self.grow();
        }
        let mask = self.words.len() - 1;
        let mut at = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        loop {
            let word = &self.words[at];
            if word.stamp != self.stamp {
                self.used += 1;
                self.words[at] = Word { key, stamp: self.stamp, ..FRESH };
                break;
            }
            if word.key == key {
                break;
            }
            at = (at + 1) & mask;
        }
        &mut self.words[at]
    }

    #[cold]
    fn grow(&mut self) {
        let twice = vec![FRESH; self.words.len() * 2];
        let old = std::mem::replace(&mut self.words, twice);
        let stamp = self.stamp;
        self.used = 0;
        for word in old.into_iter().filter(|word| word.stamp == stamp) {
            *self.word(word.key) = word;
        }
    }

    /// Notes who touches a word; whether somebody else has too, and one of them writes.
    #[inline]
    pub(super) fn touch(&mut self, key: u64, who: u32, writes: bool) -> bool {
        let word = self.word(key);
        word.touched |= 1 << who;
        word.is_written |= writes;
        word.is_shared()
    }

    /// An access that reads, atomic or plain.
    pub(super) fn loads(
        &mut self,
        cpu: usize,
        key: u64,
        order: Ordering,
        plain: bool,
    ) -> Option<Race> {
        let mine = self.clocks[cpu];
        let word = self.word(key);
        let sync = word.sync;
        if plain {
            word.read[cpu] = mine.0[cpu];
            let writer = usize::from(word.writer);
            if word.written > mine.0[writer] && writer != cpu {
                return Some(Race { cpu: word.writer, site: word.site });
            }
            return None;
        }
        if matches!(order, Ordering::Acquire | Ordering::AcqRel | Ordering::SeqCst) {
            self.clocks[cpu].join(&sync);
        } else {
            self.seen[cpu].join(&sync);
        }
        None
    }

    /// An access that writes. Returns the clock that the value carries once others see it.
    pub(super) fn stores(
        &mut self,
        cpu: usize,
        key: u64,
        op: Op,
        order: Ordering,
        site: Site,
    ) -> (Clock, Option<Race>) {
        let mine = self.clocks[cpu];
        let fenced = self.fenced[cpu];
        let plain = matches!(op, Op::Set(_));
        let word = self.word(key);
        let unordered = |when: u32, by: usize| by != cpu && when > mine.0[by];
        let mut race = None;
        if unordered(word.written, usize::from(word.writer)) && (plain || word.plain) {
            race = Some(Race { cpu: word.writer, site: word.site });
        }
        if let Some(by) = (0..MOST).find(|by| unordered(word.read[*by], *by)) {
            race = Some(Race { cpu: by as u8, site: None });
        }
        (word.written, word.writer, word.plain) = (mine.0[cpu], cpu as u8, plain);
        word.site = Some(site);
        let releases = matches!(order, Ordering::Release | Ordering::AcqRel | Ordering::SeqCst);
        let mut carried = if releases { mine } else { fenced };
        if op.is_rmw() {
            // A read-modify-write goes on with the release it reads from.
            carried.join(&word.sync);
        }
        if releases {
            self.clocks[cpu].0[cpu] += 1;
        }
        (carried, race)
    }

    /// The value that carries `clock` is in memory now.
    #[inline]
    pub(super) fn lands(&mut self, key: u64, clock: Clock) -> AgentSet {
        let word = self.word(key);
        word.sync = clock;
        std::mem::take(&mut word.waiters)
    }

    /// CPU `cpu` passes a full fence.
    pub(super) fn fence(&mut self, cpu: usize) {
        let seen = self.seen[cpu];
        self.clocks[cpu].join(&seen);
        let fences = self.fences;
        self.clocks[cpu].join(&fences);
        self.fences = self.clocks[cpu];
        self.fenced[cpu] = self.clocks[cpu];
        self.clocks[cpu].0[cpu] += 1;
    }

    /// Whatever CPU `from` did is over for CPU `to`: a message between them that is no word.
    pub(super) fn pass(&mut self, from: usize, to: usize) {
        let clock = self.clocks[from];
        self.clocks[to].join(&clock);
        self.clocks[from].0[from] += 1;
    }
}

/// Who touched which word, for the many that only one agent ever touches, or nobody writes.
pub(super) struct Touched {
    /// A stamp in the upper half; below it whether anybody wrote, and who touched it.
    words: Vec<u64>,
    stamp: u64,
}

/// Words of the arena, and words of the heap, that are told apart: a mebibyte of each.
const EACH: usize = 1 << 19;
const WRITTEN: u64 = 1 << 16;

impl Touched {
    pub(super) fn new() -> Self {
        Self { words: vec![0; 2 * EACH], stamp: 1 }
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.stamp += 1;
    }

    /// Notes that `who` touches a word; whether that is a matter of his own, or of nobody who writes.
    #[inline]
    pub(super) fn is_private(&mut self, key: u64, who: u32, writes: bool) -> bool {
        // Neighbours stay neighbours: nodes and tables are walked in order.
        let half = if key < super::state::ARENA { EACH } else { 0 };
        let word = &mut self.words[half + ((key >> 1) as usize & (EACH - 1))];
        let known = if *word >> 32 == self.stamp { *word & u64::from(u32::MAX) } else { 0 };
        let now = known | 1 << who | if writes { WRITTEN } else { 0 };
        *word = self.stamp << 32 | now;
        now & WRITTEN == 0 || (now & (WRITTEN - 1)).is_power_of_two()
    }
}

/// What a word holds after `op` found `old` in it, if it is written at all. Bits above its width mean nothing.
#[inline]
pub(super) fn after(op: Op, old: u64) -> Option<u64> {
    Some(match op {
        Op::Load | Op::Get => return None,
        Op::Store(value) | Op::Set(value) | Op::Swap(value) => value,
        Op::CompareExchange { old: expected, new } => return (old == expected).then_some(new),
        Op::Add(value) => old.wrapping_add(value),
        Op::Sub(value) => old.wrapping_sub(value),
        Op::Or(value) => old | value,
        Op::And(value) => old & value,
    })
}

/// Does `op` on the word itself and returns what was there.
///
/// # Safety
/// `cell` is a live atomic of that width.
#[inline]
pub(super) unsafe fn perform(cell: Cell, op: Op) -> u64 {
    macro_rules! on {
        ($atomic:ty, $int:ty) => {{
            let at = std::ptr::with_exposed_provenance_mut(cell.address);
            // SAFETY: the caller's promise.
            let word = unsafe { <$atomic>::from_ptr(at) };
            // One host thread plays all CPUs: a load and a store are one step, and need no lock on the bus.
            let old = word.load(Ordering::Relaxed);
            if let Some(new) = after(op, u64::from(old)) {
                word.store(new as $int, Ordering::Relaxed);
            }
            u64::from(old)
        }};
    }
    match cell.bytes {
        2 => on!(AtomicU16, u16),
        4 => on!(AtomicU32, u32),
        8 => on!(AtomicU64, u64),
        bytes => unreachable!("no atomic has {bytes} bytes"),
    }
}
