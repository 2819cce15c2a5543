//! The tokens of a thread: a stack, given up as a whole while the thread sleeps and taken again as a whole.
//!
//! Flow:  [`enter`] -> body -> [`Entered`] dropped; `Atomic::sleep_until` -> [`given_up`] -> the home's sleep.
//! Locks: these are locks. Nobody holds one while waiting for another: whoever cannot have all has none.
//! Sleep: [`enter`], and the end of every sleep of a thread that has tokens.
//!
//! K1. The list has the tokens that the thread holds, oldest first, and each comes off before those below it:
//!     [`enter`] is called by functions that run a closure and return.
//! K2. While the thread sleeps the list is empty, and what was in it is on the thread's stack.
//! K3. A thread that has a token's data in its hands does not sleep.

use core::cell::Cell;
use core::marker::PhantomData;

use rumpvm_platform::{LockStep, LockUse, MAX_TOKENS, Seam, Site, ThreadLocal};

use super::raw::{Counted, RawToken, Taken};

/// Times that a thread asks in the order in which it took its tokens, before it asks in the order of their
/// addresses, in which no two threads can keep each other waiting. DragonFly's number.
const ATTEMPTS_IN_ORDER: u32 = 10;

/// Proof that the thread's newest token is held; gives it back when dropped.
pub(super) struct Entered<'t, S: Seam> {
    local: &'t ThreadLocal,
    token: &'t RawToken<S>,
    /// The list is the thread's.
    not_send: PhantomData<*mut ()>,
}

/// This thread's list.
///
/// # Panics
/// In a home that does not know its threads: it cannot have tokens.
#[inline]
pub(super) fn local<'t, S: Seam>() -> &'t ThreadLocal {
    let local = S::thread().expect("a home with tokens knows its threads");
    // SAFETY: the home keeps it as long as the thread lives, and the borrow ends with a call of this thread.
    unsafe { local.as_ref() }
}

/// Takes `token`; sleeps for it, with all tokens of the thread given up.
#[inline]
pub(super) fn enter<'t, S: Seam>(token: &'t RawToken<S>, wanted: LockUse) -> Entered<'t, S> {
    S::lock_step(LockStep::Want, &wanted);
    let local = local::<S>();
    let depth = local.depth.get();
    match token.try_take(wanted.shared, local.id(), depth == 0) {
        Ok(counted) => push(local, wanted, counted),
        Err(_) => enter_with_all::<S>(local, wanted),
    }
    S::lock_step(LockStep::Taken, &wanted);
    Entered { local, token, not_send: PhantomData }
}

/// Takes `token` if that is possible at this moment.
#[inline]
pub(super) fn try_enter<'t, S: Seam>(
    token: &'t RawToken<S>,
    wanted: LockUse,
) -> Option<Entered<'t, S>> {
    S::lock_step(LockStep::Try, &wanted);
    let local = local::<S>();
    let Ok(counted) = token.try_take(wanted.shared, local.id(), local.depth.get() == 0) else {
        S::lock_step(LockStep::Failed, &wanted);
        return None;
    };
    push(local, wanted, counted);
    S::lock_step(LockStep::Taken, &wanted);
    Some(Entered { local, token, not_send: PhantomData })
}

#[inline]
fn push(local: &ThreadLocal, taken: LockUse, counted: Counted) {
    let depth = local.depth.get();
    let Some(place) = local.tokens.get(depth) else { too_many(&taken) };
    place.set(Some(LockUse { shared: counted == Counted::Share, ..taken }));
    local.depth.set(depth + 1);
}

#[cold]
fn too_many(taken: &LockUse) -> ! {
    panic!("a thread holds {MAX_TOKENS} tokens when it takes {taken}");
}

impl<S: Seam> Drop for Entered<'_, S> {
    #[inline]
    fn drop(&mut self) {
        // An empty list means that a panic unwinds out of a sleep, and then nothing is held (K2).
        let Some(top) = self.local.depth.get().checked_sub(1) else { return };
        let Some(entry) = self.local.tokens[top].take() else { return };
        S::lock_step(LockStep::Free, &entry);
        self.local.depth.set(top);
        self.token.give_back(entry.shared);
        S::lock_step(LockStep::Freed, &entry);
    }
}

/// What a thread holds, off its list.
struct Saved {
    entries: [Option<LockUse>; MAX_TOKENS],
    depth: usize,
}

impl Saved {
    /// Empties the list of `local`.
    fn take(local: &ThreadLocal) -> Self {
        no_look(local);
        let mut entries = [None; MAX_TOKENS];
        let depth = local.depth.replace(0);
        for (saved, entry) in entries.iter_mut().zip(&local.tokens[..depth]) {
            *saved = entry.take();
        }
        Self { entries, depth }
    }

