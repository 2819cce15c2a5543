//! Takes and gives back one lock, uncontended, as often as it is told: `lock_cost WHAT TIMES`.
//!
//! `cargo xtask bench locks` counts the instructions. The home here does nothing, so what is counted is the
//! lock and not the machine; a real one adds what masking interrupts takes.

use std::hint::black_box;
use std::ptr::NonNull;

use rumpvm::sync::lockmgr::{Patience, Recursion};
use rumpvm::sync::{Mutex, Rw, SleepLock, Spin, Token};
use rumpvm_platform::{CpuId, LockClass, LockKind, Seam, ThreadLocal};

struct Bare;

thread_local! {
    static LOCAL: ThreadLocal = const { ThreadLocal::new(1) };
}

impl Seam for Bare {
    fn cpu_id() -> CpuId {
        CpuId(0)
    }

    #[inline(always)]
    fn thread() -> Option<NonNull<ThreadLocal>> {
        Some(LOCAL.with(|local| NonNull::from(local)))
    }
}

static SPIN: LockClass = class("spin", LockKind::Spin);
static SLEEP: LockClass = class("sleep", LockKind::Sleep);
static TOKEN: LockClass = class("token", LockKind::Token);

const fn class(name: &'static str, kind: LockKind) -> LockClass {
    LockClass { name, rank: 0, kind, nests: false }
}

fn repeat(times: u64, mut body: impl FnMut()) {
    for _ in 0..times {
        body();
    }
}

/// As much work as storing to what is behind a lock.
fn use_up(value: u32) {
    black_box(value);
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().expect("what to take");
    let times = arguments.next().and_then(|times| times.parse().ok()).expect("how often");
    match what.as_str() {
        "nothing" => repeat(times, || use_up(0)),
        "spin" => {
            let lock = Spin::<u32, Bare>::new(&SPIN, 0);
            repeat(times, || *black_box(&lock).lock() = 1);
        }
        "read" => {
            let lock = Rw::<u32, Bare>::new(&SPIN, 0);
            repeat(times, || use_up(*black_box(&lock).read()));
        }
        "write" => {
            let lock = Rw::<u32, Bare>::new(&SPIN, 0);
            repeat(times, || *black_box(&lock).write() = 1);
        }
        "mutex" => {
            let lock = Mutex::<u32, Bare>::new(&SLEEP, 0);
            repeat(times, || *black_box(&lock).lock() = 1);
        }
        "token" => {
            let token = Token::<(), Bare>::new(&TOKEN, ());
            repeat(times, || black_box(&token).exclusive(|_| use_up(0)));
        }
        "shared token" => {
            let token = Token::<(), Bare>::new(&TOKEN, ());
            repeat(times, || black_box(&token).shared(|_| use_up(0)));
        }
        "token and data" => {
            let token = Token::<u32, Bare>::new(&TOKEN, 0);
            repeat(times, || black_box(&token).exclusive(|held| held.change(|data| *data = 1)));
        }
        "sleep lock" => {
            let lock = SleepLock::<Bare>::new(&SLEEP);
            let take = || black_box(&lock).exclusive(Patience::Wait, Recursion::Refuse);
            repeat(times, || drop(take().expect("nobody has it")));
        }
        "spin crate" => {
            let lock = spin::Mutex::new(0u32);
            repeat(times, || *black_box(&lock).lock() = 1);
        }
        "std" => {
            let lock = std::sync::Mutex::new(0u32);
            repeat(times, || *black_box(&lock).lock().expect("no panic") = 1);
        }
        other => panic!("nothing called {other} is known"),
    }
}
