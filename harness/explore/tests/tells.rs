//! What was found is shrunk, fails again as it did, and is told: who did what, where, under which locks, and what
//! went wrong on the way.

use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering as Std};

use rumpvm::sync::lockmgr::Patience::Wait;
use rumpvm::sync::lockmgr::Recursion::Refuse;
use rumpvm::sync::{Atomic, Ordering, RawSpin, SleepLock, fence};
use rumpvm_arch::VirtAddr;
use rumpvm_explore::strategy::{Replay, Strategy};
use rumpvm_explore::{
    Depth, Memory, Options, Pc, Scenario, explore, replay, scenarios, settings, shrink, tell, why,
};
use rumpvm_hosted::explored::{
    Agent, Chance, Chances, Chooser, Explorer, FailureKind, Flaw, Moment, Outcome, Settings, Stage,
};
use rumpvm_platform::{LockClass, LockKind, Scarce, Seam};

type Word = Atomic<u32, Pc>;

static DOOR: LockClass = LockClass { name: "door", rank: 200, kind: LockKind::Spin, nests: false };

static GATE: LockClass = LockClass { name: "gate", rank: 0, kind: LockKind::Sleep, nests: false };

const SMALL: Settings = Settings { frames: 1, ..Settings::USUAL };

fn toy(setup: fn(&Stage)) -> Scenario {
    Scenario { settings: SMALL, ..Scenario::new("toy", "", "", setup) }
}

/// A lock, and a word that is set under it.
struct Room {
    door: RawSpin<Pc>,
    open: Word,
}

fn opens(room: &Room) {
    let held = room.door.lock(&DOOR);
    room.open.store(1, Ordering::Release);
    drop(held);
    room.open.wake_sleepers();
}

/// Wrong: it sleeps on a second look.
fn waits(room: &Room) {
    let held = room.door.lock(&DOOR);
    let seen = room.open.load(Ordering::Acquire);
    drop(held);
    if seen == 0 {
        room.open.sleep_while(room.open.load(Ordering::Acquire));
    }
}

fn lost_wakeup(stage: &Stage) {
    let room = Rc::new(Room { door: RawSpin::new(), open: Word::new(0) });
    let other = Rc::clone(&room);
    stage.actor(0, "opener", move || opens(&room));
    stage.actor(1, "waiter", move || waits(&other));
}

#[test]
fn what_was_found_is_shrunk_fails_again_and_is_told() {
    let toy = toy(lost_wakeup);
    let options = Options {
        // The exhaustive search would find the shortest.
        strategy: Some(Strategy::Random),
        depth: Depth::Schedules(3_000),
        seed: 5,
        memory: Memory::BOTH.to_vec(),
        cpus: None,
        short: 0,
    };
    let seen = explore(&toy, &options, |_| true).expect("memory for a machine");
    let found = seen.found.expect("the flaw is there to be found");
    let machine = settings(&toy, found.memory, None);
    let shrunk = shrink(&toy, machine, &found.schedule, &found.failure).unwrap();
    assert!(shrunk.repeats);
    assert!(shrunk.schedule.len() <= found.schedule.len());
    assert!(shrunk.failure.is_like(&found.failure), "{}", why(&shrunk.failure));

    let told = replay(&toy, Settings { story: true, ..machine }, &shrunk.schedule).unwrap();
    let again = replay(&toy, machine, &shrunk.schedule).unwrap();
    assert_eq!(told.failure, again.failure);
    assert_eq!(told.failure.as_ref().map(|failure| failure.kind), Some(FailureKind::Deadlock));
    assert_eq!((told.hash, &told.schedule), (again.hash, &shrunk.schedule));

    let story = tell(&told, false);
    for part in [
        "CPU 0",
        "CPU 1",
        "0 opener: ",
        "1 waiter: ",
        "takes door (record word",
        " in opens, ",
        " in waits, ",
        "tells.rs:",
        "[door]",
        "deadlock: waiter (CPU 1) waits for",
    ] {
        assert!(story.contains(part), "{part} is missing:\n{story}");
    }
}

