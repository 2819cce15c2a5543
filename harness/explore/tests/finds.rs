//! The explorer finds what it says it finds: flaws of a few lines each, put in on purpose, and their cures.
//!
//! Every flaw stands beside the same thing done right, which must pass: an explorer that cries wolf is no use.

use std::collections::BTreeSet;
use std::rc::Rc;

use rumpvm::MapFlags;
use rumpvm::sync::lockmgr::Patience::Wait;
use rumpvm::sync::lockmgr::Recursion::Refuse;
use rumpvm::sync::{Atomic, Mutex, Ordering, RawSpin, SleepLock, Spin, class, fence};
use rumpvm_arch::{PAGE_SIZE, PhysAddr};
use rumpvm_explore::{
    BOUND, Depth, Explored, Kernel, Memory, NEAR, Options, Pc, Scenario, explore,
};
use rumpvm_hosted::explored::{Chance, FailureKind, Settings, Stage};
use rumpvm_platform::{LockClass, LockKind, Platform, Seam};

type Word = Atomic<u32, Pc>;

/// Two locks without an order between their classes.
static LEFT: LockClass = LockClass { name: "left", rank: 200, kind: LockKind::Spin, nests: true };

/// A lock to sleep for.
static SLEEP: LockClass = LockClass { name: "sleep", rank: 0, kind: LockKind::Sleep, nests: true };

fn settings() -> Settings {
    Settings { frames: 1, ..Settings::default() }
}

fn run(setup: fn(&Stage), memory: &[Memory], settings: Settings) -> Explored {
    run_to(Depth::Schedules(3_000), 0, (setup, memory, settings))
}

fn run_to(
    depth: Depth,
    short: u64,
    (setup, memory, settings): (fn(&Stage), &[Memory], Settings),
) -> Explored {
    let scenario = Scenario { name: "toy", report: "", says: "", settings, setup };
    let memory = memory.to_vec();
    let options = Options { depth, seed: 5, strategy: None, memory, cpus: None, short };
    explore(&scenario, &options, |_| true).expect("memory for a machine")
}

#[track_caller]
fn finds(setup: fn(&Stage), memory: &[Memory], kind: FailureKind, says: &str) {
    let seen = run(setup, memory, settings());
    let found = seen.found.expect("the flaw is there to be found");
    assert_eq!(found.failure.kind, kind, "{}", found.failure.message);
    assert!(found.failure.message.contains(says), "{}", found.failure.message);
}

#[track_caller]
fn passes(setup: fn(&Stage)) {
    passes_on(setup, settings());
}

#[track_caller]
fn passes_on(setup: fn(&Stage), settings: Settings) {
    let found = run(setup, &Memory::BOTH, settings).found;
    assert!(found.is_none(), "{found:?}");
}

/// A machine on which `chance` may happen.
fn with(chance: Chance, settings: Settings) -> Settings {
    Settings { chances: settings.chances.with(chance), ..settings }
}

/// A thread sets `ready` and wakes; another one sleeps until it is set. Wrong: it sleeps on a second look.
fn wakes(stage: &Stage, sleeper: fn(&Word)) {
    let word: Rc<Word> = Rc::new(Atomic::new(0));
    let other = Rc::clone(&word);
    stage.actor(0, "waker", move || {
        word.store(1, Ordering::Release);
        word.wake_sleepers();
    });
    stage.actor(1, "sleeper", move || sleeper(&other));
}

fn lost_wakeup(stage: &Stage) {
    wakes(stage, |word| {
        if word.load(Ordering::Acquire) == 0 {
            // The interlock is on what the word is now, and not on what was seen.
            let now = word.load(Ordering::Acquire);
            word.sleep_while(now);
        }
    });
}

fn kept_wakeup(stage: &Stage) {
    wakes(stage, |word| {
        while word.load(Ordering::Acquire) == 0 {
            word.sleep_while(0);
        }
    });
}

#[test]
fn a_lost_wakeup_is_a_deadlock() {
    finds(lost_wakeup, &Memory::BOTH, FailureKind::Deadlock, "sleeper (CPU 1) waits for");
    finds(lost_wakeup, &Memory::BOTH, FailureKind::Deadlock, "nobody is left who could wake it");
    passes(kept_wakeup);
}

