//! #2364, #2388, #2350: sleep locks that are taken twice, changed from one kind into another, ended, or given to I/O.

use std::rc::Rc;

use rumpvm::sync::lockmgr::{LockError, Patience, Recursion};
use rumpvm::sync::{Atomic, Event, Ordering, SleepLock};
use rumpvm_hosted::explored::{Chance, Settings, Stage};
use rumpvm_platform::{LockClass, LockKind};

use crate::{Pc, Scenario};

type Word = Atomic<u32, Pc>;

/// A class behind all of the component's but the interlock's.
static LOCK: LockClass = LockClass { name: "lock", rank: 0, kind: LockKind::Sleep, nests: true };

pub(super) fn table() -> Vec<Scenario> {
    let chances = Settings::USUAL.chances.with(Chance::Wake);
    let settings = Settings { frames: 1, cpus: 3, chances, ..Settings::USUAL };
    let scenario = |name, report, says, setup| Scenario { name, report, says, settings, setup };
    vec![
        scenario(
            "lock-recursion",
            "#2364",
            "an owner shares his own lock, as a write from a mapping of its own file does",
            recursion,
        ),
        scenario(
            "lock-upgrade",
            "#2388",
            "two sharers want the lock alone, and so does somebody else",
            upgrade,
        ),
        scenario(
            "lock-upgrade-first",
            "#2388",
            "of two sharers one is first to have the lock alone; the other one is left with nothing",
            upgrade_first,
        ),
        scenario(
            "lock-timeout",
            "#2388",
            "whoever gives up waiting leaves nothing behind",
            timeout,
        ),
        scenario(
            "lock-given-up-on",
            "#2388",
            "a sharer whom a patient owner-to-be held back goes on when that one gives up",
            given_up_on,
        ),
        scenario(
            "lock-drain",
            "seed 001",
            "a lock is drained while others use it, wait for it and come too late",
            drain,
        ),
        scenario(
            "lock-io",
            "#2350",
            "a lock is handed to I/O, and is not the thread's until the I/O is done",
            hand_over,
        ),
    ]
}

/// A lock, and two words that are equal for whoever has it.
struct Guarded {
    lock: SleepLock<Pc>,
    words: [Word; 2],
}

impl Guarded {
    fn new() -> Rc<Self> {
        let words = [Word::new(0), Word::new(0)];
        Rc::new(Self { lock: SleepLock::new(&LOCK), words })
    }

    fn change(&self) {
        self.words[0].set(self.words[0].get() + 1);
        self.words[1].set(self.words[1].get() + 1);
    }

    #[track_caller]
    fn look(&self) -> u32 {
        assert_eq!(self.words[0].get(), self.words[1].get(), "a look at half of a change");
        self.words[0].get()
    }

    #[track_caller]
    fn is_left(&self, changes: u32) {
        assert!(!self.lock.is_held(), "the lock is left behind");
        assert_eq!(self.look(), changes);
    }

    fn changes_alone(&self) {
        let held = self.lock.exclusive(Patience::Wait, Recursion::Refuse);
        let _held = held.expect("nobody is in the way for ever");
        self.change();
    }

    fn looks(&self) {
        let held = self.lock.shared(Patience::Wait, Recursion::Refuse);
        let _held = held.expect("nobody is in the way for ever");
        self.look();
    }
}

fn recursion(stage: &Stage) {
    let guarded = Guarded::new();
    let [owner, sharer, other] = std::array::from_fn(|_| Rc::clone(&guarded));
    stage.actor(0, "owner", move || {
        let lock = &owner.lock;
        let held =
            lock.exclusive(Patience::Wait, Recursion::Refuse).expect("it is free in the end");
        owner.words[0].set(owner.words[0].get() + 1);
        // The fault on the mapping of the file that is being written.
        let share = lock.shared(Patience::Wait, Recursion::Allow).expect("it is his");
        drop(share);
        let again = lock.shared(Patience::Wait, Recursion::Refuse).map(drop);
        assert!(matches!(again, Err(LockError::Deadlock { .. })), "{again:?}");
        owner.words[1].set(owner.words[1].get() + 1);
        drop(held);
        let error = lock.release();
        assert!(matches!(error, Err(LockError::NotHeld { .. })), "{error:?}");
    });
    stage.actor(1, "sharer", move || sharer.looks());
    stage.actor(2, "other", move || other.changes_alone());
    stage.finally(move || guarded.is_left(2));
}

fn upgrade(stage: &Stage) {
    let guarded = Guarded::new();
    for cpu in 0..2 {
        let guarded = Rc::clone(&guarded);
        stage.actor(cpu, "upgrades", move || {
            let share = guarded.lock.shared(Patience::Wait, Recursion::Refuse).expect("in the end");
            guarded.look();
            let _held = share.upgrade(Patience::Wait).expect("in the end");
            guarded.change();
        });
    }
    let other = Rc::clone(&guarded);
    stage.actor(2, "other", move || other.changes_alone());
    stage.finally(move || guarded.is_left(3));
}

