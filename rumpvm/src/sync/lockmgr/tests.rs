//! Sleep locks: every request, every refusal, and threads that want different things.

extern crate std;

mod rules;

use std::sync::Barrier;
use std::thread;

use super::*;
use crate::sync::tests::{SLEEP, Threads, story};
use rumpvm_platform::LockKind;

type Lock = SleepLock<Threads>;
use Patience::{NoWait, Wait};
use Recursion::{Allow, Refuse};

fn lock() -> Lock {
    Lock::new(&SLEEP)
}

/// What another thread is told that does not wait.
fn other(lock: &Lock, shared: bool) -> Result<(), LockError> {
    thread::scope(|scope| {
        let asks = || match shared {
            true => lock.shared(NoWait, Refuse).map(drop),
            false => lock.exclusive(NoWait, Refuse).map(drop),
        };
        scope.spawn(asks).join().unwrap()
    })
}

#[test]
fn sharers_share_and_an_owner_is_alone() {
    let lock = lock();
    let shared = lock.shared(NoWait, Refuse).unwrap();
    assert_eq!((other(&lock, true), other(&lock, false)), (Ok(()), Err(LockError::Busy)));
    drop(shared);
    let alone = lock.exclusive(NoWait, Refuse).unwrap();
    assert_eq!(other(&lock, true), Err(LockError::Busy));
    drop(alone);
    assert_eq!(other(&lock, false), Ok(()));
    assert!(!lock.is_held());
}

#[test]
fn two_locks_of_one_thread_have_nothing_to_do_with_each_other() {
    let (one, two) = (lock(), lock());
    let first = one.exclusive(Wait, Refuse).unwrap();
    assert!(matches!(two.release(), Err(LockError::NotHeld { holder: None, .. })));
    let second = two.exclusive(Wait, Refuse).unwrap();
    drop(first);
    assert_eq!((other(&one, false), other(&two, false)), (Ok(()), Err(LockError::Busy)));
    drop(second);
    assert!(!two.is_held());
    // Taken in one place, and still not each other's.
    let [first, second] = [&one, &two].map(|lock| lock.exclusive(Wait, Refuse).unwrap());
    drop(second);
    assert!(matches!(two.release(), Err(LockError::NotHeld { holder: None, .. })));
    drop(first);
    assert!(!one.is_held());
}

#[test]
fn only_what_may_be_waited_for_has_to_follow_the_lock_table() {
    const fn class(rank: u8) -> LockClass {
        LockClass { name: "strict", rank, kind: LockKind::Sleep, nests: false }
    }
    static CLASSES: [LockClass; 2] = [class(0), class(1)];
    let [outer, inner] = [&CLASSES[0], &CLASSES[1]].map(Lock::new);
    let held = inner.exclusive(Wait, Refuse).unwrap();
    drop(inner.exclusive(Wait, Allow).unwrap());
    drop(outer.exclusive(NoWait, Refuse).unwrap());
    let told = || story(|| drop(outer.exclusive(Wait, Refuse)));
    assert!(told().contains("lock order") && !told().contains("shared"), "{}", told());
    let _held = held.downgrade().map_err(|(_, error)| error).unwrap();
    assert!(told().contains("while strict (rank 1, shared"), "{}", told());
}

#[test]
fn whoever_would_wait_for_himself_is_told_where_he_took_the_lock() {
    let lock = lock();
    let alone = lock.exclusive(Wait, Refuse).unwrap();
    let line = line!() - 1;
    for refused in [lock.exclusive(Wait, Refuse).map(drop), lock.shared(Wait, Refuse).map(drop)] {
        let Err(LockError::Deadlock { held, wanted }) = refused else { panic!("{refused:?}") };
        assert_eq!((held.site.line(), held.thread), (line, lock.owner().unwrap().thread));
        assert!(wanted.line() > line);
    }
    drop(alone);
    let shared = lock.shared(Wait, Refuse).unwrap();
    assert!(matches!(lock.exclusive(Wait, Allow).err(), Some(LockError::Deadlock { .. })));
    assert!(matches!(lock.drain(Wait), Err(LockError::Deadlock { .. })));
    drop(shared);
    assert!(!lock.is_held());
}

