//! Futexes: who waits for a word of memory.
//!
//! Flow:  [`Futexes::wait`]: listed under the word's key -> the word is looked at -> asleep -> taken out by a wake-up.
//! Locks: one, for a few instructions; never while the word is looked at.
//! Owns:  the waiters' records, while they wait.
//!
//! X1. Who waits is listed before it looks at the word, and who wakes has changed the word before: no wake-up is lost.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use rumpvm::sync::{Atomic, Ordering, Spin, try_push};
use rumpvm::{AreaFlags, Hold};
use rumpvm_arch::VirtAddr;
use rumpvm_bare::Bare;
use rumpvm_files::{Errno, Waker, wait};

use super::class;
use super::system::system;
use super::thread::Thread;
use super::user::Memory;

/// What a word is: the same for all who share it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    /// Number of a space, or of an object with the highest bit set.
    owner: u64,
    offset: u64,
}

/// Whether a word may be shared by several spaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    Private,
    Shared,
}

struct Waiter {
    key: Spin<Key, Bare>,
    bits: u32,
    woken: Atomic<u32, Bare>,
    waker: Hold<Waker<Bare>, Bare>,
}

/// Lists of waiters; a key's place says which.
const LISTS: usize = 64;
/// Threads that a call wakes without the lock.
const FEW: usize = 4;

/// All who wait.
pub(crate) struct Futexes {
    lists: Spin<[Vec<Hold<Waiter, Bare>>; LISTS], Bare>,
}

/// Any wake-up.
pub(crate) const ANY: u32 = u32::MAX;

impl Key {
    /// The key of the word at `at`; [`Errno::EFAULT`] if there is none.
    pub(crate) fn of(memory: &Memory, at: VirtAddr, scope: Scope) -> Result<Self, Errno> {
        if !at.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let space = memory.space();
        let own = Self { owner: space.id(), offset: at.0 };
        if scope == Scope::Private {
            return Ok(own);
        }
        let found = space.areas(&system().kernel.vm, |area| {
            if area.range.end <= at {
                return ControlFlow::Continue(());
            }
            let shared = area.range.contains(at) && area.flags.contains(AreaFlags::SHARED);
            let object = area.object.as_ref().filter(|_| shared);
            ControlFlow::Break(object.map(|object| Self {
                owner: object.id() | 1 << 63,
                offset: area.offset + (at.0 - area.range.start.0),
            }))
        });
        Ok(found.break_value().flatten().unwrap_or(own))
    }

    fn list(self) -> usize {
        let mixed = (self.owner ^ self.offset >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 58) as usize
    }
}

impl Futexes {
    pub(crate) fn new() -> Self {
        Self { lists: Spin::new(&class::FUTEX, [const { Vec::new() }; LISTS]) }
    }

    /// Sleeps until somebody wakes the word at `at` with one of `bits`, if it is `expected`.
    pub(crate) fn wait(
        &self,
        thread: &Thread,
        (at, scope): (VirtAddr, Scope),
        expected: u32,
        bits: u32,
        until: Option<u64>,
    ) -> Result<(), Errno> {
        let memory = thread.user();
        let key = Key::of(memory, at, scope)?;
        let waiter = Hold::try_new(Waiter {
            key: Spin::new(&class::FUTEX_KEY, key),
            bits,
            woken: Atomic::new(0),
            waker: thread.task.waker.clone(),
        })?;
        try_push::<_, Bare>(&mut self.lists.lock()[key.list()], waiter.clone())?;
        let is_woken = || (waiter.woken.load(Ordering::Acquire) != 0).then_some(());
        let outcome = match memory.half(at) {
            Ok(word) if word == expected => wait(&thread.task.waker, &[], until, is_woken),
            Ok(_) => Err(Errno::EAGAIN),
            Err(error) => Err(error),
        };
        if outcome.is_err() && !self.strike(&waiter) {
            // Woken after all: whoever did that counts on it.
            return Ok(());
        }
        outcome
    }

    /// Takes `waiter` out; false if it was woken.
    fn strike(&self, waiter: &Hold<Waiter, Bare>) -> bool {
        let mut lists = self.lists.lock();
        let list = waiter.key.lock().list();
        let at = lists[list].iter().position(|other| other.is(waiter));
        let struck = at.map(|at| lists[list].remove(at));
        drop(lists);
        struck.is_some()
    }

