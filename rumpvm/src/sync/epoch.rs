//! Epochs: when may memory be freed that lock-free readers might still see?
//!
//! A reader pins the current epoch for the length of a lookup. What is unlinked in epoch `e` may be freed
//! once the epoch has reached `e + 2`: it only moves on when every pinned CPU has seen it, so by then no
//! reader is left who could have found the link. Fraser, "Practical lock-freedom" (2004), 5.2.3.
//!
//! Locks: none. Sleep: never; nor may a pinned reader sleep, or nothing is freed meanwhile.
//! Owns:  retired heap records. Retired frames wait in `phys::limbo` under the same clock.
//!
//! E1. A record is retired after its last link is gone, and once.
//! E2. A record retired in epoch `e` is freed in epoch `e + 2` or later.
//! E3. A pin that is not seen by who moves the epoch on was made after a fence behind which every link loaded
//!     is one that was there when he looked. Where the home can make all CPUs pass a fence at once, who moves
//!     the epoch does, and a pin costs none: there are thousands of pins for each move. (Dice, Huang and Yang,
//!     "Asymmetric Dekker synchronization", 2001.)

use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use rumpvm_platform::Seam;

use super::percpu::PerCpu;
use super::seam::{Atomic, AtomicPtr, Ordering, compiler_fence, fence, fence_everywhere};
use crate::NoMemory;

/// Not pinned. Epochs start above it.
const IDLE: u64 = 0;
/// Epochs that can be told apart: the current one, and the two that may still have readers.
pub const GENERATIONS: usize = 3;
/// Records retired on a CPU before it tries to move the epoch on. Large enough that scanning all CPUs, and having
/// each pass a fence (E3), which interrupts them, is a fraction of the work of retiring; small enough that a CPU
/// holds back half a mebibyte of tree nodes at most.
const ADVANCE_EVERY: u64 = 256;

/// The links that a retired record brings along. First field of a `repr(C)` record.
pub struct Retired {
    pub(super) next: *mut Retired,
    pub(super) free: unsafe fn(*mut Retired),
}

impl Retired {
    /// Links of a record that `free` will take apart.
    pub const fn new(free: unsafe fn(*mut Retired)) -> Self {
        Self { next: ptr::null_mut(), free }
    }
}

struct Local<S> {
    /// Epoch that this CPU reads under, or [`IDLE`].
    pinned: Atomic<u64, S>,
    /// Pins alive on this CPU; they nest.
    depth: Atomic<u32, S>,
    /// Records retired in the epoch of the same index in `stamps`.
    bags: [AtomicPtr<Retired, S>; GENERATIONS],
    stamps: [Atomic<u64, S>; GENERATIONS],
    retired: Atomic<u64, S>,
}

impl<S: Seam> Local<S> {
    /// Notes that this CPU reads under `epoch`. Whoever looks for pins sees the note before any link is loaded
    /// here: either because of a fence here, or because of one that he has every CPU pass before he looks (E3).
    #[inline(always)]
    fn pin(&self, epoch: u64) {
        if S::fences_everywhere() {
            self.pinned.store(epoch, Ordering::Relaxed);
            compiler_fence();
        } else {
            self.pinned.store_ahead(epoch);
        }
    }
}

/// The clock, and what waits for it.
pub struct Epoch<S> {
    now: Atomic<u64, S>,
    locals: PerCpu<Local<S>, S>,
}

/// A pinned epoch: nothing that was linked when it was made is freed while it lives.
#[must_use = "dropping the pin lets records be freed"]
pub struct Pin<'e, S: Seam> {
    local: &'e Local<S>,
    /// The pin is the CPU's.
    not_send: PhantomData<*mut ()>,
}

impl<S: Seam> Epoch<S> {
    /// A clock for `cpus` CPUs.
    pub fn try_new(cpus: usize) -> Result<Self, NoMemory> {
        let locals = PerCpu::try_new(cpus, |_| Local {
            pinned: Atomic::new(IDLE),
            depth: Atomic::new(0),
            bags: core::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            stamps: core::array::from_fn(|_| Atomic::new(0)),
            retired: Atomic::new(0),
        })?;
        Ok(Self { now: Atomic::new(1), locals })
    }

