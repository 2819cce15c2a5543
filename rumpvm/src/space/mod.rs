//! Spaces: a map and those who use it. Stage one ends with the last user, stage two with the last hold.
//!
//! A process is a user; so is whoever reaches into a space that is not its own, and gets in only while
//! there is a user ([`Space::try_enter`]): the teardown that begins when the last one leaves is never
//! overtaken (invariant 8 of DESIGN).

mod all;
mod calls;
mod process_madvise;
mod resize;

use core::ops::Deref;

use rumpvm_platform::Platform;

pub use all::Spaces;
pub use process_madvise::Advised;
pub use resize::BeyondEnd;

use crate::NoMemory;
use crate::map::{Map, Store};
use crate::sync::{Hold, Left, Uses, Vacant};

/// The address space of one or more processes.
pub struct Space<P: Platform> {
    map: Map<P>,
    users: Uses<P>,
}

impl<P: Platform> Space<P> {
    /// An empty space with one user.
    pub(crate) fn try_new(store: &Store<P>) -> Result<Hold<Self, P>, NoMemory> {
        // The record first, so that a map is never lost for want of it.
        let vacant = Vacant::try_new()?;
        let map = Map::try_new(&store.mmu)?;
        Ok(vacant.fill(Self { map, users: Uses::one() }))
    }

    /// Makes `child` a copy of this space; see `Map::fork`.
    pub(crate) fn fork(&self, store: &Store<P>, child: &Self) -> Result<(), NoMemory> {
        self.map.fork(store, &child.map)
    }

    /// Number that names this space in its machine.
    pub fn id(&self) -> u64 {
        self.map.pmap.id()
    }

    /// Those who use it. 0 once its teardown has begun.
    pub fn users(&self) -> u64 {
        self.users.count()
    }

    /// Becomes a user if there is one still. Balanced by [`Spaces::leave_space`].
    pub fn try_enter(&self) -> bool {
        self.users.try_add()
    }

    /// One user less.
    pub(crate) fn drop_user(&self) -> Left {
        self.users.leave()
    }
}

impl<P: Platform> Deref for Space<P> {
    type Target = Map<P>;
    fn deref(&self) -> &Map<P> {
        &self.map
    }
}
