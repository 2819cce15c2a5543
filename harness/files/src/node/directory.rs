//! Directories in memory: names, in the order in which they came.
//!
//! Locks: its own, for one look or change; another's as well while something moves between the two. Whoever changes names
//!        has the volume's `changes` too, so nobody else locks two.
//! Owns:  the entries.
//!
//! Each entry has a cookie, larger than those before it, that it keeps: whoever lists a directory goes on after the last
//! cookie he saw, whatever has come or gone meanwhile. An index from hashes of names to cookies makes looking up quick.

use alloc::vec::Vec;
use core::panic::Location;

use hashbrown::HashTable;
use rumpvm::sync::mutex::MutexGuard;
use rumpvm::sync::{Mutex, try_reserve};
use rumpvm::{Hold, NoMemory};
use rumpvm_platform::{Platform, Scarce};

use super::Item;
use crate::class;
use crate::entry::Entry;

/// The names of a directory.
pub struct Directory<P: Platform> {
    names: Mutex<Names<P>, P>,
}

/// One place in the list; empty when the name has gone.
struct Place<P: Platform> {
    cookie: u64,
    entry: Option<Hold<Entry<P>, P>>,
}

#[derive(Clone, Copy)]
struct Indexed {
    hash: u64,
    cookie: u64,
}

pub(crate) struct Names<P: Platform> {
    /// By cookie.
    places: Vec<Place<P>>,
    index: HashTable<Indexed>,
    next: u64,
}

impl<P: Platform> Default for Directory<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Directory<P> {
    /// An empty one.
    pub fn new() -> Self {
        let names = Names { places: Vec::new(), index: HashTable::new(), next: 1 };
        Self { names: Mutex::new(&class::DIRECTORY, names) }
    }

    /// Names in it, `.` and `..` apart.
    pub fn len(&self) -> usize {
        self.names.lock().index.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of that name.
    pub fn get(&self, name: &[u8]) -> Option<Hold<Entry<P>, P>> {
        let names = self.names.lock();
        let at = names.find(name, hash(name))?;
        names.places[at].entry.clone()
    }

    /// Makes room for so many more, so that adding them cannot fail, whatever is removed before.
    pub(crate) fn reserve(&self, more: usize) -> Result<(), NoMemory> {
        let mut names = self.names.lock();
        let names = &mut *names;
        try_reserve::<_, P>(&mut names.places, more)?;
        if names.index.len() + more > names.index.capacity()
            && P::fails(Scarce::Heap, Location::caller())
        {
            return Err(NoMemory);
        }
        names.index.try_reserve(more, |indexed| indexed.hash).map_err(|_| NoMemory)
    }

    /// Adds `entry` under the name that it has, for which room was reserved.
    pub(crate) fn add(&self, entry: Hold<Entry<P>, P>) {
        self.names.lock().add(entry);
    }

    /// Takes the entry of that name out.
    pub(crate) fn remove(&self, name: &[u8]) -> Option<Hold<Entry<P>, P>> {
        self.names.lock().remove(name)
    }

    /// Calls `change` with the names of both, which may be one; whoever looks sees all of the change or nothing.
    pub(crate) fn change_both<T>(
        &self,
        other: &Self,
        change: impl FnOnce(&mut Pair<'_, P>) -> T,
    ) -> T {
        let first = self.names.lock();
        let second = (!core::ptr::eq(self, other)).then(|| other.names.lock());
        change(&mut Pair { first, second })
    }

    /// Any entry, taken out; for who ends a volume.
    pub(crate) fn pop(&self) -> Option<Hold<Entry<P>, P>> {
        let mut names = self.names.lock();
        loop {
            let place = names.places.pop();
            let Some(place) = place else {
                names.index.clear();
                return None;
            };
            if place.entry.is_some() {
                return place.entry;
            }
        }
    }

    /// Calls `each` with the entries behind `after`, in order, until it says false. `each` must not sleep long: the
    /// directory is locked.
    pub(crate) fn list(&self, after: u64, mut each: impl FnMut(Item<'_>) -> bool) {
        let names = self.names.lock();
        let from = names.places.partition_point(|place| place.cookie <= after);
        for place in &names.places[from..] {
            let Some(entry) = &place.entry else { continue };
            let node = entry.node();
            let goes_on = entry.with_name(|name| {
                let (number, file_type) = (node.number(), node.file_type());
                each(Item { cookie: place.cookie, number, file_type, name })
            });
            if !goes_on {
                break;
            }
        }
    }
}

impl<P: Platform> Directory<P> {
    /// Calls `f` with every entry; the directory is locked.
    pub(crate) fn for_each(&self, f: impl FnMut(&Hold<Entry<P>, P>)) {
        self.names.lock().places.iter().filter_map(|place| place.entry.as_ref()).for_each(f);
    }
}

/// The names of one directory or two, locked.
pub(crate) struct Pair<'d, P: Platform> {
    first: MutexGuard<'d, Names<P>, P>,
    second: Option<MutexGuard<'d, Names<P>, P>>,
}

impl<P: Platform> Pair<'_, P> {
    /// The first one's.
    pub(crate) fn first(&mut self) -> &mut Names<P> {
        &mut self.first
    }

    /// The second one's.
    pub(crate) fn second(&mut self) -> &mut Names<P> {
        self.second.as_mut().unwrap_or(&mut self.first)
    }
}

impl<P: Platform> Names<P> {
    /// As [`Directory::add`].
    pub(crate) fn add(&mut self, entry: Hold<Entry<P>, P>) {
        let hash = entry.with_name(hash);
        let cookie = self.next;
        self.next += 1;
        self.index.insert_unique(hash, Indexed { hash, cookie }, |indexed| indexed.hash);
        self.places.push(Place { cookie, entry: Some(entry) });
    }

    /// As [`Directory::remove`].
    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Hold<Entry<P>, P>> {
        let hash = hash(name);
        let at = self.find(name, hash)?;
        let cookie = self.places[at].cookie;
        let indexed = self.index.find_entry(hash, |indexed| indexed.cookie == cookie);
        if let Ok(indexed) = indexed {
            indexed.remove();
        }
        let entry = self.places[at].entry.take();
        // Empty places cost the next lister as much as full ones.
        if self.places.len() >= 2 * self.index.len() {
            self.places.retain(|place| place.entry.is_some());
        }
        entry
    }

    fn find(&self, name: &[u8], hash: u64) -> Option<usize> {
        let place = |cookie| self.places.binary_search_by_key(&cookie, |place| place.cookie).ok();
        let is_it = |indexed: &Indexed| {
            let entry = place(indexed.cookie).and_then(|at| self.places[at].entry.as_ref());
            indexed.hash == hash && entry.is_some_and(|entry| entry.with_name(|own| own == name))
        };
        self.index.find(hash, is_it).and_then(|indexed| place(indexed.cookie))
    }
}

/// FNV-1a with a last mixing step, since the table looks at the upper bits too.
fn hash(name: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash ^ (hash >> 29)
}
