//! Sleep locks as lockmgr(9) knows them: shared or alone, changed from one into the other, waited for as
//! patiently as the caller says, and handed over to I/O.
//!
//! | lockmgr | here |
//! |---|---|
//! | `LK_SHARED`, `LK_EXCLUSIVE` | [`SleepLock::shared`], [`SleepLock::exclusive`] |
//! | `LK_NOWAIT`, `LK_TIMELOCK` | [`Patience`] |
//! | `LK_CANRECURSE` | [`Recursion`] |
//! | `LK_UPGRADE`, `LK_EXCLUPGRADE` | [`Shared::upgrade`], [`Shared::upgrade_first`] |
//! | `LK_DOWNGRADE` | [`Exclusive::downgrade`] |
//! | `LK_RELEASE` | a guard is dropped; or [`SleepLock::release`], for a lock that was [kept](Exclusive::keep) |
//! | `LK_DRAIN` | [`SleepLock::drain`] |
//! | `LK_KERNPROC` | [`Exclusive::hand_over`] |
//!
//! It guards no value: a lock that its holder may take again, or that I/O holds, cannot give out the only
//! reference to anything. What it guards is said where it is.
//!
//! Flow:  request -> the rules, under the interlock -> guard, error, or sleep and ask again.
//! Locks: the interlock, a spin lock, for a few instructions.
//! Sleep: every request but those without patience. A release never does.
//! Owns:  nothing. Each thread knows the sleep locks that it has (`ThreadLocal::locks`).
//!
//! M1. An error leaves the caller with what it had; a failed upgrade, with nothing.
//! M2. Whoever would wait for itself is told, with the place where it took the lock.
//! M3. A share asked for by the owner never takes ownership away: it counts as one more use, or is refused.

mod guard;
mod rules;
#[cfg(test)]
mod tests;

use core::panic::Location;
use core::ptr;

use rumpvm_platform::{LockClass, LockStep, LockUse, Seam, Site, ThreadLocal};

pub use guard::{Exclusive, InFlight, Shared};
use rules::{Answer, For, State};
pub use rules::{Holder, LockError, Patience, Recursion};

use super::class;
use super::event::Event;
use super::spin::Spin;

/// A sleep lock.
pub struct SleepLock<S> {
    class: &'static LockClass,
    state: Spin<State, S>,
    /// Raised whenever somebody who waits may go on.
    changed: Event<S>,
}

/// One request.
#[derive(Clone, Copy)]
struct Asked<'t> {
    me: &'t ThreadLocal,
    used: LockUse,
    patience: Patience,
    /// How the thread has the lock already.
    held: Option<Holder>,
}

impl<S: Seam> SleepLock<S> {
    /// An unlocked lock.
    pub fn new(class: &'static LockClass) -> Self {
        let state = Spin::new(&class::INTERLOCK, State::default());
        Self { class, state, changed: Event::new() }
    }

