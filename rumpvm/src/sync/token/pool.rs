//! Tokens for things that have no room for one of their own: by address, out of a pool.
//!
//! Two addresses may have the same token, so a thread may meet one of its own tokens at another address.
//! That is harmless as long as each is held alone (N1), so that is all the pool offers.
//!
//! Owns:  the tokens, as long as it lives: a thing may go while its token is held.

use alloc::vec::Vec;
use core::panic::Location;

use rumpvm_platform::{LockClass, LockUse, Seam};

use super::list::enter;
use super::raw::RawToken;
use crate::NoMemory;
use crate::sync::seam::try_push;

/// Tokens of a pool. A prime, because addresses are multiples of powers of two; and so many that 16 threads
/// with a token each, all for different things, have different ones more often than not (the birthday
/// paradox: e^(-16 * 15 / 2 / 251) is 0.62).
const TOKENS: usize = 251;

/// Tokens by address.
pub struct Pool<S> {
    class: &'static LockClass,
    tokens: Vec<RawToken<S>>,
}

impl<S: Seam> Pool<S> {
    /// A pool whose tokens are of `class`.
    pub fn try_new(class: &'static LockClass) -> Result<Self, NoMemory> {
        let mut tokens = Vec::new();
        for _ in 0..TOKENS {
            try_push::<_, S>(&mut tokens, RawToken::new())?;
        }
        Ok(Self { class, tokens })
    }

    /// Runs `body` with the token of `address` held alone. Sleeps while somebody else has it, be it for another
    /// address.
    #[inline]
    #[track_caller]
    pub fn exclusive<R>(&self, address: usize, body: impl FnOnce() -> R) -> R {
        let token = &self.tokens[self.place(address)];
        let site = Location::caller();
        let wanted = LockUse { class: self.class, address: token.address(), shared: false, site };
        let _entered = enter(token, wanted);
        body()
    }

    /// Whether both addresses have the same token.
    pub fn is_same(&self, one: usize, other: usize) -> bool {
        self.place(one) == self.place(other)
    }

    /// By the home's name for the address, so that runs repeat where addresses do not.
    fn place(&self, address: usize) -> usize {
        S::name(address) % self.tokens.len()
    }
}
