//! Who is ready to run on one CPU, and who of them comes first.
//!
//! Flow:  woken, or its turn is over -> [`Ready::add`] -> [`Ready::take`] -> runs.
//! Locks: the caller has the queue's.
//! Owns:  the order of threads, which belong to themselves.
//!
//! Q1. While `is_ranked` is not set, all in it are ordinary and even: then the first in line is the one.

use core::cmp::Reverse;
use core::ptr;

use crate::thread::Thread;

/// Threads in line.
pub(crate) struct Ready {
    first: *const Thread,
    last: *const Thread,
    /// Somebody in it may have a priority.
    is_ranked: bool,
    /// Virtual time of the ordinary thread that was picked last, when they were looked at.
    floor: u64,
}

/// Where in line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Before its equals: it was interrupted.
    First,
    /// Behind them.
    Last,
}

// SAFETY: the threads in it are alive, and their links belong to whoever has the queue's lock.
unsafe impl Send for Ready {}

impl Ready {
    pub(crate) const fn new() -> Self {
        Self { first: ptr::null(), last: ptr::null(), is_ranked: false, floor: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    pub(crate) fn is_ranked(&self) -> bool {
        self.is_ranked
    }

    /// The priority of somebody in it, or about to be, has changed.
    pub(crate) fn look_again(&mut self) {
        self.is_ranked = true;
    }

    /// Puts `thread` in line, which is alive until it runs again.
    pub(crate) fn add(&mut self, thread: &Thread, end: End) {
        self.is_ranked |= !thread.is_plain();
        if end == End::First && !self.is_empty() {
            thread.next.set(self.first);
            self.first = thread;
            return;
        }
        thread.next.set(ptr::null());
        match self.last.is_null() {
            true => self.first = thread,
            // SAFETY: who is in line is alive, and its link is the lock's.
            false => unsafe { (*self.last).next.set(thread) },
        }
        self.last = thread;
    }

    /// Takes out who runs next; `turn` is how long.
    pub(crate) fn take(&mut self, turn: u64) -> Option<*const Thread> {
        if self.is_ranked {
            return self.take_best(turn);
        }
        let thread = self.first;
        if thread.is_null() {
            return None;
        }
        // SAFETY: as in `add`.
        self.first = unsafe { (*thread).next.get() };
        if self.first.is_null() {
            self.last = ptr::null();
        }
        Some(thread)
    }

    /// The highest level; of ordinary ones the least virtual time; of equals the first in line.
    #[cold]
    fn take_best(&mut self, turn: u64) -> Option<*const Thread> {
        let floor = self.floor;
        let place = |thread: &Thread| {
            let word = thread.word();
            let time = match word.is_real_time() {
                true => floor,
                false => thread.virtual_time.get().clamp(floor, floor + word.virtual_time(turn)),
            };
            (Reverse(word.level()), time)
        };
        let places = self.threads().map(|(before, thread)| (place(thread), before, thread));
        let best = places.min_by_key(|(place, ..)| *place);
        self.is_ranked = best.is_some_and(|(.., best)| {
            self.threads().any(|(_, thread)| !ptr::eq(thread, best) && !thread.is_plain())
        });
        let ((_, time), before, best) = best?;
        match before {
            None => self.first = best.next.get(),
            Some(before) => before.next.set(best.next.get()),
        }
        if ptr::eq(self.last, best) {
            self.last = before.map_or(ptr::null(), ptr::from_ref);
        }
        self.floor = time;
        best.virtual_time.set(time);
        Some(best)
    }

    /// Each in line, and who is before it.
    fn threads(&self) -> impl Iterator<Item = (Option<&'static Thread>, &'static Thread)> {
        let (mut before, mut at) = (None, self.first);
        core::iter::from_fn(move || {
            // SAFETY: as in `add`.
            let thread = unsafe { at.as_ref() }?;
            at = thread.next.get();
            Some((before.replace(thread), thread))
        })
    }
}