    /// Takes it beside other sharers. The owner gets one more use of what he has, if `recursion` allows.
    #[track_caller]
    pub fn shared(
        &self,
        patience: Patience,
        recursion: Recursion,
    ) -> Result<Shared<'_, S>, LockError> {
        let asked = self.asks(patience, true, Location::caller())?;
        let rule = |state: &mut State| match again(state, &asked, recursion)? {
            Some(()) => Ok(Answer::Yours),
            None => Ok(state.share(asked.held.is_some())),
        };
        let outcome = self.request(&asked, For::Share, rule);
        Ok(Shared::new(self, self.note(&asked, outcome)?))
    }

    /// Takes it alone.
    #[track_caller]
    pub fn exclusive(
        &self,
        patience: Patience,
        recursion: Recursion,
    ) -> Result<Exclusive<'_, S>, LockError> {
        let asked = self.asks(patience, false, Location::caller())?;
        let rule = |state: &mut State| match (again(state, &asked, recursion)?, asked.held) {
            (Some(()), _) => Ok(Answer::Yours),
            // Its own share would never go.
            (None, Some(held)) => Err(LockError::Deadlock { held, wanted: asked.used.site }),
            (None, None) => Ok(state.own(asked.holder())),
        };
        let outcome = self.request(&asked, For::Ownership, rule);
        Ok(Exclusive::new(self, self.note(&asked, outcome)?))
    }

    /// Takes it alone in `site`, for a thread that has nothing of it.
    fn own(&self, patience: Patience, site: Site) -> Result<Exclusive<'_, S>, LockError> {
        let asked = self.asks(patience, false, site)?;
        let outcome = self.request(&asked, For::Ownership, |state| Ok(state.own(asked.holder())));
        Ok(Exclusive::new(self, self.note(&asked, outcome)?))
    }

    /// Waits until nobody has it and nobody who asked before waits for it. From the call on every new request is
    /// [`LockError::Drained`], for ever if this succeeds; if it does not, the lock is as before.
    #[track_caller]
    pub fn drain(&self, patience: Patience) -> Result<(), LockError> {
        let asked = self.asks(patience, false, Location::caller())?;
        let outcome = match asked.held {
            Some(held) => Err(LockError::Deadlock { held, wanted: asked.used.site }),
            None => self.request(&asked, For::End, |state| Ok(state.end())),
        };
        // It is nobody's now.
        S::lock_step(LockStep::Failed, &asked.used);
        outcome
    }

    /// Ends one use that the calling thread has and keeps no guard for. Never sleeps.
    #[track_caller]
    pub fn release(&self) -> Result<(), LockError> {
        let site = Location::caller();
        match held_by(thread::<S>(), self.address()) {
            Some(used) => {
                self.let_go(&used);
                Ok(())
            }
            None => Err(LockError::NotHeld { holder: self.owner(), site }),
        }
    }

    /// Who has it alone. Stale at once, unless it is the caller.
    pub fn owner(&self) -> Option<Holder> {
        self.state.lock().owner
    }

    /// Whether anybody has it. Stale at once unless nobody runs.
    pub fn is_held(&self) -> bool {
        let state = self.state.lock();
        state.owner.is_some() || state.shares > 0
    }

    fn address(&self) -> usize {
        ptr::from_ref(self) as usize
    }

    /// A request by the calling thread, whose list must have room for it.
    fn asks(&self, patience: Patience, shared: bool, site: Site) -> Result<Asked<'_>, LockError> {
        let me = thread::<S>();
        if me.locks.iter().all(|place| place.get().is_some()) {
            return Err(LockError::TooMany);
        }
        let address = self.address();
        let used = LockUse { class: self.class, address, shared, site };
        let held = held_by(me, address).map(|held| Holder::thread(me, &held));
        // Whoever has it already is never kept waiting.
        let waits = patience != Patience::NoWait && held.is_none();
        S::lock_step(if waits { LockStep::Want } else { LockStep::Try }, &used);
        Ok(Asked { me, used, patience, held })
    }

    /// Notes what came of a request, on the thread's list and with the home.
    fn note(
        &self,
        asked: &Asked<'_>,
        outcome: Result<(), LockError>,
    ) -> Result<LockUse, LockError> {
        match outcome {
            Ok(()) => self.enlist(asked),
            Err(_) => S::lock_step(LockStep::Failed, &asked.used),
        }
        outcome.map(|()| asked.used)
    }

    /// Puts what was taken on the thread's list; `asks` found room.
    fn enlist(&self, asked: &Asked<'_>) {
        let free = asked.me.locks.iter().find(|place| place.get().is_none());
        if let Some(place) = free {
            place.set(Some(asked.used));
        }
        S::lock_step(LockStep::Taken, &asked.used);
    }

    /// Asks `rule` under the interlock until it does not answer [`Answer::Later`], sleeping in between.
    fn request(
        &self,
        asked: &Asked<'_>,
        what: For,
        mut rule: impl FnMut(&mut State) -> Result<Answer, LockError>,
    ) -> Result<(), LockError> {
        let mut state = self.state.lock();
        if state.is_closed() && asked.held.is_none() {
            return Err(LockError::Drained);
        }
        if rule(&mut state)? == Answer::Yours {
            return Ok(());
        }
        let until = match asked.patience {
            Patience::NoWait => return Err(LockError::Busy),
            Patience::Until(end) => Some(end),
            Patience::Wait => None,
        };
        loop {
            state.waits(what);
            // Under the interlock: whatever changes from here on raises it.
            let seen = self.changed.seen();
            drop(state);
            self.changed.wait_until(seen, until);
            state = self.state.lock();
            state.waits_no_more(what);
            let outcome = match rule(&mut state) {
                Ok(Answer::Yours) => Ok(()),
                Ok(Answer::Later) if until.is_some_and(|end| S::clock() >= end) => {
                    Err(LockError::TimedOut)
                }
                Ok(Answer::Later) => continue,
                Err(error) => Err(error),
            };
            drop(state);
            // Others may have held back for this one.
            self.changed.raise();
            return outcome;
        }
    }

    /// Ends one use of the calling thread.
    fn let_go(&self, used: &LockUse) {
        let me = thread::<S>();
        S::lock_step(LockStep::Free, used);
        strike(me, used);
        let mut state = self.state.lock();
        if state.is_owner(me.id()) {
            state.disown();
        } else {
            state.shares -= 1;
        }
        drop(state);
        self.changed.raise();
        S::lock_step(LockStep::Freed, used);
    }
}

impl Asked<'_> {
    fn holder(&self) -> Holder {
        Holder::thread(self.me, &self.used)
    }
}

impl Holder {
    fn thread(me: &ThreadLocal, used: &LockUse) -> Self {
        Self { thread: Some(me.id()), site: used.site }
    }
}

/// One more use for the owner, if it is he who asks.
fn again(
    state: &mut State,
    asked: &Asked<'_>,
    recursion: Recursion,
) -> Result<Option<()>, LockError> {
    match state.owner {
        Some(held) if held.thread == Some(asked.me.id()) => match recursion {
            Recursion::Refuse => Err(LockError::Deadlock { held, wanted: asked.used.site }),
            Recursion::Allow => {
                state.depth += 1;
                Ok(Some(()))
            }
        },
        _ => Ok(None),
    }
}

/// What the home keeps of this thread.
///
/// # Panics
/// In a home that does not know its threads: its locks could not say whose they are.
fn thread<'t, S: Seam>() -> &'t ThreadLocal {
    let local = S::thread().expect("a home with sleep locks knows its threads");
    // SAFETY: the home keeps it as long as the thread lives, and the borrow ends with a call of this thread.
    unsafe { local.as_ref() }
}

/// The newest use that `me` has of the lock at `address`.
fn held_by(me: &ThreadLocal, address: usize) -> Option<LockUse> {
    me.locks.iter().rev().filter_map(|place| place.get()).find(|used| used.address == address)
}

/// Takes one use of the lock off the list of `me`.
fn strike(me: &ThreadLocal, used: &LockUse) {
    let is_it = |place: &LockUse| place.address == used.address && place.site == used.site;
    let place = me.locks.iter().find(|place| place.get().as_ref().is_some_and(is_it));
    if let Some(place) = place {
        place.set(None);
    }
}