/// The interlock is right, and yet a sleep is no promise.
fn trusted_wakeup(stage: &Stage) {
    wakes(stage, |word| {
        if word.load(Ordering::Acquire) == 0 {
            word.sleep_while(0);
        }
        assert_eq!(word.load(Ordering::Acquire), 1, "awake, and nothing has happened");
    });
}

#[test]
fn a_sleeper_that_does_not_look_again_fails_where_wake_ups_come_for_no_reason() {
    let wakes = with(Chance::Wake, settings());
    let found = run(trusted_wakeup, &Memory::BOTH, wakes).found.expect("it wakes for no reason");
    assert_eq!(found.failure.kind, FailureKind::Broken);
    assert!(found.failure.message.contains("nothing has happened"), "{}", found.failure.message);
    passes(trusted_wakeup);
    passes_on(kept_wakeup, wakes);
}

#[test]
fn an_access_that_is_not_repeated_fails_where_faults_come_for_no_reason() {
    fn accesses(stage: &Stage, again: bool) {
        let kernel = Kernel::boot(stage);
        let user = kernel.user();
        user.map(NEAR, 1).expect("room");
        user.populate(NEAR, 1).expect("memory");
        stage.actor(0, "user", move || {
            if again {
                user.store(NEAR, 1).expect("memory");
                return;
            }
            let restore = || kernel.activate(user.space());
            restore();
            let stored = kernel.platform().store(&restore, NEAR, &[1]);
            assert!(stored.is_ok(), "a fault on what is in order");
        });
        stage.actor(1, "other", || ());
    }
    let once: fn(&Stage) = |stage| accesses(stage, false);
    let faults = with(Chance::Fault, Settings::default());
    let found = run(once, &Memory::BOTH, faults).found.expect("a fault comes for no reason");
    assert!(found.failure.message.contains("what is in order"), "{}", found.failure.message);
    passes_on(once, Settings::default());
    passes_on(|stage| accesses(stage, true), faults);
}

/// A thread waits for a word, with a lock taken by `takes`; another one sets the word, with the lock or before it.
fn waits_with_lock<L: 'static>(stage: &Stage, lock: L, takes: fn(&L, &dyn Fn()), first: bool) {
    let shared: Rc<(L, Word)> = Rc::new((lock, Word::new(0)));
    let other = Rc::clone(&shared);
    stage.actor(0, "holder", move || {
        takes(&shared.0, &|| {
            while shared.1.load(Ordering::Acquire) == 0 {
                shared.1.sleep_while(0);
            }
        });
    });
    stage.actor(1, "setter", move || {
        let sets = || {
            other.1.store(1, Ordering::Release);
            other.1.wake_sleepers();
        };
        if !first {
            sets();
        }
        takes(&other.0, &sets);
    });
}

fn waits_with_mutex(stage: &Stage, first: bool) {
    let takes = |lock: &Mutex<(), Pc>, inside: &dyn Fn()| {
        let _held = lock.lock();
        inside();
    };
    waits_with_lock(stage, Mutex::new(&SLEEP, ()), takes, first);
}

fn waits_with_sleep_lock(stage: &Stage, first: bool) {
    let takes = |lock: &SleepLock<Pc>, inside: &dyn Fn()| {
        let _held = lock.exclusive(Wait, Refuse).expect("it is not his yet");
        inside();
    };
    waits_with_lock(stage, SleepLock::new(&SLEEP), takes, first);
}

