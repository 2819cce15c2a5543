//! #2399 as a class of locks: tokens, which are given up while their holder sleeps, and all of them taken again.

use std::rc::Rc;

use rumpvm::sync::token::Pool;
use rumpvm::sync::{Atomic, Event, Ordering, Token};
use rumpvm_hosted::explored::{Chance, Settings, Stage};
use rumpvm_platform::{LockClass, LockKind};

use crate::{Pc, Scenario};

type Word = Atomic<u32, Pc>;

/// A class behind all of the component's.
static TOKEN: LockClass =
    LockClass { name: "token", rank: 200, kind: LockKind::Token, nests: true };

pub(super) fn table() -> Vec<Scenario> {
    let chances = Settings::USUAL.chances.with(Chance::Wake);
    let settings = Settings { frames: 1, fine: true, chances, ..Settings::USUAL };
    let scenario =
        |name, says, settings, setup| Scenario { name, report: "#2399", says, settings, setup };
    vec![
        scenario(
            "tokens-crossed",
            "two threads take two tokens in opposite orders, and need not wait for each other",
            settings,
            crossed,
        ),
        scenario(
            "tokens-in-sleep",
            "a thread sleeps with two tokens, which the one who wakes it needs first",
            settings,
            in_sleep,
        ),
        scenario(
            "tokens-shared",
            "sharers of a token, and one who wants it alone, twice",
            Settings { cpus: 3, ..settings },
            shared,
        ),
        scenario(
            "tokens-tried",
            "a token that could not be had is not left behind in any way",
            settings,
            tried,
        ),
        scenario(
            "tokens-pool",
            "two threads take things in opposite orders by the tokens of a pool, which has one for two of them",
            settings,
            pool,
        ),
    ]
}

/// Data of a token: two words that are equal for whoever may look.
type Data = Token<[Word; 2], Pc>;

fn data() -> Rc<Data> {
    Rc::new(Token::new(&TOKEN, [Word::new(0), Word::new(0)]))
}

fn change(words: &mut [Word; 2]) {
    for word in words {
        word.set(word.get() + 1);
    }
}

#[track_caller]
fn look(words: &[Word; 2]) -> u32 {
    assert_eq!(words[0].get(), words[1].get(), "a look at half of a change");
    words[0].get()
}

/// Nobody holds `data`, and it was changed so often.
#[track_caller]
fn is_left(data: &Data, changes: u32) {
    assert!(!data.is_held(), "a token is left behind");
    assert_eq!(data.shared(|held| held.look(look)), changes);
}

fn crossed(stage: &Stage) {
    let tokens = [data(), data()];
    for cpu in 0..2 {
        let (outer, inner) = (Rc::clone(&tokens[cpu]), Rc::clone(&tokens[1 - cpu]));
        stage.actor(cpu, "both", move || {
            outer.exclusive(|first| {
                first.change(change);
                inner.exclusive(|second| {
                    second.change(change);
                    // Perhaps it was given up in between: it is held again.
                    first.change(change);
                });
            });
        });
    }
    stage.finally(move || tokens.iter().for_each(|token| is_left(token, 3)));
}

fn in_sleep(stage: &Stage) {
    let shared = Rc::new((data(), data(), Event::<Pc>::new()));
    let other = Rc::clone(&shared);
    let all = Rc::clone(&shared);
    stage.actor(0, "sleeper", move || {
        let (outer, inner, event) = &*shared;
        outer.exclusive(|first| {
            inner.exclusive(|second| {
                loop {
                    let seen = event.seen();
                    if second.look(look) != 0 {
                        break;
                    }
                    event.wait(seen);
                }
                first.change(change);
                second.change(change);
            });
        });
    });
    stage.actor(1, "waker", move || {
        let (outer, inner, event) = &*other;
        inner.exclusive(|held| held.change(change));
        event.raise();
        outer.exclusive(|held| held.change(change));
        inner.exclusive(|held| held.change(change));
    });
    stage.finally(move || {
        is_left(&all.0, 2);
        is_left(&all.1, 3);
    });
}

fn shared(stage: &Stage) {
    let (token, inside) = (data(), Rc::new(Word::new(0)));
    for cpu in 0..2 {
        let (token, inside) = (Rc::clone(&token), Rc::clone(&inside));
        stage.actor(cpu, "sharer", move || {
            token.shared(|held| {
                inside.fetch_add(1, Ordering::Relaxed);
                held.look(look);
                // Who shares it may share it again, whoever waits.
                token.shared(|again| again.look(look));
                inside.fetch_sub(1, Ordering::Relaxed);
            });
        });
    }
    let own = Rc::clone(&token);
    stage.actor(2, "alone", move || {
        own.exclusive(|held| {
            assert_eq!(inside.load(Ordering::Relaxed), 0, "one is alone, and others are inside");
            held.change(change);
            own.exclusive(|again| again.change(change));
            own.shared(|again| again.look(look));
            held.change(change);
        });
    });
    stage.finally(move || is_left(&token, 3));
}

fn tried(stage: &Stage) {
    let tokens = [data(), data()];
    let changes = Rc::new(Word::new(0));
    for cpu in 0..2 {
        let (outer, inner) = (Rc::clone(&tokens[cpu]), Rc::clone(&tokens[1 - cpu]));
        let changes = Rc::clone(&changes);
        stage.actor(cpu, "tries", move || {
            outer.exclusive(|first| {
                first.change(change);
                let tried = inner.try_exclusive(|second| second.change(change));
                changes.fetch_add(1 + u32::from(tried.is_some()), Ordering::Relaxed);
            });
            inner.try_shared(|held| held.look(look));
        });
    }
    stage.finally(move || {
        let sum: u32 = tokens.iter().map(|token| token.shared(|held| held.look(look))).sum();
        assert_eq!(sum, changes.load(Ordering::Relaxed));
        assert!(tokens.iter().all(|token| !token.is_held()), "a token is left behind");
    });
}

fn pool(stage: &Stage) {
    let pool = Pool::<Pc>::try_new(&TOKEN).expect("memory for the tokens");
    let things: Rc<[Word]> = (0..1000).map(|_| Word::new(0)).collect();
    let place = |at: usize| std::ptr::from_ref(&things[at]) as usize;
    let twin =
        (1..1000).find(|at| pool.is_same(place(0), place(*at))).expect("there are fewer tokens");
    assert!(!pool.is_same(place(0), place(1)));
    let shared = Rc::new((pool, Rc::clone(&things)));
    for (cpu, order) in [[0, twin, 1], [1, twin, 0]].into_iter().enumerate() {
        let shared = Rc::clone(&shared);
        stage.actor(cpu, "user", move || take_all(&shared.0, &shared.1, &order));
    }
    stage.finally(move || {
        let counts = [0, twin, 1].map(|at| things[at].get());
        assert_eq!(counts, [2; 3], "a count is lost");
    });
}

/// Counts each of the things at `order`, with its token held and those of the ones before.
fn take_all(pool: &Pool<Pc>, things: &[Word], order: &[usize]) {
    let [first, rest @ ..] = order else { return };
    let thing = &things[*first];
    pool.exclusive(std::ptr::from_ref(thing) as usize, || {
        thing.set(thing.get() + 1);
        take_all(pool, things, rest);
    });
}