#[test]
fn a_share_asked_for_by_the_owner_is_one_more_use_and_no_downgrade() {
    let lock = lock();
    let alone = lock.exclusive(Wait, Refuse).unwrap();
    let shared = lock.shared(Wait, Allow).unwrap();
    assert_eq!(other(&lock, true), Err(LockError::Busy));
    drop(shared);
    assert_eq!(other(&lock, true), Err(LockError::Busy));
    let again = lock.exclusive(Wait, Allow).unwrap();
    let (again, error) = again.downgrade().err().unwrap();
    assert!(matches!(error, LockError::Recursed(_)));
    drop(alone);
    assert_eq!(other(&lock, true), Err(LockError::Busy));
    drop(again);
    assert!(!lock.is_held());
}

#[test]
fn what_is_not_held_cannot_be_released_and_the_error_names_the_holder() {
    let lock = lock();
    assert!(matches!(lock.release(), Err(LockError::NotHeld { holder: None, .. })));
    lock.exclusive(Wait, Refuse).unwrap().keep();
    let line = line!() - 1;
    let told = thread::scope(|scope| scope.spawn(|| lock.release()).join().unwrap());
    let Err(LockError::NotHeld { holder: Some(holder), .. }) = told else { panic!("{told:?}") };
    assert_eq!(holder.site.line(), line);
    assert_eq!(lock.release(), Ok(()));
    lock.shared(Wait, Refuse).unwrap().keep();
    assert_eq!(lock.release(), Ok(()));
    assert!(!lock.is_held());
}

#[test]
fn a_failed_upgrade_holds_nothing() {
    let lock = lock();
    let (taken, done) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let shared = lock.shared(Wait, Refuse).unwrap();
            taken.wait();
            done.wait();
            drop(shared);
        });
        taken.wait();
        let end = Threads::clock() + 3;
        for patience in [NoWait, Patience::Until(end)] {
            let failed = lock.shared(Wait, Refuse).unwrap().upgrade(patience).err();
            let expected = if patience == NoWait { LockError::Busy } else { LockError::TimedOut };
            assert_eq!(failed, Some(expected));
            assert!(matches!(lock.release(), Err(LockError::NotHeld { .. })));
        }
        done.wait();
    });
    assert!(!lock.is_held());
    drop(lock.shared(Wait, Refuse).unwrap().upgrade(NoWait).unwrap());
}

#[test]
fn an_upgrade_with_a_second_share_of_ones_own_is_a_deadlock_and_loses_only_one() {
    let lock = lock();
    let (first, second) = (lock.shared(Wait, Refuse).unwrap(), lock.shared(Wait, Refuse).unwrap());
    assert!(matches!(second.upgrade(Wait).err(), Some(LockError::Deadlock { .. })));
    assert!(lock.is_held());
    drop(first.upgrade(NoWait).unwrap());
    assert!(!lock.is_held());
}

#[test]
fn of_two_upgrades_one_is_first_and_the_other_comes_after_it_or_is_told() {
    for _ in 0..200 {
        let (lock, taken) = (lock(), Barrier::new(3));
        let firsts = core::sync::atomic::AtomicU32::new(0);
        thread::scope(|scope| {
            for strict in [true, true, false] {
                let (lock, taken, firsts) = (&lock, &taken, &firsts);
                scope.spawn(move || {
                    let shared = lock.shared(Wait, Refuse).unwrap();
                    taken.wait();
                    let relaxed = core::sync::atomic::Ordering::Relaxed;
                    if !strict {
                        drop(shared.upgrade(Wait).unwrap());
                        return;
                    }
                    match shared.upgrade_first(Wait) {
                        Ok(_alone) => drop(firsts.fetch_add(1, relaxed)),
                        Err(error) => assert_eq!(error, LockError::UpgradePending),
                    }
                });
            }
        });
        assert!(!lock.is_held());
        assert!(firsts.into_inner() <= 2);
    }
}

