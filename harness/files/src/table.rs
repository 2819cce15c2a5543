//! Descriptors: a process's numbers for open files.
//!
//! Locks: its own, for a few instructions. No open file is let go under it: the last hold may sleep.
//! Owns:  a hold of each open file that has a number; locks of files (`lock`), until one of their descriptors is closed.

use alloc::vec::Vec;
use core::mem;

use rumpvm::sync::{Atomic, Ordering, Spin, try_reserve};
use rumpvm::{Hold, NoMemory};
use rumpvm_platform::Platform;

use crate::class;
use crate::errno::Errno;
use crate::lock::Owner;
use crate::open::Open;

/// Whether a descriptor outlives exec.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnExec {
    /// It stays.
    Keep,
    /// It goes (`FD_CLOEXEC`).
    Close,
}

/// A process's descriptors.
pub struct Table<P: Platform> {
    slots: Spin<Slots<P>, P>,
    /// As whose locks of fcntl(2) are noted.
    owner: Atomic<u64, P>,
}

struct Slots<P: Platform> {
    list: Vec<Option<Slot<P>>>,
    /// No number below it is free.
    lowest: usize,
}

struct Slot<P: Platform> {
    open: Hold<Open<P>, P>,
    on_exec: OnExec,
}

impl<P: Platform> Default for Table<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Table<P> {
    /// No descriptors.
    pub fn new() -> Self {
        Self::of(Slots { list: Vec::new(), lowest: 0 })
    }

    fn of(slots: Slots<P>) -> Self {
        let owner = Atomic::new(Owner::new().word());
        Self { slots: Spin::new(&class::TABLE, slots), owner }
    }

    /// Whose locks are those of whoever uses it.
    pub fn owner(&self) -> Owner {
        Owner::of_word(self.owner.load(Ordering::Acquire))
    }

    /// Takes over the locks of `other`, of which it is a copy; exec(2) keeps them.
    pub fn inherit_locks(&self, other: &Self) {
        let own = self.owner.load(Ordering::Acquire);
        self.owner.store(other.owner.swap(own, Ordering::AcqRel), Ordering::Release);
    }

    /// A descriptor of that file is gone, and with it every lock of the file.
    fn lost(&self, open: &Open<P>) {
        open.node().forget_locks(self.owner());
    }

    /// A copy for a new process: the same open files under the same numbers.
    pub fn try_clone(&self) -> Result<Self, NoMemory> {
        let mut list: Vec<Option<Slot<P>>> = Vec::new();
        loop {
            // Room is made without the lock, and looked at again with it.
            let wanted = self.slots.lock().used();
            try_reserve::<_, P>(&mut list, wanted)?;
            let slots = self.slots.lock();
            if slots.used() > list.capacity() {
                continue;
            }
            let used = slots.used();
            list.extend(slots.list[..used].iter().map(|slot| slot.as_ref().map(Slot::copy)));
            let lowest = slots.lowest.min(used);
            return Ok(Self::of(Slots { list, lowest }));
        }
    }

    /// The open file of that number, or [`Errno::EBADF`].
    pub fn get(&self, number: u32) -> Result<Hold<Open<P>, P>, Errno> {
        let slots = self.slots.lock();
        slots.get(number).map(|slot| slot.open.clone()).ok_or(Errno::EBADF)
    }

    /// Gives `open` the lowest number that is free, `least` or more and below `limit` ([`Errno::EMFILE`]).
    pub fn add(
        &self,
        open: Hold<Open<P>, P>,
        least: u32,
        limit: u32,
        on_exec: OnExec,
    ) -> Result<u32, Errno> {
        let mut slots = self.slots.lock();
        let at = slots.lowest_free(least as usize);
        if at >= limit as usize {
            // The caller's own hold goes with it, so it is let go without the lock.
            drop(slots);
            return Err(Errno::EMFILE);
        }
        if let Err(error) = slots.reach(at) {
            drop(slots);
            return Err(error.into());
        }
        slots.list[at] = Some(Slot { open, on_exec });
        if at == slots.lowest {
            slots.lowest = at + 1;
        }
        Ok(at as u32)
    }

    /// Both of a pair of open files, or neither.
    pub fn add_pair(
        &self,
        pair: [Hold<Open<P>, P>; 2],
        limit: u32,
        on_exec: OnExec,
    ) -> Result<[u32; 2], Errno> {
        let [first, second] = pair;
        let first = self.add(first, 0, limit, on_exec)?;
        match self.add(second, 0, limit, on_exec) {
            Ok(second) => Ok([first, second]),
            Err(error) => {
                drop(self.close(first));
                Err(error)
            }
        }
    }

    /// Gives `open` exactly this number; what had it is returned, for the caller to let go: dup2(2).
    pub fn put(
        &self,
        open: Hold<Open<P>, P>,
        number: u32,
        limit: u32,
        on_exec: OnExec,
    ) -> Result<Option<Hold<Open<P>, P>>, Errno> {
        if number >= limit {
            return Err(Errno::EBADF);
        }
        let at = number as usize;
        let mut slots = self.slots.lock();
        if let Err(error) = slots.reach(at) {
            drop(slots);
            return Err(error.into());
        }
        let before = slots.list[at].replace(Slot { open, on_exec });
        if at == slots.lowest {
            slots.lowest = at + 1;
        }
        drop(slots);
        let before = before.map(|slot| slot.open);
        before.iter().for_each(|open| self.lost(open));
        Ok(before)
    }

