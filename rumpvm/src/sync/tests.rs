//! A home for the tests of this folder: threads of the host, with the lock table watched in each.

extern crate std;

use core::alloc::{GlobalAlloc, Layout};
use core::cell::{Cell, RefCell};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::alloc::System;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumpvm_platform::{
    CpuId, LockClass, LockKind, LockStep, LockUse, Seam, Site, ThreadLocal, Witness,
};

pub(crate) struct Threads;

std::thread_local! {
    static LOCAL: ThreadLocal = {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        ThreadLocal::new(NEXT.fetch_add(1, Ordering::Relaxed))
    };
    static WITNESS: RefCell<Witness> = RefCell::default();
    /// Whether interrupts would be masked.
    static MASKED: Cell<bool> = const { Cell::new(false) };
    /// The clock is each test's own: one tick for each time it is asked.
    static CLOCK: AtomicU64 = const { AtomicU64::new(0) };
}

/// One bed for all sleepers: who is woken looks for himself.
static BED: Mutex<()> = Mutex::new(());
static BELL: Condvar = Condvar::new();
/// Longer than any wake-up takes; who oversleeps for want of one stops the test.
const LOST: Duration = Duration::from_secs(60);

fn bed() -> MutexGuard<'static, ()> {
    BED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seam for Threads {
    fn cpu_id() -> CpuId {
        CpuId(0)
    }

    fn relax(_: usize) {
        std::thread::yield_now();
    }

    fn pause(_: usize) {
        std::thread::yield_now();
    }

    fn sleep(word: &AtomicU32, expected: u32, until: Option<u64>, _: Site) {
        WITNESS
            .with_borrow(|witness| witness.may_sleep())
            .unwrap_or_else(|broken| panic!("{broken}"));
        let mut bed = bed();
        if until.is_some() {
            // The clock moves by being looked at.
            return;
        }
        while word.load(Ordering::SeqCst) == expected {
            let (guard, timeout) =
                BELL.wait_timeout(bed, LOST).unwrap_or_else(PoisonError::into_inner);
            assert!(!timeout.timed_out(), "a wake-up was lost");
            bed = guard;
        }
    }

    fn wakeup(_: &AtomicU32, _: Site) {
        let _bed = bed();
        BELL.notify_all();
    }

    fn intr_save() -> usize {
        usize::from(MASKED.replace(true))
    }

    fn intr_restore(before: usize) {
        MASKED.set(before != 0);
    }

    fn clock() -> u64 {
        CLOCK.with(|clock| clock.fetch_add(1, Ordering::Relaxed))
    }

    fn thread() -> Option<NonNull<ThreadLocal>> {
        Some(LOCAL.with(|local| NonNull::from(local)))
    }

    fn name(address: usize) -> usize {
        address
    }

    fn lock_step(step: LockStep, lock: &LockUse) {
        let told = WITNESS.with_borrow_mut(|witness| witness.step(step, lock));
        if let Err(violation) = told
            && !std::thread::panicking()
        {
            panic!("{violation}");
        }
    }
}

/// The classes of the tests' locks.
pub(crate) static TOKEN: LockClass =
    LockClass { name: "test token", rank: 0, kind: LockKind::Token, nests: true };
pub(crate) static SLEEP: LockClass =
    LockClass { name: "test lock", rank: 1, kind: LockKind::Sleep, nests: true };
pub(crate) static SPIN: LockClass =
    LockClass { name: "test spin", rank: 2, kind: LockKind::Spin, nests: false };

/// The story that `body` panics with.
pub(crate) fn story(body: impl FnOnce()) -> std::string::String {
    let panic = std::panic::catch_unwind(core::panic::AssertUnwindSafe(body))
        .expect_err("this must not pass");
    match panic.downcast::<std::string::String>() {
        Ok(story) => *story,
        Err(panic) => panic.downcast_ref::<&str>().map_or_else(Default::default, |it| (*it).into()),
    }
}

#[test]
fn a_pinned_cpu_lets_the_epoch_go_on_once_and_no_further() {
    let epoch = crate::sync::Epoch::<Threads>::try_new(1).unwrap();
    let (pin, begun) = (epoch.pin(), epoch.now());
    let inner = epoch.pin();
    assert_eq!([epoch.advance(), epoch.advance()], [begun + 1; 2]);
    drop(inner);
    assert!(epoch.is_pinned() && epoch.advance() == begun + 1);
    drop(pin);
    assert!(!epoch.is_pinned() && epoch.advance() == begun + 2);
}

#[test]
fn interrupts_are_masked_while_a_spin_lock_is_held_and_not_after_a_try_that_failed() {
    let (spin, rw) = (crate::sync::Spin::new(&SPIN, ()), crate::sync::Rw::new(&SPIN, ()));
    let (spin, rw): (&crate::sync::Spin<_, Threads>, &crate::sync::Rw<_, Threads>) = (&spin, &rw);
    let tries = || {
        let locked = spin.try_lock().is_some();
        let read = rw.try_read().is_some();
        let written = rw.try_write().is_some();
        ((locked, read, written), MASKED.get())
    };
    let elsewhere = || std::thread::scope(|scope| scope.spawn(tries).join().unwrap());
    assert_eq!(elsewhere(), ((true, true, true), false));
    let guard = spin.lock();
    assert!(MASKED.get() && elsewhere() == ((false, true, true), false));
    drop(guard);
    let reading = rw.read();
    assert!(MASKED.get() && elsewhere() == ((true, true, false), false));
    drop(reading);
    let writing = rw.write();
    assert!(MASKED.get() && elsewhere() == ((true, false, false), false));
    drop(writing);
    assert!(!MASKED.get());
}

#[test]
fn a_lock_is_waited_for_as_long_as_somebody_has_it() {
    let (lock, is_free) = (crate::sync::RawSpin::<Threads>::new(), AtomicU32::new(0));
    lock.wait_until_free();
    assert!(!lock.is_locked());
    let guard = lock.lock(&SPIN);
    assert!(lock.is_locked());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            lock.wait_until_free();
            is_free.store(1, Ordering::Release);
        });
        (0..1000).for_each(|_| std::thread::yield_now());
        assert_eq!(is_free.load(Ordering::Acquire), 0);
        drop(guard);
    });
}

std::thread_local! {
    /// Whether this thread finds the heap empty.
    static EMPTY: Cell<bool> = const { Cell::new(false) };
}

/// The host's heap, as long as there is something in it.
struct Heap;

// SAFETY: what it gives out is the host's, and goes back there.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's promise.
        if EMPTY.get() { ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: by the caller's promise; every block is the host's.
        unsafe { System.dealloc(block, layout) };
    }
}

#[global_allocator]
static HEAP: Heap = Heap;

#[test]
fn an_empty_heap_is_an_error_and_ends_nothing() {
    let mut list = std::vec::Vec::<u64>::new();
    EMPTY.set(true);
    let boxed = crate::sync::try_box::<_, Threads>(1_u64).map(drop);
    let pushed = crate::sync::try_push::<_, Threads>(&mut list, 1);
    let nothing = crate::sync::try_box::<_, Threads>(()).map(drop);
    EMPTY.set(false);
    assert_eq!((boxed, pushed, nothing), (Err(crate::NoMemory), Err(crate::NoMemory), Ok(())));
}
