//! Counters for each class of locks: how often taken, how often waited for, how long held.
//!
//! For homes that want to know. A home keeps one [`LockStats`], and for each of its threads a [`LockWatch`], to
//! which it hands what it is told of locks and waits. A home that does not pays nothing.
//!
//! Flow:  lock step, with the time -> the thread's watch -> the class's counters.
//! Owns:  nothing; classes are told apart by address.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::{LockClass, LockStep, LockUse};

/// More classes than the lock table has.
const CLASSES: usize = 64;

/// Locks that one thread holds or waits for; what is deeper is not counted.
const DEPTH: usize = 32;

#[derive(Debug)]
struct Row {
    /// Whose row it is; null until the first of a class comes.
    class: AtomicPtr<LockClass>,
    acquired: AtomicU64,
    contended: AtomicU64,
    longest: AtomicU64,
}

/// Counters for each class.
#[derive(Debug)]
pub struct LockStats {
    rows: [Row; CLASSES],
}

/// What was counted of one class.
#[derive(Clone, Copy, Debug)]
pub struct LockCounts {
    /// The class.
    pub class: &'static LockClass,
    /// Times that a lock of it was taken.
    pub acquired: u64,
    /// Times that its taker had to wait.
    pub contended: u64,
    /// The longest that one was held, in the clock's nanoseconds; for a token, its holder's sleeps included.
    pub longest: u64,
}

/// One lock that a thread holds or waits for.
#[derive(Clone, Copy, Debug)]
struct Entry {
    lock: LockUse,
    waited: bool,
    /// When it was taken.
    since: Option<u64>,
}

/// The locks of one thread, as the counters see them.
#[derive(Clone, Debug, Default)]
pub struct LockWatch {
    entries: [Option<Entry>; DEPTH],
    depth: usize,
}

impl Default for LockStats {
    fn default() -> Self {
        let row = |_| Row {
            class: AtomicPtr::new(ptr::null_mut()),
            acquired: AtomicU64::new(0),
            contended: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        };
        Self { rows: core::array::from_fn(row) }
    }
}

impl LockStats {
    /// What was counted, in the order of the lock table; classes of which nothing was taken are left out.
    pub fn counts(&self, classes: &[&'static LockClass]) -> impl Iterator<Item = LockCounts> {
        classes.iter().filter_map(|&class| {
            let is_its = |row: &&Row| ptr::eq(row.class.load(Ordering::Acquire), class);
            let row = self.rows.iter().find(is_its)?;
            Some(LockCounts {
                class,
                acquired: row.acquired.load(Ordering::Relaxed),
                contended: row.contended.load(Ordering::Relaxed),
                longest: row.longest.load(Ordering::Relaxed),
            })
        })
    }

    /// The row of `class`, found or begun; none if there are too many classes.
    fn row(&self, class: &'static LockClass) -> Option<&Row> {
        let class = ptr::from_ref(class).cast_mut();
        // Classes lie side by side, so their addresses spread over the rows.
        let first = class as usize / size_of::<LockClass>();
        (0..CLASSES).map(|step| &self.rows[(first + step) % CLASSES]).find(|row| {
            let (begin, order) = (ptr::null_mut(), Ordering::AcqRel);
            let seen = row.class.load(Ordering::Acquire);
            if !seen.is_null() {
                return ptr::eq(seen, class);
            }
            match row.class.compare_exchange(begin, class, order, Ordering::Acquire) {
                Ok(_) => true,
                Err(other) => ptr::eq(other, class),
            }
        })
    }
}

impl LockWatch {
    /// Notes a step of this thread at time `now`.
    pub fn step(&mut self, step: LockStep, lock: &LockUse, now: u64, stats: &LockStats) {
        match step {
            LockStep::Want | LockStep::Try => {
                if let Some(place) = self.entries.get_mut(self.depth) {
                    *place = Some(Entry { lock: *lock, waited: false, since: None });
                    self.depth += 1;
                }
            }
            LockStep::Taken => {
                let Some(at) = self.find(lock, false) else { return };
                let Some(entry) = &mut self.entries[at] else { return };
                entry.since = Some(now);
                if let Some(row) = stats.row(lock.class) {
                    row.acquired.fetch_add(1, Ordering::Relaxed);
                    row.contended.fetch_add(u64::from(entry.waited), Ordering::Relaxed);
                }
            }
            LockStep::Failed => {
                if let Some(at) = self.find(lock, false) {
                    self.remove(at);
                }
            }
            LockStep::Free => {
                let Some(at) = self.find(lock, true) else { return };
                let since = self.remove(at).and_then(|entry| entry.since).unwrap_or(now);
                if let Some(row) = stats.row(lock.class) {
                    row.longest.fetch_max(now.saturating_sub(since), Ordering::Relaxed);
                }
            }
            LockStep::Freed => {}
        }
    }