    /// Puts it back.
    fn restore(self, local: &ThreadLocal) {
        for (entry, saved) in local.tokens.iter().zip(&self.entries[..self.depth]) {
            entry.set(*saved);
        }
        local.depth.set(self.depth);
    }

    /// Gives back those of the first `count` in `order`, newest first.
    fn give_back<S: Seam>(&self, order: &[u8], count: usize) {
        for at in order[..count].iter().rev() {
            if let Some(entry) = &self.entries[usize::from(*at)] {
                // SAFETY: the entry comes from the thread's list (K1).
                unsafe { RawToken::<S>::of(entry) }.give_back(entry.shared);
            }
        }
    }

    /// Takes all of them in `order`, or none; then returns the one that could not be had.
    fn try_take<S: Seam>(&mut self, order: &[u8], me: u64) -> Result<(), (LockUse, Taken)> {
        for (done, at) in order.iter().enumerate() {
            let Some(entry) = &mut self.entries[usize::from(*at)] else { continue };
            // SAFETY: the entry comes from the thread's list (K1).
            let token = unsafe { RawToken::<S>::of(entry) };
            match token.try_take(entry.shared, me, order.len() == 1) {
                Ok(counted) => entry.shared = counted == Counted::Share,
                Err(taken) => {
                    let failed = *entry;
                    self.give_back::<S>(order, done);
                    return Err((failed, taken));
                }
            }
        }
        Ok(())
    }

    /// Takes all of them, sleeping with none of them.
    fn take_all<S: Seam>(&mut self, me: u64) {
        let mut order: [u8; MAX_TOKENS] = core::array::from_fn(|at| at as u8);
        let order = &mut order[..self.depth];
        let mut attempts = 0;
        while let Err((failed, taken)) = self.try_take::<S>(order, me) {
            // SAFETY: the entry comes from the thread's list (K1).
            unsafe { RawToken::<S>::of(&failed) }.sleep(&taken, failed.shared);
            attempts += 1;
            if attempts == ATTEMPTS_IN_ORDER {
                // Stable: uses of one token stay in the order of the stack.
                let address = |at: u8| self.entries[usize::from(at)].map(|entry| entry.address);
                order.sort_by_key(|at| (address(*at), *at));
            }
        }
    }
}

/// Takes `wanted`, which somebody else has, together with what the thread has.
#[cold]
fn enter_with_all<S: Seam>(local: &ThreadLocal, wanted: LockUse) {
    let older = local.depth.get();
    let is_own_share = |entry: &LockUse| entry.address == wanted.address && entry.shared;
    let mut held = local.tokens[..older].iter().filter_map(Cell::get);
    if !wanted.shared
        && let Some(held) = held.find(is_own_share)
    {
        panic!("the token {wanted} is wanted alone, and the thread itself has shared {held}");
    }
    if older == MAX_TOKENS {
        too_many(&wanted);
    }
    let mut saved = Saved::take(local);
    let order: [u8; MAX_TOKENS] = core::array::from_fn(|at| at as u8);
    saved.give_back::<S>(&order, older);
    saved.entries[older] = Some(wanted);
    saved.depth += 1;
    saved.take_all::<S>(local.id());
    saved.restore(local);
}

/// Runs `sleep` with every token of the thread given up. All of a thread's sleeps come through here.
#[inline]
pub(in crate::sync) fn given_up<S: Seam>(sleep: impl FnOnce()) {
    match S::thread() {
        // SAFETY: the home keeps it as long as the thread lives.
        Some(of_thread) if unsafe { of_thread.as_ref() }.depth.get() != 0 => {
            given_up_all::<S>(local::<S>(), sleep);
        }
        _ => sleep(),
    }
}

#[cold]
fn given_up_all<S: Seam>(local: &ThreadLocal, sleep: impl FnOnce()) {
    let mut saved = Saved::take(local);
    let order: [u8; MAX_TOKENS] = core::array::from_fn(|at| at as u8);
    saved.give_back::<S>(&order, saved.depth);
    sleep();
    saved.take_all::<S>(local.id());
    saved.restore(local);
}

/// K3, where it is about to be broken.
#[inline]
fn no_look(local: &ThreadLocal) {
    if let Some(site) = local.looking.get() {
        sleeps_with_data(site);
    }
}

#[cold]
fn sleeps_with_data(site: Site) -> ! {
    panic!("a thread sleeps with data of a token in its hands, since {site}");
}
