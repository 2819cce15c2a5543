//! Locks on the pretend machine: threads that share CPUs, sleeps that switch, the lock table watched in debug
//! builds. What each lock promises by itself is tested where it is; here they meet a scheduler.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rumpvm::sync::lockmgr::{Patience, Recursion};
use rumpvm::sync::token::Pool;
use rumpvm::sync::{Event, Mutex, SleepLock, Token};
use rumpvm_arch::X86_64;
use rumpvm_hosted::Hosted;
use rumpvm_platform::{LockClass, LockKind};

type Home = Hosted<X86_64>;

static SOFT: LockClass = LockClass { name: "soft", rank: 0, kind: LockKind::Token, nests: true };
static HARD: LockClass = LockClass { name: "hard", rank: 1, kind: LockKind::Sleep, nests: false };

const CPUS: usize = 4;
/// More than CPUs, so that holders are switched away from.
const THREADS: u64 = 12;
const ROUNDS: u64 = 500;

/// Runs `body` in [`THREADS`] threads, each with its number.
fn among_threads(body: impl Fn(&Home, u64) + Send + Sync + 'static) {
    let (home, _power) = Home::power_on(1 << 20, CPUS).unwrap();
    let (body, spawner) = (Arc::new(body), home.clone());
    home.run(None, move || {
        for number in 0..THREADS {
            let (body, home) = (Arc::clone(&body), spawner.clone());
            spawner.spawn(None, move || body(&home, number));
        }
    });
}

#[test]
fn a_token_is_kept_when_its_holder_is_switched_away_from_and_given_up_when_it_sleeps() {
    let tokens: Arc<[Token<u64, Home>; 3]> =
        Arc::new(core::array::from_fn(|_| Token::new(&SOFT, 0)));
    let (turn, mine) = (Arc::new(Event::<Home>::new()), Arc::clone(&tokens));
    among_threads(move |home, number| {
        for round in 0..ROUNDS {
            let token = |step: u64| &mine[((number + round + step) % 3) as usize];
            token(0).exclusive(|first| {
                token(1).exclusive(|second| {
                    let before = first.change(|sum| {
                        *sum += 1;
                        *sum
                    });
                    home.yield_now();
                    // Nobody came in between.
                    assert_eq!(first.look(|sum| *sum), before);
                    second.change(|sum| *sum += 1);
                });
                if round % 8 == 0 {
                    let seen = turn.seen();
                    turn.raise();
                    turn.wait(seen);
                }
            });
            token(2).shared(|held| held.look(|sum| assert!(*sum <= 2 * THREADS * ROUNDS)));
        }
    });
    let (home, _power) = Home::power_on(1 << 20, 1).unwrap();
    let sum = home.run(None, move || {
        tokens.iter().map(|token| token.shared(|held| held.look(|sum| *sum))).sum::<u64>()
    });
    assert_eq!(sum, 2 * THREADS * ROUNDS);
}

#[test]
fn sleepers_for_a_token_are_woken_and_nobody_waits_for_ever() {
    // Every holder sleeps under a mutex that others want with a token held, in both orders.
    let (soft, hard) = (Token::<u64, Home>::new(&SOFT, 0), Mutex::<u64, Home>::new(&HARD, 0));
    let sums = Arc::new((soft, hard));
    let seen = Arc::clone(&sums);
    among_threads(move |home, number| {
        let (soft, hard) = (&sums.0, &sums.1);
        for _ in 0..ROUNDS {
            if number % 2 == 0 {
                soft.exclusive(|held| {
                    let mut guard = hard.lock();
                    *guard += 1;
                    home.yield_now();
                    held.change(|sum| *sum += 1);
                });
            } else {
                let mut guard = hard.lock();
                soft.exclusive(|held| held.change(|sum| *sum += 1));
                *guard += 1;
            }
        }
    });
    let (home, _power) = Home::power_on(1 << 20, 1).unwrap();
    home.run(None, move || {
        let soft = seen.0.shared(|held| held.look(|sum| *sum));
        assert_eq!((soft, *seen.1.lock()), (THREADS * ROUNDS, THREADS * ROUNDS));
    });
}

#[test]
fn a_pools_tokens_serialize_by_address() {
    let counts: [AtomicU64; 5] = Default::default();
    let shared = Arc::new((Pool::<Home>::try_new(&SOFT).unwrap(), counts));
    let seen = Arc::clone(&shared);
    among_threads(move |home, number| {
        for round in 0..ROUNDS {
            let count = &shared.1[((number * 3 + round) % 5) as usize];
            shared.0.exclusive(std::ptr::from_ref(count) as usize, || {
                let before = count.load(Ordering::Relaxed);
                if round % 16 == 0 {
                    home.yield_now();
                }
                count.store(before + 1, Ordering::Relaxed);
            });
        }
    });
    let sum: u64 = seen.1.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    assert_eq!(sum, THREADS * ROUNDS);
}

#[test]
fn a_sleep_lock_handed_to_io_comes_back_from_another_cpu() {
    static LOCK: std::sync::OnceLock<SleepLock<Home>> = std::sync::OnceLock::new();
    let lock = LOCK.get_or_init(|| SleepLock::new(&HARD));
    let pages = Arc::new(AtomicU64::new(0));
    let written = Arc::clone(&pages);
    among_threads(move |home, number| {
        for round in 0..ROUNDS / 10 {
            if (number + round) % 3 == 0 {
                let shared = lock.shared(Patience::Wait, Recursion::Refuse).unwrap();
                assert_eq!(pages.load(Ordering::Relaxed) % 2, 0, "I/O is under way");
                drop(shared);
                continue;
            }
            let alone = lock.exclusive(Patience::Wait, Recursion::Refuse).unwrap();
            pages.fetch_add(1, Ordering::Relaxed);
            let Ok(io) = alone.hand_over() else { panic!("it is held once") };
            let pages = Arc::clone(&pages);
            home.spawn(None, move || {
                pages.fetch_add(1, Ordering::Relaxed);
                drop(io);
            });
        }
    });
    assert!(!lock.is_held());
    assert_eq!(written.load(Ordering::Relaxed) % 2, 0);
}
