//! Who has private areas of an object: those spaces may have copies of its pages, which go when it shrinks.
//!
//! Shared mappings need no list: the reverse map of each page knows them. A private copy belongs to an address
//! of a space, so the space has to be found; this list has the numbers of their maps, with how many areas each
//! has. It holds nothing of them: whoever shrinks the object looks the space up, and one that has ended meanwhile
//! has nothing left that could be seen.
//!
//! Locks: its own sleep lock, for a search and a shift of a few words.
//! Sleep: for that lock only.

use alloc::vec::Vec;

use rumpvm_platform::Platform;

use crate::NoMemory;
use crate::sync::{Mutex, class, try_reserve};

/// The maps with private areas of one object.
pub(crate) struct Mappers<P: Platform> {
    /// In order of number. A child's number is larger than its parent's, so a walk in this order that has met
    /// the parent after a fork began also meets the child.
    list: Mutex<Vec<Mapper>, P>,
}

struct Mapper {
    map: u64,
    areas: u64,
}

impl<P: Platform> Mappers<P> {
    pub(super) fn new() -> Self {
        Self { list: Mutex::new(&class::MAPPERS, Vec::new()) }
    }

    /// One private area more in `map`. On error nothing has changed.
    pub(crate) fn add(&self, map: u64) -> Result<(), NoMemory> {
        let mut list = self.list.lock();
        match list.binary_search_by_key(&map, |mapper| mapper.map) {
            Ok(at) => list[at].areas += 1,
            Err(at) => {
                try_reserve::<_, P>(&mut list, 1)?;
                list.insert(at, Mapper { map, areas: 1 });
            }
        }
        Ok(())
    }

    /// One private area less in `map`, which has one.
    pub(crate) fn remove(&self, map: u64) {
        let mut list = self.list.lock();
        if let Ok(at) = list.binary_search_by_key(&map, |mapper| mapper.map) {
            list[at].areas -= 1;
            if list[at].areas == 0 {
                list.remove(at);
            }
        }
    }

    /// The first map whose number is larger than `map`.
    pub(crate) fn after(&self, map: u64) -> Option<u64> {
        let list = self.list.lock();
        list.get(list.partition_point(|mapper| mapper.map <= map)).map(|mapper| mapper.map)
    }

    /// Private areas in `map`. For checks.
    pub(crate) fn areas(&self, map: u64) -> u64 {
        let list = self.list.lock();
        let found = list.binary_search_by_key(&map, |mapper| mapper.map);
        found.map_or(0, |at| list[at].areas)
    }

    /// Private areas in all maps. For checks.
    pub(crate) fn total(&self) -> u64 {
        self.list.lock().iter().map(|mapper| mapper.areas).sum()
    }
}