    /// Wakes up to `most` who wait for `key` with one of `bits`, who came first first; returns how many. The first few,
    /// and mostly there are no more, are woken with the lock given up, as by [`rumpvm_files::Queue::wake`].
    pub(crate) fn wake(&self, key: Key, most: u32, bits: u32) -> u32 {
        let mut few = [const { None }; FEW];
        let mut lists = self.lists.lock();
        let list = &mut lists[key.list()];
        let (mut count, mut at) = (0, 0);
        while count < most && at < list.len() {
            let waiter = &list[at];
            if *waiter.key.lock() != key || waiter.bits & bits == 0 {
                at += 1;
                continue;
            }
            let waiter = list.remove(at);
            waiter.woken.store(1, Ordering::Release);
            match few.get_mut(count as usize) {
                Some(place) => *place = Some(waiter),
                None => waiter.waker.wake(),
            }
            count += 1;
        }
        drop(lists);
        few.iter().flatten().for_each(|waiter: &Hold<Waiter, Bare>| waiter.waker.wake());
        count
    }

    /// Wakes one who waits at `at`, whether or not he shares it.
    pub(crate) fn wake_at(&self, memory: &Memory, at: VirtAddr) {
        for scope in [Scope::Shared, Scope::Private] {
            if let Ok(key) = Key::of(memory, at, scope)
                && self.wake(key, 1, ANY) > 0
            {
                return;
            }
        }
    }

    /// Wakes up to `wake` who wait for `from`, and has up to `most` others wait for `to` instead; returns how many
    /// were woken, and how many were moved.
    pub(crate) fn requeue(&self, from: Key, to: Key, wake: u32, most: u32) -> (u32, u32) {
        let woken = self.wake(from, wake, ANY);
        let mut lists = self.lists.lock();
        let mut moved = 0;
        let mut at = 0;
        while moved < most && at < lists[from.list()].len() {
            if *lists[from.list()][at].key.lock() != from {
                at += 1;
                continue;
            }
            moved += 1;
            if from.list() == to.list() {
                *lists[from.list()][at].key.lock() = to;
                at += 1;
                continue;
            }
            // There must be room before it leaves its place.
            if lists[to.list()].try_reserve(1).is_err() {
                moved -= 1;
                break;
            }
            let waiter = lists[from.list()].remove(at);
            *waiter.key.lock() = to;
            lists[to.list()].push(waiter);
        }
        (woken, moved)
    }
}

/// Lets go of the robust futexes of a thread that ends: `struct robust_list_head`.
pub(crate) fn let_go(thread: &Thread) {
    /// Longest list that is believed (`ROBUST_LIST_LIMIT`).
    const MOST: usize = 2048;
    let (head, _) = thread.robust;
    let memory = thread.user();
    if head == 0 || thread.space().users() == 0 {
        return;
    }
    let Ok([first, offset, pending]) = memory.words::<3>(VirtAddr(head)) else { return };
    let mut entry = first;
    for _ in 0..MOST {
        // The lowest bit says that it inherits priority, which none does here.
        let at = entry & !1;
        if at == head {
            break;
        }
        let next = memory.word(VirtAddr(at));
        if at != pending & !1 {
            let_go_of(thread, at.wrapping_add(offset));
        }
        let Ok(next) = next else { return };
        entry = next;
    }
    if pending & !1 != 0 {
        let_go_of(thread, (pending & !1).wrapping_add(offset));
    }
}

/// If the thread holds the futex at `at`, says that its owner died, and wakes somebody.
fn let_go_of(thread: &Thread, at: u64) {
    const WAITERS: u32 = 1 << 31;
    const OWNER_DIED: u32 = 1 << 30;
    const OWNER: u32 = OWNER_DIED - 1;
    let (memory, at) = (thread.user(), VirtAddr(at));
    let is_mine = |word: u32| word & OWNER == thread.number();
    let dies = |word: u32| is_mine(word).then_some(word & WAITERS | OWNER_DIED);
    if memory.change_half(at, dies).is_ok_and(|word| is_mine(word) && word & WAITERS != 0) {
        system().futexes.wake_at(memory, at);
    }
}
