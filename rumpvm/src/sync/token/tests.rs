//! Tokens, alone and among threads.

extern crate std;

use std::sync::Barrier;
use std::thread;
use std::vec::Vec;

use super::*;
use crate::sync::tests::{SLEEP, TOKEN, Threads, story};
use crate::sync::{Event, Mutex};

type Tested<T> = Token<T, Threads>;
const ROUNDS: u64 = 2_000;

fn token<T>(data: T) -> Tested<T> {
    Token::new(&TOKEN, data)
}

/// Runs every one of `bodies` in a thread of its own, all at once.
fn together(threads: u64, body: impl Fn(u64) + Sync) {
    let start = Barrier::new(threads as usize);
    thread::scope(|scope| {
        for number in 0..threads {
            let (body, start) = (&body, &start);
            scope.spawn(move || {
                start.wait();
                body(number);
            });
        }
    });
}

#[test]
fn whoever_has_a_token_alone_has_its_data_alone() {
    let counted = token(0u64);
    together(4, |_| {
        (0..ROUNDS).for_each(|_| counted.exclusive(|held| held.change(|sum| *sum += 1)))
    });
    assert_eq!(counted.shared(|held| held.look(|sum| *sum)), 4 * ROUNDS);
    assert!(!counted.is_held());
}

#[test]
fn sharers_are_in_at_the_same_time_and_nobody_beside_one_who_is_alone() {
    let (both, shared) = (Barrier::new(2), token(()));
    together(2, |_| {
        shared.shared(|_| both.wait());
    });
    let inside = core::sync::atomic::AtomicU64::new(0);
    let relaxed = core::sync::atomic::Ordering::Relaxed;
    together(4, |number| {
        for round in 0..ROUNDS {
            if (round + number).is_multiple_of(3) {
                shared.exclusive(|_| assert_eq!(inside.swap(0, relaxed), 0));
            } else {
                shared.shared(|_| {
                    inside.fetch_add(1, relaxed);
                    inside.fetch_sub(1, relaxed);
                });
            }
        }
    });
    assert!(!shared.is_held());
}

#[test]
fn a_sleep_gives_up_all_tokens_of_the_thread_and_ends_with_all_of_them() {
    let (outer, inner, event) = (token(0u32), token(0u32), Event::<Threads>::new());
    thread::scope(|scope| {
        outer.exclusive(|first| {
            inner.exclusive(|second| {
                let seen = event.seen();
                scope.spawn(|| {
                    // Passes only when the sleeper has given up both.
                    inner.exclusive(|held| {
                        outer.exclusive(|other| other.change(|data| *data = 1));
                        held.change(|data| *data = 2);
                    });
                    event.raise();
                });
                event.wait(seen);
                assert_eq!((first.look(|data| *data), second.look(|data| *data)), (1, 2));
                assert!(outer.try_shared(|_| ()).is_some(), "it is this thread's own");
                let others = scope.spawn(|| outer.try_shared(|_| ()).or(inner.try_shared(|_| ())));
                assert_eq!(others.join().unwrap(), None);
            });
        });
    });
    assert!(!outer.is_held() && !inner.is_held());
}

#[test]
fn tokens_taken_in_every_order_never_deadlock() {
    let tokens: Vec<Tested<u64>> = (0..4).map(|_| token(0)).collect();
    together(4, |number| {
        for round in 0..ROUNDS / 4 {
            let at = |step: u64| {
                &tokens[((number * 3 + round + step * (1 + 2 * (number % 2))) % 4) as usize]
            };
            at(0).exclusive(|first| {
                at(1).exclusive(|second| {
                    at(2).exclusive(|third| {
                        for held in [first, second, third] {
                            held.change(|sum| *sum += 1);
                        }
                    });
                });
            });
        }
    });
    let sum: u64 = tokens.iter().map(|token| token.shared(|held| held.look(|sum| *sum))).sum();
    assert_eq!(sum, 3 * 4 * (ROUNDS / 4));
}

#[test]
fn a_token_and_a_sleep_lock_taken_in_both_orders_do_not_deadlock() {
    let (soft, hard) = (token(()), Mutex::<u64, Threads>::new(&SLEEP, 0));
    together(4, |number| {
        for _ in 0..ROUNDS {
            if number.is_multiple_of(2) {
                soft.exclusive(|_| *hard.lock() += 1);
            } else {
                let mut guard = hard.lock();
                soft.exclusive(|_| *guard += 1);
            }
        }
    });
    let guard = hard.lock();
    assert!(*guard == 4 * ROUNDS && hard.is_locked());
    drop(guard);
    assert!(!hard.is_locked());
}

#[test]
fn whoever_has_a_token_alone_may_take_it_again_and_then_still_has_it() {
    let again = token(7);
    again.exclusive(|held| {
        again.exclusive(|inner| inner.change(|data| *data += 1));
        again.shared(|inner| assert_eq!(inner.look(|data| *data), 8));
        held.change(|data| *data += 1);
        thread::scope(|scope| {
            assert!(scope.spawn(|| again.try_shared(|_| ())).join().unwrap().is_none());
        });
    });
    assert!(!again.is_held());
}

