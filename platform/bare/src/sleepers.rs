//! Sleep queues: who waits for which word, as futexes do.
//!
//! Flow:  `Seam::sleep` -> listed under the word's address -> `Seam::wakeup`, or the alarm -> runnable on its CPU.
//! Locks: one for each of some lists; the comparison of the word happens under it.
//! Owns:  the lists. Each sleeper is taken out by exactly one wake-up.
//!
//! S1. No lost wake-up: a sleeper counts itself before it compares the word, a waker changes the word
//!     before it looks at the count, and full fences stand between.

use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use crate::lock::{Lock, Masked};
use crate::thread::{self, Thread};
use crate::{clock, scheduler};

/// Enough that a hundred sleeping threads seldom meet in one.
const SHARDS: usize = 64;

struct Shard {
    /// Sleepers here, and those about to be.
    count: AtomicUsize,
    /// The one who came last.
    last: Lock<List>,
}

struct List(*const Thread);

// SAFETY: the threads in it are asleep, hence alive, and their links belong to whoever has the list's lock.
unsafe impl Send for List {}

static SHARDS_OF_WORDS: [Shard; SHARDS] =
    [const { Shard { count: AtomicUsize::new(0), last: Lock::new(List(ptr::null())) } }; SHARDS];

fn shard(word: usize) -> &'static Shard {
    // Words are at least 4 bytes apart, and often 64.
    &SHARDS_OF_WORDS[((word >> 2) ^ (word >> 8)) % SHARDS]
}

/// Puts the calling thread to sleep while `*word` is `expected`, at most until `until`.
pub(crate) fn sleep(word: &AtomicU32, expected: u32, until: Option<u64>) {
    let _masked = Masked::now();
    let thread = thread::current();
    if let Some(until) = until {
        if clock::now() >= until {
            return;
        }
        scheduler::wake_at(thread, until);
    }
    if enter(word, expected, thread) {
        scheduler::block();
    }
    if until.is_some() {
        scheduler::forget_wake_at(thread);
    }
}

/// Lists `thread` if `*word` is still `expected`; says whether it may go to sleep.
fn enter(word: &AtomicU32, expected: u32, thread: &'static Thread) -> bool {
    let address = ptr::from_ref(word) as usize;
    let shard = shard(address);
    let mut last = shard.last.lock();
    shard.count.fetch_add(1, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    if word.load(Ordering::SeqCst) != expected {
        shard.count.fetch_sub(1, Ordering::SeqCst);
        return false;
    }
    thread.word.store(address, Ordering::SeqCst);
    thread.next_sleeper.set(last.0);
    last.0 = thread;
    true
}

/// Wakes everyone who sleeps on `word`, in the order in which they came.
pub(crate) fn wake(word: &AtomicU32) {
    let address = ptr::from_ref(word) as usize;
    let mut woken = take(address, |_| true);
    while !woken.is_null() {
        // SAFETY: whoever was taken out is asleep until the next line, and ours to wake.
        let next = unsafe { (*woken).next_sleeper.get() };
        scheduler::make_runnable(woken);
        woken = next;
    }
}

/// Takes `thread` out, whose time is over, if it sleeps still; then the caller wakes it.
pub(crate) fn call_off(thread: &'static Thread) -> bool {
    let word = thread.word.load(Ordering::SeqCst);
    word != 0 && !take(word, |other| ptr::eq(other, thread)).is_null()
}

/// Takes those who sleep on the word at `address` and are `wanted` out of the list; the result is a list of them, who
/// came first first.
fn take(address: usize, wanted: impl Fn(*const Thread) -> bool) -> *const Thread {
    let shard = shard(address);
    fence(Ordering::SeqCst);
    if shard.count.load(Ordering::SeqCst) == 0 {
        return ptr::null();
    }
    let mut last = shard.last.lock();
    let (mut taken, mut kept, mut at) = (ptr::null(), ptr::null::<Thread>(), last.0);
    let mut count = 0;
    // Newest first; a list that is built by putting each in front is oldest first, so what is kept is turned again.
    while !at.is_null() {
        // SAFETY: those in the list are asleep, and their links are the lock's.
        let thread = unsafe { &*at };
        let next = thread.next_sleeper.get();
        let list = if thread.word.load(Ordering::SeqCst) == address && wanted(at) {
            thread.word.store(0, Ordering::SeqCst);
            count += 1;
            &mut taken
        } else {
            &mut kept
        };
        thread.next_sleeper.set(*list);
        *list = at;
        at = next;
    }
    last.0 = ptr::null();
    while !kept.is_null() {
        // SAFETY: as above.
        let thread = unsafe { &*kept };
        let next = thread.next_sleeper.get();
        thread.next_sleeper.set(last.0);
        last.0 = kept;
        kept = next;
    }
    shard.count.fetch_sub(count, Ordering::SeqCst);
    taken
}