    /// Pins this CPU. The caller must not sleep before the pin is dropped, and is not switched away.
    #[inline]
    pub fn pin(&self) -> Pin<'_, S> {
        S::hold_cpu();
        let local = self.locals.of(S::cpu_id());
        let depth = local.depth.get();
        local.depth.set(depth + 1);
        if depth == 0 {
            local.pin(self.now.load(Ordering::Acquire));
        }
        Pin { local, not_send: PhantomData }
    }

    /// The current epoch.
    #[inline]
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Acquire)
    }

    /// Moves the epoch on if every pinned CPU has seen it; returns the epoch after that.
    pub fn advance(&self) -> u64 {
        let now = self.now.load(Ordering::Acquire);
        if S::fences_everywhere() {
            fence_everywhere::<S>();
        } else {
            fence::<S>();
        }
        for local in self.locals.iter() {
            let pinned = local.pinned.load(Ordering::Acquire);
            if pinned != IDLE && pinned != now {
                return now;
            }
        }
        // Somebody else may have moved it; one step is as good as another.
        match self.now.compare_exchange(now, now + 1, Ordering::SeqCst) {
            Ok(_) => now + 1,
            Err(later) => later,
        }
    }

    /// Gives up `first` and the records that its links lead to; each is freed when no reader can see it any more.
    ///
    /// # Safety
    /// E1: no link to any of them is left that a reader could still find, nobody retired it before, and its
    /// `free` may be called with it on any CPU.
    pub unsafe fn retire(&self, first: NonNull<Retired>) {
        let local = self.locals.mine();
        // The unlinking must be seen by everyone before the epoch is read: a reader that pins a later one
        // must not find the link.
        fence::<S>();
        let now = self.now();
        let bag = (now % GENERATIONS as u64) as usize;
        let mut expired = ptr::null_mut();
        if local.stamps[bag].get() != now {
            // What is in there is three epochs old or more (E2).
            expired = local.bags[bag].get();
            local.bags[bag].set(ptr::null_mut());
            local.stamps[bag].set(now);
        }
        let (mut last, mut count) = (first.as_ptr(), 1);
        // SAFETY: the caller gave the records up, so their links are ours to read and write.
        unsafe {
            while !(*last).next.is_null() {
                last = (*last).next;
                count += 1;
            }
            (*last).next = local.bags[bag].get();
        }
        local.bags[bag].set(first.as_ptr());
        let before = local.retired.get();
        local.retired.set(before + count);
        drop(local);
        // SAFETY: the list was taken out of the bag, and is old enough.
        unsafe { free_all(expired) };
        if before / ADVANCE_EVERY != (before + count) / ADVANCE_EVERY {
            self.advance();
            self.collect();
        }
    }

    /// Frees what this CPU retired long enough ago.
    pub fn collect(&self) {
        let local = self.locals.mine();
        let now = self.now();
        let mut expired = [ptr::null_mut(); GENERATIONS];
        for (bag, list) in expired.iter_mut().enumerate() {
            if local.stamps[bag].get() + 2 <= now {
                *list = local.bags[bag].get();
                local.bags[bag].set(ptr::null_mut());
            }
        }
        drop(local);
        for list in expired {
            // SAFETY: the list was taken out of its bag, and is old enough (E2).
            unsafe { free_all(list) };
        }
    }

    /// Whether any CPU is pinned, or counts pins that there are not. Stale at once unless nobody runs.
    pub fn is_pinned(&self) -> bool {
        self.locals.iter().any(|local| {
            local.pinned.load(Ordering::Relaxed) != IDLE || local.depth.load(Ordering::Relaxed) != 0
        })
    }
}

/// Frees a list of retired records.
///
/// # Safety
/// The list is the caller's, and no reader sees its records any more.
unsafe fn free_all(mut list: *mut Retired) {
    while !list.is_null() {
        // SAFETY: the record is alive until its own `free` has run, which is next; both by the caller's
        // promise and by that of `retire`.
        unsafe {
            let next = (*list).next;
            ((*list).free)(list);
            list = next;
        }
    }
}

impl<S> Drop for Epoch<S> {
    fn drop(&mut self) {
        for local in self.locals_mut() {
            for bag in local {
                // SAFETY: nobody else has this clock any more, so nobody reads under it.
                unsafe { free_all(bag) };
            }
        }
    }
}

impl<S> Epoch<S> {
    fn locals_mut(&mut self) -> impl Iterator<Item = [*mut Retired; GENERATIONS]> + '_ {
        self.locals.slots_mut().map(|local| core::array::from_fn(|bag| local.bags[bag].take()))
    }
}

impl<S: Seam> Drop for Pin<'_, S> {
    #[inline]
    fn drop(&mut self) {
        let depth = self.local.depth.get() - 1;
        self.local.depth.set(depth);
        if depth == 0 {
            self.local.pinned.store(IDLE, Ordering::Release);
        }
        S::release_cpu();
    }
}