#[test]
fn a_recursion_survives_a_sleep() {
    let (again, event) = (token(()), Event::<Threads>::new());
    thread::scope(|scope| {
        again.exclusive(|_| {
            again.shared(|_| {
                let seen = event.seen();
                scope.spawn(|| {
                    again.exclusive(|_| ());
                    event.raise();
                });
                event.wait(seen);
            });
            assert!(scope.spawn(|| again.try_shared(|_| ())).join().unwrap().is_none());
        });
    });
    assert!(!again.is_held());
}

#[test]
fn wanting_a_token_alone_that_one_shares_oneself_names_both_places() {
    let shared = token(());
    let told = story(|| shared.shared(|_| shared.exclusive(|_| ())));
    assert!(told.matches("token/tests.rs").count() == 2, "{told}");
    assert!(!shared.is_held());
}

#[test]
fn a_sleep_during_a_look_is_caught_and_names_the_look() {
    let (data, event) = (token(()), Event::<Threads>::new());
    let told = story(|| data.exclusive(|held| held.change(|()| event.wait(event.seen()))));
    assert!(told.contains("in its hands, since") && told.contains("token/tests.rs"), "{told}");
}

#[test]
fn a_look_during_a_look_is_caught() {
    let data = token(0);
    let told = story(|| {
        data.exclusive(|held| held.change(|one| held.change(|other| core::mem::swap(one, other))));
    });
    assert!(told.contains("token data"), "{told}");
}

#[test]
fn a_pool_gives_one_address_one_token() {
    let pool = Pool::<Threads>::try_new(&TOKEN).unwrap();
    let mut counts = [0u64; 3];
    let places: Vec<usize> =
        counts.iter_mut().map(|count| core::ptr::from_mut(count) as usize).collect();
    together(4, |number| {
        for round in 0..ROUNDS {
            let place = places[((round + number) % 3) as usize];
            pool.exclusive(place, || {
                let count = core::ptr::with_exposed_provenance_mut::<u64>(place);
                // SAFETY: the words are this test's, and whoever has the token of one writes it alone.
                unsafe { *count += 1 };
            });
        }
    });
    assert!(pool.is_same(places[0], places[0]));
    assert!((1..1000).any(|step| !pool.is_same(places[0], places[0] + step)));
    assert_eq!(counts.iter().sum::<u64>(), 4 * ROUNDS);
}

#[test]
fn a_try_takes_what_is_free_and_nothing_else() {
    let tried = token(1u64);
    assert_eq!(tried.try_exclusive(|held| held.change(|value| *value += 1)), Some(()));
    assert_eq!(tried.try_shared(|held| held.look(|value| *value)), Some(2));
    tried.shared(|_| {
        assert!(tried.is_held());
        let other = || tried.try_exclusive(|_| ()).is_some();
        assert!(!thread::scope(|scope| scope.spawn(other).join().unwrap()));
        let sharer = || tried.try_shared(|_| ()).is_some();
        tried.shared(|_| {
            tried.shared(|_| ());
            let third = thread::scope(|scope| scope.spawn(sharer).join().unwrap());
            assert!(third, "one of three uses has ended");
        });
        assert!(thread::scope(|scope| scope.spawn(sharer).join().unwrap()));
        let late = thread::scope(|scope| scope.spawn(other).join().unwrap());
        assert!(!late, "one of two sharers has left");
    });
    assert!(!tried.is_held());
}

#[test]
fn a_new_sharer_does_not_overtake_one_who_waits_to_be_alone() {
    use core::sync::atomic::{AtomicBool, Ordering};
    let (wanted, [refused, inside]) = (token(()), [const { AtomicBool::new(false) }; 2]);
    thread::scope(|scope| {
        wanted.shared(|_| {
            scope.spawn(|| wanted.exclusive(|_| ()));
            scope.spawn(|| {
                // As long as nobody waits a sharer is let in.
                while wanted.try_shared(|_| ()).is_some() {
                    thread::yield_now();
                }
                refused.store(true, Ordering::Release);
                wanted.shared(|_| inside.store(true, Ordering::Release));
            });
            while !refused.load(Ordering::Acquire) {
                thread::yield_now();
            }
            (0..1000).for_each(|_| thread::yield_now());
            assert!(!inside.load(Ordering::Acquire));
        });
    });
    assert!(!wanted.is_held());
}

#[test]
fn who_shares_one_token_may_wait_to_have_another_alone() {
    let (shared, alone, comes) = (token(()), token(0), Barrier::new(2));
    thread::scope(|scope| {
        alone.exclusive(|held| {
            scope.spawn(|| {
                shared.shared(|_| {
                    comes.wait();
                    alone.exclusive(|held| assert_eq!(held.look(|value| *value), 1));
                });
            });
            comes.wait();
            (0..1000).for_each(|_| thread::yield_now());
            held.change(|value| *value = 1);
        });
    });
    assert!(!shared.is_held() && !alone.is_held());
}
