//! All spaces of a machine, and which of them each CPU translates through.
//!
//! Locks: the list's sleep lock, held for a search; each CPU's own record of its space, a spin lock.
//! Sleep: `leave`, where the space was a file's last user.
//! Owns:  a hold of every space that has users, and of every space that a CPU translates through.

use alloc::vec::Vec;
use core::ops::Deref;

use rumpvm_platform::Platform;

use super::Space;
use crate::NoMemory;
use crate::map::Store;
use crate::sync::{Hold, Left, Mutex, PerCpu, Spin, class, try_reserve};

/// All spaces of a machine.
pub struct Spaces<P: Platform> {
    store: Store<P>,
    /// Spaces that have users, by number.
    list: Mutex<Vec<Hold<Space<P>, P>>, P>,
    /// The space that each CPU translates through.
    current: PerCpu<Current<P>, P>,
}

type Current<P> = Spin<Option<Hold<Space<P>, P>>, P>;

impl<P: Platform> Spaces<P> {
    /// No spaces yet.
    pub(crate) fn try_new(store: Store<P>) -> Result<Self, NoMemory> {
        let cpus = store.mmu.phys.platform.cpu_count();
        let current = PerCpu::try_new(cpus, |_| Spin::new(&class::CURRENT, None))?;
        Ok(Self { store, list: Mutex::new(&class::SPACES, Vec::new()), current })
    }

    /// Makes this CPU translate through `space`, of which the running thread is a user. While that thread
    /// is taking the space down, through none.
    pub fn activate(&self, space: &Hold<Space<P>, P>) {
        if space.users() == 0 {
            return self.deactivate();
        }
        let mine = self.current.mine();
        let mut current = mine.lock();
        if let Some(old) = current.as_ref() {
            if old.is(space) {
                return;
            }
            old.pmap().deactivate(&self.mmu);
        }
        space.pmap().activate(&self.mmu);
        let left = current.replace(space.clone());
        drop(current);
        drop(mine);
        // Perhaps the last hold, with a file behind it: not under a lock.
        drop(left);
    }

    /// Makes this CPU translate through no space.
    pub fn deactivate(&self) {
        let mine = self.current.mine();
        let mut current = mine.lock();
        let left = current.take();
        if let Some(old) = &left {
            old.pmap().deactivate(&self.mmu);
        }
        drop(current);
        drop(mine);
        drop(left);
    }

    /// Makes this CPU give up the space that it translates through, if that space has ended.
    pub(crate) fn leave_ended(&self) {
        let ended = {
            let mine = self.current.mine();
            let current = mine.lock();
            current.as_ref().is_some_and(|space| space.users() == 0)
        };
        if ended {
            self.deactivate();
        }
    }

    /// A new, empty space with one user: the caller, who gives it up with [`Spaces::leave_space`].
    pub fn new_space(&self) -> Result<Hold<Space<P>, P>, NoMemory> {
        self.with_memory(|| Space::try_new(&self.store)).and_then(|space| self.enlist(space))
    }

    /// A copy of `space` with one user, as fork(2) makes it.
    pub fn fork_space(&self, space: &Space<P>) -> Result<Hold<Space<P>, P>, NoMemory> {
        self.with_memory(|| {
            // Known before it has anything: an object that shrinks must not miss it.
            let child = Space::try_new(&self.store).and_then(|child| self.enlist(child))?;
            match space.fork(&self.store, &child) {
                Ok(()) => Ok(child),
                Err(error) => {
                    self.leave_space(&child);
                    Err(error)
                }
            }
        })
    }

    fn enlist(&self, space: Hold<Space<P>, P>) -> Result<Hold<Space<P>, P>, NoMemory> {
        let mut list = self.list.lock();
        match try_reserve::<_, P>(&mut list, 1) {
            Ok(()) => {
                let at = list.partition_point(|other| other.id() < space.id());
                list.insert(at, space.clone());
                Ok(space)
            }
            Err(error) => {
                drop(list);
                self.tear_down(&space);
                Err(error)
            }
        }
    }

    /// Does `work`, once more after the caches of all CPUs were emptied if there was no memory.
    fn with_memory<T>(&self, work: impl Fn() -> Result<T, NoMemory>) -> Result<T, NoMemory> {
        work().or_else(|NoMemory| {
            self.mmu.squeeze();
            work()
        })
    }

    /// One user of `space` leaves. With the last one everything mapped in it goes. Sleeps where that was a
    /// file's last user.
    pub fn leave_space(&self, space: &Hold<Space<P>, P>) {
        if space.drop_user() == Left::Others {
            return;
        }
        self.list.lock().retain(|other| !other.is(space));
        self.tear_down(space);
    }

    fn tear_down(&self, space: &Hold<Space<P>, P>) {
        let here = {
            let mine = self.current.mine();
            let current = mine.lock();
            current.as_ref().is_some_and(|current| current.is(space))
        };
        if here {
            self.deactivate();
        }
        // A CPU that ran a thread of it last may still be translating through it.
        self.mmu.evict(space.pmap());
        space.destroy(&self.store);
    }

    /// The space of that number, unless it has ended.
    pub(super) fn find_space(&self, id: u64) -> Option<Hold<Space<P>, P>> {
        let list = self.list.lock();
        let at = list.binary_search_by_key(&id, |space| space.id()).ok()?;
        Some(list[at].clone())
    }

    /// Calls `f` with every space that has users.
    pub fn for_each_space(&self, mut f: impl FnMut(&Hold<Space<P>, P>)) {
        for space in self.list.lock().iter() {
            f(space);
        }
    }
}

impl<P: Platform> Deref for Spaces<P> {
    type Target = Store<P>;
    fn deref(&self) -> &Store<P> {
        &self.store
    }
}