fn upgrade_first(stage: &Stage) {
    let guarded = Guarded::new();
    let firsts = Rc::new(Word::new(0));
    for cpu in 0..2 {
        let (guarded, firsts) = (Rc::clone(&guarded), Rc::clone(&firsts));
        stage.actor(cpu, "upgrades", move || {
            let share = guarded.lock.shared(Patience::Wait, Recursion::Refuse).expect("in the end");
            let before = guarded.look();
            match share.upgrade_first(Patience::Wait) {
                Ok(_held) => {
                    // Nobody has had it alone since the share was taken.
                    assert_eq!(guarded.look(), before);
                    guarded.change();
                    firsts.fetch_add(1, rumpvm::sync::Ordering::Relaxed);
                }
                Err(error) => {
                    assert_eq!(error, LockError::UpgradePending);
                    let error = guarded.lock.release();
                    assert!(matches!(error, Err(LockError::NotHeld { .. })), "{error:?}");
                }
            }
        });
    }
    let sharer = Rc::clone(&guarded);
    stage.actor(2, "sharer", move || sharer.looks());
    stage.finally(move || guarded.is_left(firsts.get()));
}

fn timeout(stage: &Stage) {
    let guarded = Guarded::new();
    let [holder, patient, sharer] = std::array::from_fn(|_| Rc::clone(&guarded));
    stage.actor(0, "holder", move || holder.looks());
    stage.actor(1, "gives up", move || {
        // The clock has not come as far; that it has is one of the things that may happen.
        let until = Patience::Until(u64::MAX);
        match patient.lock.exclusive(until, Recursion::Refuse) {
            Ok(_held) => {
                patient.look();
            }
            Err(error) => assert_eq!(error, LockError::TimedOut),
        }
    });
    stage.actor(2, "sharer", move || sharer.looks());
    stage.finally(move || {
        guarded.is_left(0);
        guarded.changes_alone();
    });
}

/// The first sharer stays until the second one has been in: so somebody has to tell that one when the owner-to-be,
/// whom sharers give way to, gives up.
fn given_up_on(stage: &Stage) {
    let guarded = Guarded::new();
    let been = Rc::new((Event::<Pc>::new(), Word::new(0)));
    let [stays, patient, sharer] = std::array::from_fn(|_| Rc::clone(&guarded));
    let told = Rc::clone(&been);
    stage.actor(0, "stays", move || {
        let share = stays.lock.shared(Patience::Wait, Recursion::Refuse).expect("in the end");
        loop {
            let seen = been.0.seen();
            if been.1.load(Ordering::Acquire) != 0 {
                break;
            }
            been.0.wait(seen);
        }
        drop(share);
    });
    stage.actor(1, "gives up", move || {
        match patient.lock.exclusive(Patience::Until(u64::MAX), Recursion::Refuse) {
            Ok(_held) => patient.change(),
            Err(error) => assert_eq!(error, LockError::TimedOut),
        }
    });
    stage.actor(2, "sharer", move || {
        sharer.looks();
        told.1.store(1, Ordering::Release);
        told.0.raise();
    });
    stage.finally(move || assert!(!guarded.lock.is_held(), "the lock is left behind"));
}

fn drain(stage: &Stage) {
    let guarded = Guarded::new();
    let [ends, shares, wants] = std::array::from_fn(|_| Rc::clone(&guarded));
    stage.actor(0, "drains", move || {
        ends.lock.drain(Patience::Wait).expect("nobody stays for ever");
        // What the lock guards goes away now.
        ends.change();
    });
    let unless_late = |outcome: Result<(), LockError>| {
        assert!(matches!(outcome, Ok(()) | Err(LockError::Drained)), "{outcome:?}");
    };
    stage.actor(1, "sharer", move || {
        let held = shares.lock.shared(Patience::Wait, Recursion::Refuse);
        unless_late(held.map(|_held| assert_eq!(shares.look(), 0, "it is used after its end")));
    });
    stage.actor(2, "owner", move || {
        let held = wants.lock.exclusive(Patience::Wait, Recursion::Refuse);
        unless_late(held.map(|_held| assert_eq!(wants.look(), 0, "it is used after its end")));
    });
    stage.finally(move || guarded.is_left(1));
}

fn hand_over(stage: &Stage) {
    let guarded = Guarded::new();
    let [owner, other] = std::array::from_fn(|_| Rc::clone(&guarded));
    stage.actor(0, "owner", move || {
        let lock = &owner.lock;
        let held =
            lock.exclusive(Patience::Wait, Recursion::Refuse).expect("it is free in the end");
        owner.words[0].set(owner.words[0].get() + 1);
        let in_flight = held.hand_over().map_err(|(_, error)| error).expect("it is held once");
        // It is not his any more: what he does to the page now, he does to the device's.
        let again = lock.exclusive(Patience::NoWait, Recursion::Allow).map(drop);
        assert_eq!(again, Err(LockError::Busy));
        owner.words[1].set(owner.words[1].get() + 1);
        let taken = in_flight.take_over().map_err(|(_, error)| error).expect("there is room");
        owner.change();
        drop(taken);
    });
    stage.actor(1, "other", move || other.changes_alone());
    let sharer = Rc::clone(&guarded);
    stage.actor(2, "sharer", move || sharer.looks());
    stage.finally(move || guarded.is_left(3));
}
