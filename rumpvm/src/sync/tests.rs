//! A home for the tests of this folder: threads of the host, with the lock table watched in each.

extern crate std;

use core::cell::RefCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
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
