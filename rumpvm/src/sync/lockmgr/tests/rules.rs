//! The rules of sleep locks, one step after the other, with nobody who really waits.

use std::format;

use super::super::rules::{Answer, For, State};
use super::*;

fn shared_once() -> State {
    let mut state = State::default();
    assert_eq!(state.share(false), Answer::Yours);
    state
}

#[test]
fn whoever_waits_keeps_out_those_who_come_later_and_is_forgotten_when_he_waits_no_more() {
    // What new sharers, another upgrade and a drain are told while one waits for something; one share is there.
    let told = |state: &mut State| {
        let by = Holder { thread: Some(1), site: Location::caller() };
        let share = state.share(false);
        if share == Answer::Yours {
            state.shares -= 1;
        }
        let again = state.share(true);
        assert_eq!(
            (again, state.own(by), state.end()),
            (Answer::Yours, Answer::Later, Answer::Later)
        );
        state.shares -= 1;
        (share, state.is_closed())
    };
    let mut state = shared_once();
    for (what, expected) in [
        (For::Share, (Answer::Yours, false)),
        (For::Ownership, (Answer::Later, false)),
        (For::Upgrade, (Answer::Later, false)),
        (For::End, (Answer::Yours, true)),
    ] {
        state.waits(what);
        assert_eq!(told(&mut state), expected, "{what:?}");
        state.shares = 0;
        let end = state.end();
        assert_eq!(
            end == Answer::Yours,
            what == For::End,
            "{what:?}: who came before is waited for"
        );
        state = shared_once();
        state.waits(what);
        state.waits(what);
        state.waits_no_more(what);
        if what != For::Upgrade {
            assert_eq!(told(&mut state), expected, "{what:?}: one of two still waits");
        }
        state = shared_once();
        state.waits(what);
        state.waits_no_more(what);
        assert_eq!(told(&mut state), (Answer::Yours, false), "{what:?}: nobody waits any more");
        state.shares = 0;
        assert_eq!(state.end(), Answer::Yours);
        state = shared_once();
    }
}

#[test]
fn ownership_ends_with_its_last_use_and_is_given_up_only_as_a_whole() {
    let by = |thread| Holder { thread: Some(thread), site: Location::caller() };
    let mut state = State::default();
    assert_eq!(state.own(by(1)), Answer::Yours);
    assert!(state.is_owner(1) && !state.is_owner(2));
    assert_eq!((state.own(by(2)), state.share(false)), (Answer::Later, Answer::Later));
    state.depth += 1;
    assert_eq!(state.demote(), Err(LockError::Recursed(state.owner.unwrap())));
    assert_eq!(state.hand_over(Location::caller()), Err(LockError::Recursed(state.owner.unwrap())));
    state.disown();
    assert!(state.is_owner(1));
    assert_eq!(state.demote(), Ok(()));
    assert_eq!((state.owner, state.depth, state.shares), (None, 0, 1));
    assert_eq!(state.share(false), Answer::Yours);
    assert_eq!(state.promote(by(1)), Ok(Answer::Later), "there is another sharer");
    state.shares = 1;
    assert_eq!(state.promote(by(1)), Ok(Answer::Yours));
    assert_eq!((state.is_owner(1), state.depth, state.shares), (true, 1, 0));
    assert_eq!(state.hand_over(Location::caller()), Ok(()));
    assert_eq!(state.owner.map(|owner| owner.thread), Some(None));
    state.disown();
    assert_eq!((state.owner, state.end()), (None, Answer::Yours));
    assert!(state.is_closed());
}

#[test]
fn what_an_error_says_names_the_thread_or_io_and_both_places() {
    let site = Location::caller();
    let said = |error: LockError| format!("{error}");
    let holder = |thread| Holder { thread, site };
    let deadlock = LockError::Deadlock { held: holder(Some(7)), wanted: site };
    assert_eq!(
        said(deadlock),
        format!("locking against oneself: wanted in {site}, held by thread 7 since {site}")
    );
    let released = LockError::NotHeld { holder: Some(holder(None)), site };
    assert!(said(released).ends_with(&format!("held by I/O since {site}")));
    let nobody = LockError::NotHeld { holder: None, site };
    assert!(said(nobody).ends_with("nobody has it alone"));
    assert_eq!(
        said(LockError::Recursed(holder(Some(7)))),
        format!("held more than once by {}", holder(Some(7)))
    );
}