/// Two who use a sleep lock; one of them keeps it until the other one has had it.
fn kept_from(stage: &Stage) {
    let room = Rc::new((SleepLock::new(&GATE), Word::new(0)));
    let other = Rc::clone(&room);
    stage.actor(0, "keeper", move || keeps(&room));
    stage.actor(1, "comer", move || comes(&other));
}

fn keeps(room: &(SleepLock<Pc>, Word)) {
    let _held = room.0.exclusive(Wait, Refuse).expect("it is not his yet");
    room.1.sleep_while(0);
}

fn comes(room: &(SleepLock<Pc>, Word)) {
    let _held = room.0.exclusive(Wait, Refuse).expect("it is not his yet");
    room.1.store(1, Ordering::Release);
    room.1.wake_sleepers();
}

#[test]
fn who_waits_for_a_sleep_lock_is_told_with_the_lock_and_its_holder() {
    let story = tell(&run(SMALL, kept_from, Replay::new(&[])), false);
    let part = |text: &str, from: &str, to: &str| {
        let rest = text.split(from).nth(1).unwrap_or_else(|| panic!("{from:?}:\n{story}"));
        rest.split(to).next().unwrap_or_default().to_owned()
    };
    // In the story, and in what is said at its end: the lock, where it is wanted and where it was taken.
    let line = part(&story, "sleeps until it gets gate (record word ", "\n");
    for part in ["wanted in ", "which keeper holds since ", " in comes, "] {
        assert!(line.contains(part), "{part:?} is missing in: {line}");
    }
    let end = part(&story, "deadlock: ", "\n");
    for part in ["comer (CPU 1) waits for gate (rank 0", "which keeper holds since "] {
        assert!(end.contains(part), "{part:?} is missing in: {end}");
    }
    for text in [&line, &end] {
        assert_eq!(text.matches("tells.rs:").count(), 2, "{text}");
        assert!(!text.contains("interlock"), "{text}");
    }
    let [taken, told] = [&line, &end].map(|text| part(text, "since ", " "));
    assert_eq!(taken.trim_end_matches(','), told.trim_end());
}

/// Fails when the other one looks in between: one choice is enough, wherever the last look begins.
fn looks(stage: &Stage) {
    let words: Rc<[Word; 3]> = Rc::new(std::array::from_fn(|_| Word::new(0)));
    for (cpu, name) in ["looker", "storer", "looker"].into_iter().enumerate() {
        let words = Rc::clone(&words);
        stage.actor(cpu % 2, name, move || {
            for value in 1..=2 {
                if name == "storer" {
                    words[0].store(value, Ordering::Release);
                    words[1].store(value, Ordering::Release);
                } else {
                    words[2].fetch_add(1, Ordering::AcqRel);
                    let seen = (words[1].load(Ordering::Acquire), words[0].load(Ordering::Acquire));
                    assert_eq!(seen.0, seen.1, "it was seen in between");
                }
            }
        });
    }
}

#[test]
fn every_schedule_is_shrunk_to_the_one_choice_that_matters() {
    let toy = toy(looks);
    let mut found = 0;
    for seed in 0..60 {
        let outcome = run(SMALL, looks, Strategy::Random.chooser(seed, 0));
        let Some(failure) = outcome.failure else { continue };
        found += 1;
        let shrunk = shrink(&toy, SMALL, &outcome.schedule, &failure).unwrap();
        assert_eq!(shrunk.schedule.len(), 1, "{:?}", shrunk.schedule);
    }
    assert!(found > 10, "{found} of 60 random schedules fail");
}