#[track_caller]
fn deadlocks(setup: fn(&Stage), parts: &[&str]) {
    let found = run(setup, &Memory::BOTH, settings()).found.expect("each waits for the other");
    let (kind, message) = (found.failure.kind, found.failure.message);
    assert_eq!(kind, FailureKind::Deadlock, "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
    assert!(!message.contains("nobody"), "{message}");
    assert!(!message.contains("interlock"), "{message}");
    // Where it is wanted, and where each of those took it who have it.
    let places = 1 + message.matches(" since ").count();
    assert_eq!(message.matches("finds.rs:").count(), places, "{message}");
}

#[test]
fn a_deadlock_names_both_who_wait_and_where_the_lock_is_wanted_and_held() {
    let parts = [
        "holder (CPU 0) waits for record word",
        "setter (CPU 1) waits for sleep (rank 0",
        "which holder holds since",
    ];
    deadlocks(|stage| waits_with_mutex(stage, true), &parts);
    passes(|stage| waits_with_mutex(stage, false));
    // Who waits for this one does so by way of its interlock, which is free again.
    deadlocks(|stage| waits_with_sleep_lock(stage, true), &parts);
    passes(|stage| waits_with_sleep_lock(stage, false));
}

/// As [`waits_with_sleep_lock`], with two who share it.
fn waits_with_shares(stage: &Stage) {
    let shared: Rc<(SleepLock<Pc>, Word)> = Rc::new((SleepLock::new(&SLEEP), Word::new(0)));
    for name in ["one", "other"] {
        let shared = Rc::clone(&shared);
        stage.actor(0, name, move || {
            let _held = shared.0.shared(Wait, Refuse).expect("it is not his yet");
            while shared.1.load(Ordering::Acquire) == 0 {
                shared.1.sleep_while(0);
            }
        });
    }
    stage.actor(1, "setter", move || {
        let _held = shared.0.exclusive(Wait, Refuse).expect("it is not his yet");
        shared.1.store(1, Ordering::Release);
        shared.1.wake_sleepers();
    });
}

#[test]
fn a_deadlock_names_all_who_share_the_lock() {
    let seen =
        run_to(Depth::Exhaustive(0), 0, (waits_with_shares, &[Memory::Sequential], settings()));
    let message = seen.found.expect("they wait for the setter").failure.message;
    for part in
        ["one holds shared since", "other holds shared since", "setter (CPU 1) waits for sleep"]
    {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
    assert_eq!(message.matches("finds.rs:").count(), 3, "{message}");
}

/// A device whose memory is given back while it is mapped, or when it is no more.
fn device_goes(stage: &Stage, early: bool) {
    let kernel = Kernel::boot_beside(stage, 1);
    let frame = PhysAddr(kernel.platform().memory().1.0 - PAGE_SIZE).frame();
    let device = kernel.device(frame, 1).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 1, &device, MapFlags::SHARED).expect("room");
    let twin = user.twin();
    stage.actor(0, "use", move || {
        for _ in 0..2 {
            // Whether it is still there is not the point.
            let _ = user.load(NEAR);
        }
    });
    stage.actor(1, "remove", move || {
        kernel.close(&device).expect("it is mapped");
        if early {
            kernel.platform().frame_freed(frame);
        }
        twin.unmap(NEAR, 1).expect("memory");
        if !early {
            kernel.platform().frame_freed(frame);
        }
    });
}

#[test]
fn a_translation_that_outlives_its_frame_is_told_with_the_page_that_was_used() {
    let early: fn(&Stage) = |stage| device_goes(stage, true);
    let found = run(early, &Memory::BOTH, Settings::default()).found.expect("it is used after");
    let (kind, message) = (found.failure.kind, found.failure.message);
    assert_eq!(kind, FailureKind::Broken, "{message}");
    let loads = format!("loads from {NEAR}");
    for part in [&*loads, "stale translation to frame", "last by CPU 1"] {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
    passes_on(|stage| device_goes(stage, false), Settings::default());
}

fn two_locks(stage: &Stage, crossed: bool) {
    let locks: Rc<[RawSpin<Pc>; 2]> = Rc::new([RawSpin::new(), RawSpin::new()]);
    let others = Rc::clone(&locks);
    stage.actor(0, "one", move || {
        let _first = locks[0].lock(&LEFT);
        let _second = locks[1].lock(&LEFT);
    });
    stage.actor(1, "other", move || {
        let (first, second) = if crossed { (1, 0) } else { (0, 1) };
        let _first = others[first].lock(&LEFT);
        let _second = others[second].lock(&LEFT);
    });
}

#[test]
fn crossed_locks_are_told_from_a_run_that_came_out_right() {
    let seen = run(|stage| two_locks(stage, true), &[Memory::Sequential], settings());
    let found = seen.found.expect("the locks are crossed");
    assert_eq!((found.failure.kind, found.after), (FailureKind::LockRule, 0));
    let message = found.failure.message;
    assert!(message.contains("the other way"), "{message}");
    // Each of the two orders has a lock that is wanted and one that is held, both with their places.
    let [this, other] = message.split("elsewhere").collect::<Vec<_>>()[..] else {
        panic!("{message}")
    };
    assert_eq!((places(this).len(), places(other).len()), (2, 2), "{message}");
    assert_eq!(places(&message).len(), 4, "{message}");
    passes(|stage| two_locks(stage, false));
}

/// The lines of this file that `message` names.
fn places(message: &str) -> BTreeSet<&str> {
    message.split("finds.rs:").skip(1).filter_map(|rest| rest.split(':').next()).collect()
}

/// As [`two_locks`], of locks to sleep for, and with one more between them.
fn three_sleep_locks(stage: &Stage, crossed: bool) {
    let locks: Rc<[SleepLock<Pc>; 3]> = Rc::new(std::array::from_fn(|_| SleepLock::new(&SLEEP)));
    let last = if crossed { (2, 0) } else { (0, 2) };
    for (name, (first, second)) in [("one", (0, 1)), ("two", (1, 2)), ("three", last)] {
        let locks = Rc::clone(&locks);
        stage.actor(0, name, move || {
            let _first = locks[first].exclusive(Wait, Refuse).expect("it is not his yet");
            let _second = locks[second].exclusive(Wait, Refuse).expect("it is not his yet");
        });
    }
}

#[test]
fn crossed_orders_are_told_step_by_step_with_the_places_of_what_is_held_and_wanted() {
    let seen = run(|stage| three_sleep_locks(stage, true), &[Memory::Sequential], settings());
    let found = seen.found.expect("the locks are crossed");
    assert_eq!((found.failure.kind, found.after), (FailureKind::LockRule, 0));
    let message = found.failure.message;
    assert_eq!(message.matches("sleep (rank 0").count(), 6, "{message}");
    assert_eq!(message.matches(", then ").count(), 1, "{message}");
    assert_eq!((message.matches("finds.rs:").count(), places(&message).len()), (6, 2), "{message}");
    passes(|stage| three_sleep_locks(stage, false));
}

fn counts(stage: &Stage, locked: bool) {
    let lock: Rc<RawSpin<Pc>> = Rc::new(RawSpin::new());
    let count: Rc<Word> = Rc::new(Atomic::new(0));
    for cpu in 0..2 {
        let (lock, count) = (Rc::clone(&lock), Rc::clone(&count));
        stage.actor(cpu, "counter", move || {
            let _held = (locked || cpu == 0).then(|| lock.lock(&LEFT));
            count.set(count.get() + 1);
        });
    }
}

#[test]
fn data_touched_without_its_lock_is_a_race_in_every_order() {
    let seen = run(|stage| counts(stage, false), &[Memory::Sequential], settings());
    let found = seen.found.expect("one of them takes no lock");
    assert_eq!((found.failure.kind, found.after), (FailureKind::Race, 0));
    passes(|stage| counts(stage, true));
}

/// Each announces itself and looks for the other (Dekker): both going in is what a fence has to prevent.
fn dekker(stage: &Stage, fenced: bool) {
    let words: Rc<[Word; 3]> = Rc::new(std::array::from_fn(|_| Atomic::new(0)));
    for me in 0..2 {
        let words = Rc::clone(&words);
        stage.actor(me, "knight", move || {
            words[me].store(1, Ordering::Release);
            if fenced {
                fence::<Pc>();
            }
            if words[1 - me].load(Ordering::Acquire) == 0 {
                let others = words[2].fetch_add(1, Ordering::AcqRel);
                assert_eq!(others, 0, "two are inside");
            }
        });
    }
}

#[test]
fn a_missing_fence_shows_where_stores_are_held_back_and_only_there() {
    finds(|stage| dekker(stage, false), &[Memory::Tso], FailureKind::Broken, "two are inside");
    let calm = run(|stage| dekker(stage, false), &[Memory::Sequential], settings());
    assert!(calm.found.is_none());
    passes(|stage| dekker(stage, true));
}

#[test]
fn a_sleep_under_a_spin_lock_is_out_of_context() {
    fn sleeps(stage: &Stage) {
        stage.actor(0, "sleeper", || {
            let lock: Spin<(), Pc> = Spin::new(&LEFT, ());
            let _held = lock.lock();
            Word::new(0).sleep_while(1);
        });
    }
    finds(sleeps, &Memory::BOTH, FailureKind::Context, "spin lock left");
}

#[test]
fn a_lock_against_the_table_names_both_places() {
    fn upside_down(stage: &Stage) {
        stage.actor(0, "thread", || {
            let outer: Mutex<(), Pc> = Mutex::new(&class::MAP, ());
            let inner: Mutex<(), Pc> = Mutex::new(&class::REGISTRY, ());
            let _second = inner.lock();
            let _first = outer.lock();
        });
    }
    let found = run(upside_down, &Memory::BOTH, settings()).found.expect("the table forbids it");
    let (kind, message) = (found.failure.kind, found.failure.message);
    assert_eq!(kind, FailureKind::LockRule, "{message}");
    for part in ["map (rank", "object registry (rank"] {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
    assert_eq!(message.matches("finds.rs:").count(), 2, "{message}");
}

#[test]
fn a_loop_that_only_others_could_end_is_a_livelock() {
    fn turns(stage: &Stage) {
        let word: Rc<Word> = Rc::new(Atomic::new(0));
        for me in 0..2 {
            let word = Rc::clone(&word);
            stage.actor(me, "polite", move || {
                // Each waits for the other to go first.
                while word.load(Ordering::Acquire) != 1 + me as u32 {}
            });
        }
    }
    finds(turns, &[Memory::Sequential], FailureKind::Livelock, "nobody arrives");
}

#[test]
fn a_timer_tick_finds_a_lock_that_leaves_interrupts_open() {
    fn opens(stage: &Stage) {
        stage.actor(0, "careless", || {
            let lock: Spin<(), Pc> = Spin::new(&LEFT, ());
            let word = Word::new(0);
            let held = lock.lock();
            Pc::intr_restore(0);
            word.store(1, Ordering::Release);
            Pc::intr_save();
            drop(held);
        });
        stage.actor(1, "other", || ());
    }
    let seen =
        run(opens, &[Memory::Sequential], Settings { ticks: true, everything: true, ..settings() });
    let found = seen.found.expect("a tick comes in between");
    assert_eq!(found.failure.kind, FailureKind::Context);
}

#[test]
fn what_is_left_on_the_heap_is_a_leak() {
    fn leaks(stage: &Stage) {
        stage.actor(0, "careless", || std::mem::forget(std::hint::black_box(Box::new(1_u64))));
    }
    finds(leaks, &[Memory::Sequential], FailureKind::Leak, "1 allocations are left");
}

#[test]
fn a_seed_gives_the_same_runs_on_every_thread() {
    let hash = || run(kept_wakeup, &Memory::BOTH, settings()).hash;
    let here = hash();
    let there = std::thread::spawn(hash).join().expect("it passes here");
    assert_eq!(here, there);
}

#[test]
fn a_small_scenario_is_exhausted_at_two_preemptions_in_both_orders() {
    let seen = run(kept_wakeup, &Memory::BOTH, settings());
    assert!(seen.exhausted >= Some(2), "{:?}", seen.exhausted);
}

#[test]
fn short_scenarios_are_exhausted_whatever_the_budget_and_long_ones_are_not() {
    let setup: fn(&Stage) = |stage| {
        let word = Rc::new(Word::new(0));
        for cpu in 0..2 {
            let word = Rc::clone(&word);
            stage.actor(cpu, "adder", move || {
                for _ in 0..4 {
                    word.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    };
    let toy = (setup, &Memory::BOTH[..], settings());
    assert_eq!(run_to(Depth::Points(1), 60, toy).exhausted, Some(BOUND));
    assert_eq!(run_to(Depth::Points(1), 3, toy).exhausted, None);
    let deep = run_to(Depth::Exhaustive(3), 0, toy);
    assert_eq!(deep.exhausted, Some(3));
    // With two preemptions: before each of 8 steps, or before any two of them, at least.
    assert!(run_to(Depth::Exhaustive(2), 0, toy).distinct >= 8);
}