#[test]
fn a_downgrade_lets_sharers_in_and_nobody_else() {
    let lock = lock();
    let shared = lock.exclusive(Wait, Refuse).unwrap().downgrade().map_err(|(_, e)| e).unwrap();
    assert_eq!((other(&lock, true), other(&lock, false)), (Ok(()), Err(LockError::Busy)));
    drop(shared);
    assert!(!lock.is_held());
}

#[test]
fn a_wait_ends_when_the_clock_says_so() {
    let lock = lock();
    let _alone = lock.exclusive(Wait, Refuse).unwrap();
    let (told, early) = thread::scope(|scope| {
        let late = || {
            let end = Threads::clock() + 50;
            let told = lock.shared(Patience::Until(end), Refuse).map(drop);
            (told, Threads::clock() < end)
        };
        scope.spawn(late).join().unwrap()
    });
    assert_eq!((told, early), (Err(LockError::TimedOut), false));
}

#[test]
fn what_was_handed_to_io_is_released_by_whoever_completes_it() {
    let lock = lock();
    let io = lock.exclusive(Wait, Refuse).unwrap().hand_over().map_err(|(_, e)| e).unwrap();
    assert_eq!(lock.owner().unwrap().thread, None);
    // It is not this thread's any more, so asking is no deadlock.
    assert_eq!(lock.shared(NoWait, Refuse).err(), Some(LockError::Busy));
    thread::scope(|scope| {
        scope.spawn(|| drop(io));
        drop(lock.shared(Wait, Refuse).unwrap());
    });
    assert!(!lock.is_held());
    let io = lock.exclusive(Wait, Refuse).unwrap().hand_over().map_err(|(_, e)| e).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| drop(io.take_over().map_err(|(_, e)| e).unwrap()));
    });
    assert!(!lock.is_held());
}

#[test]
fn a_drain_waits_for_all_who_came_before_and_refuses_all_who_come_after() {
    let lock = lock();
    let taken = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let shared = lock.shared(Wait, Refuse).unwrap();
            taken.wait();
            // Refused as soon as the other one drains.
            while other(&lock, true) == Ok(()) {}
            drop(shared);
        });
        taken.wait();
        assert_eq!(lock.drain(Wait), Ok(()));
    });
    assert_eq!(lock.exclusive(Wait, Refuse).err(), Some(LockError::Drained));
    assert!(!lock.is_held());
}

#[test]
fn a_drain_that_is_called_off_leaves_the_lock_as_it_was() {
    let lock = lock();
    let _shared = lock.shared(Wait, Refuse).unwrap();
    thread::scope(|scope| {
        let drained = scope.spawn(|| lock.drain(NoWait)).join().unwrap();
        assert_eq!(drained, Err(LockError::Busy));
    });
    assert_eq!(other(&lock, true), Ok(()));
}

#[test]
fn writers_readers_and_upgraders_see_what_the_last_writer_left() {
    let lock = lock();
    let sum = core::sync::atomic::AtomicU64::new(0);
    let relaxed = core::sync::atomic::Ordering::Relaxed;
    // Not in one step, so that only the lock makes it right.
    let add = || sum.store(sum.load(relaxed) + 1, relaxed);
    thread::scope(|scope| {
        for number in 0..4u32 {
            let (lock, add) = (&lock, &add);
            scope.spawn(move || {
                for round in 0..500 {
                    let guard = match (number + round) % 3 {
                        0 => lock.exclusive(Wait, Refuse).unwrap(),
                        1 => lock.shared(Wait, Refuse).unwrap().upgrade(Wait).unwrap(),
                        _ => {
                            let shared = lock.shared(Wait, Refuse).unwrap();
                            match shared.upgrade_first(Wait) {
                                Ok(alone) => alone,
                                Err(_) => lock.exclusive(Wait, Refuse).unwrap(),
                            }
                        }
                    };
                    add();
                    drop(guard);
                }
            });
        }
    });
    assert_eq!(sum.into_inner(), 4 * 500);
    assert!(!lock.is_held());
}
