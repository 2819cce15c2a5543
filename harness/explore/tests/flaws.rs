//! Flaws put in at run time hit the one place that they name, and are noticed where they matter.

use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use rumpvm::sync::{Atomic, Ordering, RawSpin, fence};
use rumpvm_explore::strategy::Strategy;
use rumpvm_explore::{Limits, Pc, Scenario, hunt};
use rumpvm_hosted::explored::{Explorer, FailureKind, Flaw, Mutation, Settings, Stage};
use rumpvm_platform::{LockClass, LockKind, LockStep, LockUse, Seam};

type Word = Atomic<u32, Pc>;

static LOCK: LockClass = LockClass { name: "lock", rank: 200, kind: LockKind::Spin, nests: false };

fn settings() -> Settings {
    Settings { frames: 1, ..Settings::default() }
}

/// Places at which `flaw` can be put in, by line.
fn places(setup: fn(&Stage), flaw: Flaw) -> Vec<Mutation> {
    let settings = Settings { survey: true, ..settings() };
    let mut explorer = Explorer::new(settings).expect("memory for a machine");
    for seed in 0..50 {
        let chooser = Box::new(Strategy::Random.chooser(seed, 0));
        let (outcome, _) = explorer.run(settings, setup, chooser);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    }
    explorer.places().into_keys().filter(|place| place.flaw == flaw).collect()
}

/// How `setup` fails with the flaw put in, if it does.
fn fails(setup: fn(&Stage), mutation: Mutation) -> Option<FailureKind> {
    let settings = Settings { mutation: Some(mutation), ..settings() };
    let scenario = Scenario { name: "toy", report: "", says: "", settings, setup };
    let limits = Limits { schedules: 2_000, time: Duration::MAX, seed: 3 };
    let bag = hunt(&[scenario], limits).expect("memory for a machine");
    bag.found.map(|(_, found)| found.failure.kind)
}

/// Two wakers, each for a sleeper of its own: to drop one wake-up leaves one of them asleep.
fn two_sleepers(stage: &Stage) {
    let words: Rc<[Word; 2]> = Rc::new([Atomic::new(0), Atomic::new(0)]);
    for (me, name) in ["first", "second"].into_iter().enumerate() {
        let words = Rc::clone(&words);
        stage.actor(me, name, move || {
            while words[me].load(Ordering::Acquire) == 0 {
                words[me].sleep_while(0);
            }
        });
    }
    let first = Rc::clone(&words);
    stage.actor(0, "waker", move || {
        first[0].store(1, Ordering::Release);
        first[0].wake_sleepers();
        words[1].store(1, Ordering::Release);
        words[1].wake_sleepers();
    });
}

#[test]
fn each_dropped_wakeup_leaves_its_sleeper_asleep() {
    let wakes = places(two_sleepers, Flaw::DropWake);
    assert_eq!(wakes.len(), 2);
    for wake in wakes {
        assert_eq!(fails(two_sleepers, wake), Some(FailureKind::Deadlock));
    }
}

#[test]
fn a_sleeper_that_does_not_look_again_sleeps_forever() {
    let sleeps = places(two_sleepers, Flaw::LateInterlock);
    assert_eq!(sleeps.len(), 1);
    assert_eq!(fails(two_sleepers, sleeps[0]), Some(FailureKind::Deadlock));
}

/// Two threads count, and the last one looks.
fn count(stage: &Stage) {
    let word: Rc<Word> = Rc::new(Atomic::new(0));
    for cpu in 0..2 {
        let word = Rc::clone(&word);
        stage.actor(cpu, "counter", move || {
            word.fetch_add(1, Ordering::AcqRel);
        });
    }
    stage.finally(move || assert_eq!(word.load(Ordering::Acquire), 2));
}

#[test]
fn a_split_addition_loses_a_count() {
    let splits = places(count, Flaw::SplitRmw);
    assert_eq!(splits.len(), 1);
    assert_eq!(fails(count, splits[0]), Some(FailureKind::Broken));
}

/// What the lock guards is never touched: it is the lock itself that goes wrong.
fn lock(stage: &Stage) {
    let lock: Rc<RawSpin<Pc>> = Rc::new(RawSpin::new());
    for cpu in 0..2 {
        let lock = Rc::clone(&lock);
        stage.actor(cpu, "locker", move || drop(lock.lock(&LOCK)));
    }
}

#[test]
fn a_lock_that_is_taken_in_two_steps_is_noticed() {
    let splits = places(lock, Flaw::SplitRmw);
    assert_eq!(splits.len(), 1);
    // Two drew one ticket: both hold it, or the later one waits for a number that has been.
    let kind = fails(lock, splits[0]);
    assert!(matches!(kind, Some(FailureKind::LockRule | FailureKind::Deadlock)), "{kind:?}");
}

/// A lock that lets everybody in.
fn open_lock(stage: &Stage) {
    let word: Rc<Word> = Rc::new(Atomic::new(0));
    for cpu in 0..2 {
        let word = Rc::clone(&word);
        stage.actor(cpu, "locker", move || {
            let (address, site) = (word.address(), Location::caller());
            let lock = LockUse { class: &LOCK, address, shared: false, site };
            for step in [LockStep::Want, LockStep::Taken, LockStep::Free, LockStep::Freed] {
                Pc::lock_step(step, &lock);
                word.load(Ordering::Acquire);
            }
        });
    }
}

#[test]
fn a_lock_with_two_holders_breaks_the_rules() {
    let scenario =
        Scenario { name: "toy", report: "", says: "", settings: settings(), setup: open_lock };
    let limits = Limits { schedules: 2_000, time: Duration::MAX, seed: 3 };
    let (_, found) =
        hunt(&[scenario], limits).unwrap().found.expect("nothing keeps the second out");
    assert_eq!(found.failure.kind, FailureKind::LockRule);
    assert!(found.failure.message.contains("held already"), "{}", found.failure.message);
}

/// Each announces itself and looks for the other (Dekker).
fn knights(stage: &Stage) {
    let words: Rc<[Word; 3]> = Rc::new(std::array::from_fn(|_| Atomic::new(0)));
    for me in 0..2 {
        let words = Rc::clone(&words);
        stage.actor(me, "knight", move || {
            words[me].store(1, Ordering::Release);
            fence::<Pc>();
            if words[1 - me].load(Ordering::Acquire) == 0 {
                let others = words[2].fetch_add(1, Ordering::AcqRel);
                assert_eq!(others, 0, "two are inside");
            }
        });
    }
}

#[test]
fn a_dropped_fence_and_a_dropped_store_let_both_in() {
    for flaw in [Flaw::DropFence, Flaw::DropStore] {
        let places = places(knights, flaw);
        assert_eq!(places.len(), 1, "{flaw:?}");
        assert_eq!(fails(knights, places[0]), Some(FailureKind::Broken), "{flaw:?}");
    }
}

/// One thread waits for a word that another one stores, and does nothing else.
fn spin(stage: &Stage) {
    let word: Rc<Word> = Rc::new(Atomic::new(0));
    let other = Rc::clone(&word);
    stage.actor(0, "spinner", move || while word.load(Ordering::Acquire) == 0 {});
    stage.actor(1, "setter", move || other.store(1, Ordering::Release));
}

#[test]
fn a_run_in_which_one_thread_spins_alone_ends_as_a_livelock() {
    let stores = places(spin, Flaw::DropStore);
    assert_eq!(stores.len(), 1);
    assert_eq!(fails(spin, stores[0]), Some(FailureKind::Livelock));
}