    /// Takes the number away, and returns what it stood for; its end is the caller's to see: close(2).
    pub fn close(&self, number: u32) -> Result<Hold<Open<P>, P>, Errno> {
        let mut slots = self.slots.lock();
        let slot = slots.take(number as usize);
        drop(slots);
        let open = slot.map(|slot| slot.open).ok_or(Errno::EBADF)?;
        self.lost(&open);
        Ok(open)
    }

    /// Closes all numbers from `first` to `last`: close_range(2).
    pub fn close_range(&self, first: u32, last: u32) {
        self.close_where(first, |number, _| number <= last);
    }

    /// Closes what does not outlive exec.
    pub fn exec(&self) {
        self.close_where(0, |_, on_exec| on_exec == OnExec::Close);
    }

    /// Closes everything: the process ends.
    pub fn close_all(&self) {
        let mut slots = self.slots.lock();
        let list = mem::take(&mut slots.list);
        slots.lowest = 0;
        drop(slots);
        list.iter().flatten().for_each(|slot| self.lost(&slot.open));
        drop(list);
    }

    /// Whether the number goes at exec.
    pub fn on_exec(&self, number: u32) -> Result<OnExec, Errno> {
        self.slots.lock().get(number).map(|slot| slot.on_exec).ok_or(Errno::EBADF)
    }

    /// Changes that.
    pub fn set_on_exec(&self, number: u32, on_exec: OnExec) -> Result<(), Errno> {
        let mut slots = self.slots.lock();
        let slot = slots.list.get_mut(number as usize).and_then(Option::as_mut);
        slot.ok_or(Errno::EBADF)?.on_exec = on_exec;
        Ok(())
    }

    /// Changes that for all numbers from `first` to `last`.
    pub fn set_range_on_exec(&self, first: u32, last: u32, on_exec: OnExec) {
        let mut slots = self.slots.lock();
        for (number, slot) in slots.list.iter_mut().enumerate().skip(first as usize) {
            if number > last as usize {
                break;
            }
            if let Some(slot) = slot {
                slot.on_exec = on_exec;
            }
        }
    }

    /// The next number in use, `from` or more, and what it stands for; for who goes through them.
    pub fn next(&self, from: u32) -> Option<(u32, Hold<Open<P>, P>)> {
        let slots = self.slots.lock();
        let mut rest = slots.list.iter().enumerate().skip(from as usize);
        rest.find_map(|(number, slot)| Some((number as u32, slot.as_ref()?.open.clone())))
    }

    /// Numbers in use, and places for them.
    pub fn count(&self) -> (usize, usize) {
        let slots = self.slots.lock();
        (slots.list.iter().flatten().count(), slots.list.len())
    }

    fn close_where(&self, first: u32, which: impl Fn(u32, OnExec) -> bool) {
        let mut from = first as usize;
        loop {
            let mut slots = self.slots.lock();
            let mut rest = slots.list.iter().enumerate().skip(from);
            let found = rest.find_map(|(number, slot)| {
                let on_exec = slot.as_ref()?.on_exec;
                which(number as u32, on_exec).then_some(number)
            });
            let Some(number) = found else { return };
            let slot = slots.take(number);
            drop(slots);
            slot.iter().for_each(|slot| self.lost(&slot.open));
            drop(slot);
            from = number + 1;
        }
    }
}

impl<P: Platform> Drop for Table<P> {
    fn drop(&mut self) {
        self.close_all();
    }
}

impl<P: Platform> Slots<P> {
    fn get(&self, number: u32) -> Option<&Slot<P>> {
        self.list.get(number as usize)?.as_ref()
    }

    fn take(&mut self, at: usize) -> Option<Slot<P>> {
        let slot = self.list.get_mut(at)?.take()?;
        self.lowest = self.lowest.min(at);
        Some(slot)
    }

    fn lowest_free(&self, least: usize) -> usize {
        let from = least.max(self.lowest);
        let mut rest = self.list.iter().enumerate().skip(from);
        let free = rest.find_map(|(at, slot)| slot.is_none().then_some(at));
        free.unwrap_or(from.max(self.list.len()))
    }

    /// Makes a place with that number.
    fn reach(&mut self, at: usize) -> Result<(), NoMemory> {
        if at >= self.list.len() {
            let more = at + 1 - self.list.len();
            try_reserve::<_, P>(&mut self.list, more)?;
            self.list.resize_with(at + 1, || None);
        }
        Ok(())
    }

    /// One more than the greatest number in use.
    fn used(&self) -> usize {
        self.list.iter().rposition(Option::is_some).map_or(0, |last| last + 1)
    }
}

impl<P: Platform> Slot<P> {
    fn copy(&self) -> Self {
        Self { open: self.open.clone(), on_exec: self.on_exec }
    }
}
