//! Locks that spin: tickets, a waiter that serves flush requests, readers and writers; and #2353, a timer tick in the
//! middle of a lock.

use std::rc::Rc;
use std::sync::Arc;

use rumpvm::sync::{Atomic, Ordering, RawSpin, Rw, Spin};
use rumpvm_hosted::explored::{Settings, Stage};
use rumpvm_platform::{CpuId, CpuSet, LockClass, LockKind, Platform};

use super::handler::Handler;
use crate::{Pc, Scenario};

type Word = Atomic<u32, Pc>;

/// A class behind all of the component's.
static LOCK: LockClass = LockClass { name: "lock", rank: 200, kind: LockKind::Spin, nests: false };

pub(super) fn table() -> Vec<Scenario> {
    let settings = Settings { frames: 1, fine: true, ..Settings::default() };
    let scenario = |name, says, settings, setup| Scenario {
        name,
        report: if name == "try-lock-tick" { "#2353" } else { "issue 3, locks" },
        says,
        settings,
        setup,
    };
    vec![
        scenario(
            "try-lock-tick",
            "timer ticks come in while a lock is tried, is not had, and is tried again",
            Settings { ticks: true, ..settings },
            try_lock_tick,
        ),
        scenario(
            "spin-tickets",
            "three CPUs count under one spin lock; one of them only tries",
            Settings { cpus: 3, ..settings },
            tickets,
        ),
        scenario(
            "spin-serves",
            "a holder waits for a flush on the CPU that waits for its lock",
            settings,
            serves,
        ),
        scenario(
            "rw-lock",
            "writers, a reader and one who only tries to write share a reader-writer lock",
            Settings { cpus: 3, ..settings },
            readers_and_writers,
        ),
    ]
}

fn only(cpu: u32) -> CpuSet {
    let mut set = CpuSet::default();
    set.insert(CpuId(cpu));
    set
}

/// The handler takes a lock of its own, so it must find the CPU in order. CPU 0 asks CPU 1 for a flush at the end:
/// interrupts left masked there would keep it waiting.
fn try_lock_tick(stage: &Stage) {
    let handled: Arc<Spin<u32, Pc>> = Arc::new(Spin::new(&LOCK, 0));
    let own = Arc::clone(&handled);
    Handler::connect(stage, move || *own.lock() += 1);
    let lock: Rc<Spin<u32, Pc>> = Rc::new(Spin::new(&LOCK, 0));
    let other = Rc::clone(&lock);
    stage.actor(0, "holder", move || {
        *lock.lock() += 1;
        let before = *handled.lock();
        Pc::here().tlb_ipi(&only(1));
        assert!(*handled.lock() >= before);
    });
    stage.actor(1, "tries", move || {
        for _ in 0..2 {
            if let Some(mut held) = other.try_lock() {
                *held += 1;
            }
        }
    });
}

fn tickets(stage: &Stage) {
    let lock: Rc<RawSpin<Pc>> = Rc::new(RawSpin::new());
    let count: Rc<[Word; 2]> = Rc::new([Word::new(0), Word::new(0)]);
    for cpu in 0..3 {
        let (lock, count) = (Rc::clone(&lock), Rc::clone(&count));
        stage.actor(cpu, "counter", move || {
            let held = if cpu == 2 { lock.try_lock(&LOCK) } else { Some(lock.lock(&LOCK)) };
            if held.is_some() {
                count[0].set(count[0].get() + 1);
                count[1].fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    stage.finally(move || {
        assert!(!lock.is_locked());
        assert_eq!(count[0].get(), count[1].get(), "a count is lost");
    });
}

fn serves(stage: &Stage) {
    let answers: Arc<Word> = Arc::new(Word::new(0));
    let own = Arc::clone(&answers);
    Handler::connect(stage, move || {
        own.fetch_add(1, Ordering::AcqRel);
    });
    let lock: Rc<RawSpin<Pc>> = Rc::new(RawSpin::new());
    let other = Rc::clone(&lock);
    stage.actor(0, "asks", move || {
        let _held = lock.lock(&LOCK);
        Pc::here().tlb_ipi(&only(1));
        answers.wait_while(Ordering::Acquire, |answers| answers == 0);
    });
    stage.actor(1, "waits", move || drop(other.lock(&LOCK)));
}

/// Two words that are equal for whoever may look.
fn readers_and_writers(stage: &Stage) {
    let lock: Rc<Rw<[Word; 2], Pc>> = Rc::new(Rw::new(&LOCK, [Word::new(0), Word::new(0)]));
    let change = |words: &[Word; 2]| {
        words[0].set(words[0].get() + 1);
        words[1].set(words[1].get() + 1);
    };
    let [writer, reader, tries] = std::array::from_fn(|_| Rc::clone(&lock));
    stage.actor(0, "writer", move || {
        change(&writer.write());
        change(&writer.write());
    });
    stage.actor(1, "reader", move || {
        let words = reader.read();
        assert_eq!(words[0].get(), words[1].get(), "a reader is inside with a writer");
    });
    stage.actor(2, "tries", move || {
        if let Some(words) = tries.try_write() {
            change(&words);
        } else if let Some(words) = tries.try_read() {
            assert_eq!(words[0].get(), words[1].get(), "a reader is inside with a writer");
        }
    });
    stage.finally(move || {
        let words = lock.try_write().expect("nobody is left inside");
        assert_eq!(words[0].get(), words[1].get());
    });
}
