//! Serializing tokens: soft locks. While a holder sleeps for anything at all, its tokens are given up; when
//! it goes on, it has all of them again.
//!
//! So tokens take part in no deadlock and need no rank among themselves, and a thread may sleep wherever it
//! likes. The price: after every sleep the data may be different. Therefore nobody gets a reference that
//! outlives a sleep. A token runs a closure ([`Token::exclusive`], [`Token::shared`]), which looks at the
//! data in closures of its own ([`Exclusive::change`], [`Shared::look`]), and those must not sleep.
//!
//! Flow:  `exclusive(|held| ..)` -> the thread's list -> `held.change(|data| ..)`, as often as needed.
//! Locks: strictly nested, because closures are. No guard can be sent, kept or forgotten.
//! Sleep: for a token that somebody else has; nobody polls.
//!
//! N1. Whoever has a token alone may take it again, shared or alone. Whoever shares it may share it again;
//!     wanting it alone then stops the machine, naming both places, because no sharer can wait for itself.
//! N2. A sleep gives up all tokens of the thread, and ends with all of them held (`list`).
//! N3. One look at a time: a look inside a look, or a sleep inside one, stops the machine, naming the place.
//!
//! How DragonFly's work: sys/kern/lwkt_token.c. Ours differ in that waiters sleep.

mod list;
mod pool;
mod raw;
#[cfg(test)]
mod tests;

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::panic::Location;

use rumpvm_platform::{LockClass, LockStep, LockUse, Seam, Site, ThreadLocal};

use super::class;
pub(super) use list::given_up;
use list::{Entered, enter, local, try_enter};
pub use pool::Pool;
use raw::RawToken;

/// Data behind a token.
pub struct Token<T, S> {
    class: &'static LockClass,
    raw: RawToken<S>,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached only in looks: `&T` from several threads at a time, which needs `T: Sync`, or
// `&mut T` from one, which needs `T: Send`.
unsafe impl<T: Send + Sync, S: Seam> Sync for Token<T, S> {}
// SAFETY: an owned token owns its data.
unsafe impl<T: Send, S: Seam> Send for Token<T, S> {}

/// A token that is held alone, for the length of a closure.
pub struct Exclusive<'h, T, S: Seam> {
    token: &'h Token<T, S>,
    _entered: Entered<'h, S>,
}

/// A token that is held beside others, for the length of a closure.
pub struct Shared<'h, T, S: Seam> {
    token: &'h Token<T, S>,
    _entered: Entered<'h, S>,
}

impl<T, S: Seam> Token<T, S> {
    /// Puts `data` behind a token.
    pub fn new(class: &'static LockClass, data: T) -> Self {
        Self { class, raw: RawToken::new(), data: UnsafeCell::new(data) }
    }

    /// Runs `body` with the token held alone. Sleeps while somebody else has it.
    #[inline]
    #[track_caller]
    pub fn exclusive<R>(&self, body: impl FnOnce(&Exclusive<'_, T, S>) -> R) -> R {
        let wanted = self.used(false);
        body(&Exclusive { token: self, _entered: enter(&self.raw, wanted) })
    }

    /// Runs `body` with the token held beside other sharers. Sleeps while somebody has it alone; and while
    /// somebody wants it alone, if the thread has no token yet.
    #[inline]
    #[track_caller]
    pub fn shared<R>(&self, body: impl FnOnce(&Shared<'_, T, S>) -> R) -> R {
        let wanted = self.used(true);
        body(&Shared { token: self, _entered: enter(&self.raw, wanted) })
    }

    /// As [`Token::exclusive`], if the token can be had at this moment.
    #[track_caller]
    pub fn try_exclusive<R>(&self, body: impl FnOnce(&Exclusive<'_, T, S>) -> R) -> Option<R> {
        let entered = try_enter(&self.raw, self.used(false))?;
        Some(body(&Exclusive { token: self, _entered: entered }))
    }

    /// As [`Token::shared`], if the token can be had at this moment.
    #[track_caller]
    pub fn try_shared<R>(&self, body: impl FnOnce(&Shared<'_, T, S>) -> R) -> Option<R> {
        let entered = try_enter(&self.raw, self.used(true))?;
        Some(body(&Shared { token: self, _entered: entered }))
    }

    /// Whether anybody holds it. Stale at once unless nobody runs.
    pub fn is_held(&self) -> bool {
        self.raw.is_held()
    }

    #[inline]
    #[track_caller]
    fn used(&self, shared: bool) -> LockUse {
        let address = self.raw.address();
        LockUse { class: self.class, address, shared, site: Location::caller() }
    }
}

impl<T, S: Seam> Exclusive<'_, T, S> {
    /// Calls `look` with the data. It must not sleep.
    #[inline]
    #[track_caller]
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let _looking = Looking::<S>::begin(self.token.raw.address(), false, Location::caller());
        // SAFETY: the token is held alone, and until the look ends this thread neither sleeps nor has another
        // look (N3), so nobody writes.
        look(unsafe { &*self.token.data.get() })
    }

    /// Calls `change` with the data. It must not sleep.
    #[inline]
    #[track_caller]
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let _looking = Looking::<S>::begin(self.token.raw.address(), false, Location::caller());
        // SAFETY: the token is held alone, and until the look ends this thread neither sleeps nor has another
        // look (N3), so nobody else has a reference.
        change(unsafe { &mut *self.token.data.get() })
    }
}

impl<T, S: Seam> Shared<'_, T, S> {
    /// Calls `look` with the data. It must not sleep.
    #[inline]
    #[track_caller]
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let _looking = Looking::<S>::begin(self.token.raw.address(), true, Location::caller());
        // SAFETY: the token is held, and until the look ends this thread neither sleeps nor has another look
        // (N3), so nobody has it alone and writes.
        look(unsafe { &*self.token.data.get() })
    }
}

/// A look at the data of a token. To a home it is a spin lock: nothing may sleep under it.
struct Looking<'t, S: Seam> {
    local: &'t ThreadLocal,
    held: LockUse,
    seam: PhantomData<fn() -> S>,
}

impl<S: Seam> Looking<'_, S> {
    #[inline]
    fn begin(address: usize, shared: bool, site: Site) -> Self {
        let local = local::<S>();
        // Beside the token's own address, which names the token.
        let held = LockUse { class: &class::TOKEN_DATA, address: address + 1, shared, site };
        S::lock_step(LockStep::Want, &held);
        if let Some(other) = local.looking.replace(Some(site)) {
            looks_twice(other, site);
        }
        S::lock_step(LockStep::Taken, &held);
        Self { local, held, seam: PhantomData }
    }
}

impl<S: Seam> Drop for Looking<'_, S> {
    #[inline]
    fn drop(&mut self) {
        S::lock_step(LockStep::Free, &self.held);
        self.local.looking.set(None);
        S::lock_step(LockStep::Freed, &self.held);
    }
}

#[cold]
fn looks_twice(other: Site, site: Site) -> ! {
    panic!("data of a token is looked at in {site} during the look in {other}");
}