#[test]
fn a_schedule_that_does_not_fail_again_is_kept_and_called_so() {
    static FIRST: AtomicBool = AtomicBool::new(true);
    let toy = toy(|stage| {
        stage.actor(0, "fickle", || assert!(!FIRST.swap(false, Std::Relaxed), "only once"));
    });
    let failure = replay(&toy, SMALL, &[]).unwrap().failure.expect("the first run fails");
    let schedule = ["0.1-1".parse().unwrap()];
    let shrunk = shrink(&toy, SMALL, &schedule, &failure).unwrap();
    assert!(!shrunk.repeats);
    assert_eq!((&shrunk.schedule[..], shrunk.failure), (&schedule[..], failure));
}

/// Whatever can go wrong does; nobody interferes.
struct Unlucky;

impl Chooser for Unlucky {
    fn next(&mut self, moment: &Moment<'_>) -> Agent {
        moment.default()
    }

    fn takes(&mut self, _what: Chance, _agent: Agent, _nth: u32) -> bool {
        true
    }
}

fn run<C: Chooser + 'static>(settings: Settings, setup: fn(&Stage), chooser: C) -> Outcome {
    let settings = Settings { story: true, ..settings };
    let mut explorer = Explorer::new(settings).expect("memory for a machine");
    explorer.run(settings, setup, Box::new(chooser)).0
}

/// The story of `setup` when `what` goes wrong wherever it can.
fn unlucky(what: Chance, settings: Settings, setup: fn(&Stage)) -> String {
    let settings = Settings { chances: Chances::NONE.with(what), ..settings };
    let story = tell(&run(settings, setup, Unlucky), false);
    assert!(story.contains(what.says()), "{what:?} is not told:\n{story}");
    story
}

#[test]
fn what_is_scarce_is_told_where_it_was_missed() {
    scarce(Chance::NoFrame, |stage| stage.actor(0, "asks", || asks(Scarce::Frame)));
    scarce(Chance::NoHeap, |stage| stage.actor(0, "asks", || asks(Scarce::Heap)));
    scarce(Chance::Io, |stage| stage.actor(0, "asks", || asks(Scarce::Io)));
}

fn scarce(what: Chance, setup: fn(&Stage)) {
    let story = unlucky(what, SMALL, setup);
    assert!(story.contains(" in asks, ") && story.contains("tells.rs:"), "{story}");
}

#[track_caller]
fn asks(what: Scarce) {
    assert!(Pc::fails(what, Location::caller()));
}

#[test]
fn a_wakeup_for_no_reason_is_told() {
    unlucky(Chance::Wake, SMALL, |stage| {
        stage.actor(0, "sleeper", || Word::new(0).sleep_while(0));
    });
}

#[test]
fn a_fault_for_no_reason_is_told_with_its_address() {
    let story = unlucky(Chance::Fault, SMALL, |stage| {
        stage.actor(0, "program", || {
            let fault = Pc::here().load(&|| (), VirtAddr(0x1234_5000), &mut [0]);
            assert!(fault.is_err_and(|fault| fault.present));
        });
    });
    assert!(story.contains("0x12345000 and faults for no reason"), "{story}");
}

fn stores(stage: &Stage) {
    let words: Rc<[Word; 2]> = Rc::new([Word::new(0), Word::new(0)]);
    stage.actor(0, "storer", move || {
        words[0].store(7, Ordering::Release);
        words[1].store(8, Ordering::Release);
        fence::<Pc>();
    });
}

#[test]
fn a_store_that_is_held_back_lands_under_the_name_that_it_was_made_with() {
    let tso = Settings { tso: true, ..SMALL };
    let chances = Chances::NONE.with(Chance::Delay);
    let outcome = run(Settings { chances, ..tso }, stores, Unlucky);
    let story = tell(&outcome, true);
    for value in ["0x7", "0x8"] {
        let made = story.split(&format!("store {value} to ")).nth(1).expect("the store is told");
        let word = made.split(" in ").next().unwrap_or_default();
        assert!(word.starts_with("record word 0x"), "{word}");
        let (held, lands) =
            (format!("the store to {word} is held back"), format!("the store to {word} lands"));
        assert!(story.contains(&held) && story.contains(&lands), "{word}:\n{story}");
    }
    assert!(story.contains("16 store buffer: "), "{story}");
}