    /// The thread has to wait; if it is for a lock, for the one that it wants last.
    pub fn waits(&mut self) {
        let wanted = self.entries[..self.depth].iter_mut().flatten().next_back();
        if let Some(entry) = wanted
            && entry.since.is_none()
        {
            entry.waited = true;
        }
    }

    fn find(&self, lock: &LockUse, taken: bool) -> Option<usize> {
        let is_it = |entry: &Option<Entry>| {
            entry.is_some_and(|it| it.lock.address == lock.address && it.since.is_some() == taken)
        };
        self.entries[..self.depth].iter().rposition(is_it)
    }

    fn remove(&mut self, at: usize) -> Option<Entry> {
        let entry = self.entries[at].take();
        self.entries[at..self.depth].rotate_left(1);
        self.depth -= 1;
        entry
    }
}

#[cfg(test)]
mod tests {
    use core::panic::Location;

    use super::*;
    use crate::LockKind;

    static OUTER: LockClass =
        LockClass { name: "outer", rank: 0, kind: LockKind::Sleep, nests: false };
    static INNER: LockClass =
        LockClass { name: "inner", rank: 1, kind: LockKind::Spin, nests: false };
    static UNUSED: LockClass =
        LockClass { name: "unused", rank: 2, kind: LockKind::Spin, nests: false };

    fn used(class: &'static LockClass, address: usize) -> LockUse {
        LockUse { class, address, shared: false, site: Location::caller() }
    }

    #[test]
    fn takes_waits_and_the_longest_hold_are_counted_by_class() {
        let (stats, mut watch) = (LockStats::default(), LockWatch::default());
        let (outer, inner) = (used(&OUTER, 8), used(&INNER, 16));
        let mut step = |step, lock: &LockUse, now| watch.step(step, lock, now, &stats);
        step(LockStep::Want, &outer, 0);
        step(LockStep::Taken, &outer, 5);
        for (begin, end) in [(10, 17), (20, 22)] {
            step(LockStep::Want, &inner, begin);
            step(LockStep::Taken, &inner, begin);
            step(LockStep::Free, &inner, end);
            step(LockStep::Freed, &inner, end);
        }
        step(LockStep::Try, &inner, 30);
        step(LockStep::Failed, &inner, 30);
        step(LockStep::Want, &inner, 40);
        watch.waits();
        watch.step(LockStep::Taken, &inner, 50, &stats);
        watch.waits();
        watch.step(LockStep::Free, &inner, 51, &stats);
        watch.step(LockStep::Free, &outer, 105, &stats);
        let counts: [LockCounts; 2] = {
            let classes = [&OUTER, &INNER, &UNUSED];
            let mut counts = stats.counts(&classes);
            let both = [counts.next().unwrap(), counts.next().unwrap()];
            assert!(counts.next().is_none());
            both
        };
        let told = counts.map(|count| (count.acquired, count.contended, count.longest));
        assert_eq!(told, [(1, 0, 100), (3, 1, 7)]);
    }
}
