//! Proofs that a sleep lock is held, and what can be made of them.

use core::marker::PhantomData;
use core::mem;
use core::panic::Location;

use rumpvm_platform::{LockStep, LockUse, Seam, Site};

use super::rules::For;
use super::{LockError, Patience, SleepLock, strike, thread};

/// A lock that is held beside others. Released when dropped, by the thread that took it.
#[must_use = "dropping the guard releases"]
pub struct Shared<'l, S: Seam> {
    lock: &'l SleepLock<S>,
    used: LockUse,
    /// The thread has it on its list.
    not_send: PhantomData<*mut ()>,
}

/// A lock that is held alone. Released when dropped, by the thread that took it.
#[must_use = "dropping the guard releases"]
pub struct Exclusive<'l, S: Seam> {
    lock: &'l SleepLock<S>,
    used: LockUse,
    /// The thread has it on its list.
    not_send: PhantomData<*mut ()>,
}

/// A lock that I/O holds. Released when dropped, by whoever completes the I/O.
#[must_use = "dropping it releases"]
pub struct InFlight<'l, S: Seam> {
    lock: &'l SleepLock<S>,
}

impl<'l, S: Seam> Shared<'l, S> {
    pub(super) fn new(lock: &'l SleepLock<S>, used: LockUse) -> Self {
        Self { lock, used, not_send: PhantomData }
    }

    /// Makes it the only one. If another sharer wants that too, this share is given up for the time being:
    /// others may have had the lock alone before this returns, so look everything up again. An error leaves
    /// nothing of this share.
    #[track_caller]
    pub fn upgrade(self, patience: Patience) -> Result<Exclusive<'l, S>, LockError> {
        let (lock, site) = (self.lock, Location::caller());
        match self.promote(patience, site) {
            Err(LockError::UpgradePending) => lock.own(patience, site),
            outcome => outcome,
        }
    }

    /// As [`Shared::upgrade`], but nobody has it alone in between: if another sharer is first, this is
    /// [`LockError::UpgradePending`]. An error leaves nothing of this share.
    #[track_caller]
    pub fn upgrade_first(self, patience: Patience) -> Result<Exclusive<'l, S>, LockError> {
        self.promote(patience, Location::caller())
    }

    fn promote(self, patience: Patience, site: Site) -> Result<Exclusive<'l, S>, LockError> {
        let (lock, share, me) = (self.lock, self.used, thread::<S>());
        mem::forget(self);
        if lock.state.lock().is_owner(me.id()) {
            // The owner's own share: it is alone already.
            return Ok(Exclusive::new(lock, share));
        }
        S::lock_step(LockStep::Free, &share);
        S::lock_step(LockStep::Freed, &share);
        strike(me, &share);
        let outcome = lock.asks(patience, false, site).and_then(|asked| {
            // What it has besides the share that it gives for this, it would wait for.
            let outcome = match asked.held {
                Some(held) => Err(LockError::Deadlock { held, wanted: site }),
                None => lock.request(&asked, For::Upgrade, |state| state.promote(asked.holder())),
            };
            lock.note(&asked, outcome)
        });
        match outcome {
            Ok(used) => Ok(Exclusive::new(lock, used)),
            Err(error) => {
                lock.state.lock().shares -= 1;
                lock.changed.raise();
                Err(error)
            }
        }
    }

    /// Keeps the lock without a guard; it is released by [`SleepLock::release`].
    pub fn keep(self) {
        mem::forget(self);
    }
}

impl<'l, S: Seam> Exclusive<'l, S> {
    pub(super) fn new(lock: &'l SleepLock<S>, used: LockUse) -> Self {
        Self { lock, used, not_send: PhantomData }
    }

    /// Lets sharers in, and stays one. If the thread has it more than once nothing changes, and the error comes
    /// with the guard.
    pub fn downgrade(self) -> Result<Shared<'l, S>, (Self, LockError)> {
        let demoted = self.lock.state.lock().demote();
        if let Err(error) = demoted {
            return Err((self, error));
        }
        let (lock, used) = (self.lock, self.used);
        mem::forget(self);
        S::lock_step(LockStep::Free, &used);
        S::lock_step(LockStep::Freed, &used);
        let share = LockUse { shared: true, ..used };
        S::lock_step(LockStep::Try, &share);
        S::lock_step(LockStep::Taken, &share);
        lock.changed.raise();
        Ok(Shared::new(lock, share))
    }

    /// Makes I/O the owner. If the thread has it more than once nothing changes, and the error comes with the
    /// guard.
    #[track_caller]
    pub fn hand_over(self) -> Result<InFlight<'l, S>, (Self, LockError)> {
        let handed = self.lock.state.lock().hand_over(Location::caller());
        if let Err(error) = handed {
            return Err((self, error));
        }
        let (lock, used) = (self.lock, self.used);
        mem::forget(self);
        S::lock_step(LockStep::Free, &used);
        strike(thread::<S>(), &used);
        S::lock_step(LockStep::Freed, &used);
        Ok(InFlight { lock })
    }

    /// Keeps the lock without a guard; it is released by [`SleepLock::release`].
    pub fn keep(self) {
        mem::forget(self);
    }
}

impl<'l, S: Seam> InFlight<'l, S> {
    /// Makes the calling thread the owner, who goes on with what the I/O has done.
    #[track_caller]
    pub fn take_over(self) -> Result<Exclusive<'l, S>, (Self, LockError)> {
        let lock = self.lock;
        let asked = match lock.asks(Patience::NoWait, false, Location::caller()) {
            Ok(asked) => asked,
            Err(error) => return Err((self, error)),
        };
        lock.state.lock().owner = Some(asked.holder());
        mem::forget(self);
        let used = asked.used;
        lock.enlist(&asked);
        Ok(Exclusive::new(lock, used))
    }
}

impl<S: Seam> Drop for Shared<'_, S> {
    fn drop(&mut self) {
        self.lock.let_go(&self.used);
    }
}

impl<S: Seam> Drop for Exclusive<'_, S> {
    fn drop(&mut self) {
        self.lock.let_go(&self.used);
    }
}

impl<S: Seam> Drop for InFlight<'_, S> {
    fn drop(&mut self) {
        self.lock.state.lock().disown();
        self.lock.changed.raise();
    }
}