#[test]
fn a_step_that_was_split_is_told_to_rest() {
    let setup: fn(&Stage) = |stage| {
        stage.actor(0, "adder", || {
            Word::new(0).fetch_add(1, Ordering::AcqRel);
        });
    };
    let mut explorer = Explorer::new(SMALL).expect("memory for a machine");
    explorer.run(Settings { survey: true, ..SMALL }, setup, Box::new(Unlucky));
    let place = explorer.places().into_keys().find(|place| place.flaw == Flaw::SplitRmw);
    assert!(place.is_some());
    drop(explorer);
    unlucky(Chance::Rest, Settings { mutation: place, ..SMALL }, setup);
}

#[test]
fn a_deadline_and_io_are_told() {
    let setup: fn(&Stage) = |stage| {
        stage.actor(1, "sleeper", || {
            Word::new(0).sleep_until(0, Some(1));
            Pc::here().pause_for_io();
        });
    };
    let story = tell(&run(SMALL, setup, Unlucky), false);
    assert!(story.contains("deadline: of sleeper passes"), "{story}");
    assert!(story.contains("0 sleeper: waits for I/O"), "{story}");
}

#[test]
fn a_look_ahead_is_told_with_its_address() {
    let all = scenarios::all();
    let scenario = all.iter().find(|scenario| scenario.settings.prefetch).expect("there is one");
    let told = (0..20).any(|seed| {
        let chooser = Strategy::Random.chooser(seed, 0);
        let outcome = run(scenario.settings, scenario.setup, chooser);
        tell(&outcome, true).contains("page walk: looks 0x")
    });
    assert!(told, "no run of {} looks ahead", scenario.name);
}

#[test]
fn who_is_asked_to_flush_is_told_by_number() {
    let scenario = scenarios::named("store-against-fork").expect("it is there");
    let told = (0..50).any(|seed| {
        let chooser = Strategy::Random.chooser(seed, 0);
        let outcome = run(scenario.settings, scenario.setup, chooser);
        let story = tell(&outcome, true);
        assert!(!story.contains("CpuSet"), "{story}");
        story.contains("asks CPU 1 to flush") || story.contains("asks CPU 0 to flush")
    });
    assert!(told, "nobody asks for a flush");
}

#[test]
fn a_broken_invariant_is_told_with_its_place() {
    let setup: fn(&Stage) = |stage| stage.actor(0, "thread", || panic!("an invariant"));
    let story = tell(&run(SMALL, setup, Unlucky), false);
    assert!(story.contains("broken invariant: an invariant at "), "{story}");
    assert!(story.contains("tells.rs:"), "{story}");
}

#[test]
fn words_that_are_only_read_are_told_only_in_whole() {
    let setup: fn(&Stage) = |stage| {
        let words: Rc<[Word; 2]> = Rc::new([Word::new(5), Word::new(0)]);
        for (cpu, name) in ["one", "other"].into_iter().enumerate() {
            let words = Rc::clone(&words);
            stage.actor(cpu, name, move || {
                let value = words[0].load(Ordering::Acquire);
                words[1].fetch_add(value, Ordering::AcqRel);
            });
        }
    };
    let outcome = run(SMALL, setup, Replay::new(&[]));
    let (brief, whole) = (tell(&outcome, false), tell(&outcome, true));
    assert_eq!((brief.matches("load ").count(), whole.matches("load ").count()), (0, 2));
    assert_eq!(brief.matches("add 5 to ").count(), 2, "{brief}");
}

#[test]
fn runs_that_differ_in_a_store_that_was_held_back_have_two_numbers() {
    let chances = Chances::NONE.with(Chance::Delay);
    let tso = Settings { tso: true, chances, ..SMALL };
    let (calm, held) = (run(tso, stores, Replay::new(&[])), run(tso, stores, Unlucky));
    assert_ne!(calm.hash, held.hash);
    assert_eq!(held.hash, run(tso, stores, Replay::new(&held.schedule)).hash);
}
