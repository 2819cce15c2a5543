//! Names of what is mapped, for `/proc/PID/maps`: an object does not know which file it belongs to.
//!
//! Locks: a sleep lock, for a search.
//! Owns:  the names of objects that were mapped. Those of objects that have ended are thrown away when there are many.

use alloc::vec::Vec;

use rumpvm::Hold;
use rumpvm::sync::{Mutex, try_reserve};
use rumpvm_bare::Bare;
use rumpvm_files::{Entry, Name};
use spin::Once;

use super::class;
use super::system::system;

/// What is known of a file that was mapped.
#[derive(Clone)]
pub(crate) struct Named {
    object: u64,
    pub(crate) device: u64,
    pub(crate) node: u64,
    pub(crate) path: Name,
}

/// By number of the object.
struct Names {
    list: Vec<Named>,
    /// When there are so many, those that have ended go.
    many: usize,
}

fn names() -> &'static Mutex<Names, Bare> {
    static NAMES: Once<Mutex<Names, Bare>> = Once::new();
    NAMES.call_once(|| Mutex::new(&class::NAMES, Names { list: Vec::new(), many: 256 }))
}

/// The object of `entry` is mapped. Without memory it stays without a name.
pub(crate) fn note(entry: &Hold<Entry<Bare>, Bare>) {
    let Some(regular) = entry.node().regular() else { return };
    let object = regular.object().id();
    let is_known = |names: &Names| names.list.binary_search_by_key(&object, |named| named.object);
    if is_known(&names().lock()).is_ok() {
        return;
    }
    let Ok(path) = system().path_of(entry) else { return };
    let node = entry.node();
    let named = Named { object, device: node.volume().device(), node: node.number(), path };
    let mut names = names().lock();
    if names.list.len() >= names.many {
        names.throw_away_ended();
    }
    if let Err(at) = is_known(&names)
        && try_reserve::<_, Bare>(&mut names.list, 1).is_ok()
    {
        names.list.insert(at, named);
    }
}

/// What is known of the object of that number.
pub(crate) fn find(object: u64) -> Option<Named> {
    let names = names().lock();
    let at = names.list.binary_search_by_key(&object, |named| named.object).ok()?;
    let named = &names.list[at];
    let path = Name::try_new::<Bare>(&named.path).ok()?;
    Some(Named { path, ..*named })
}

impl Names {
    fn throw_away_ended(&mut self) {
        let mut alive = Vec::new();
        system().kernel.vm.objects.for_each(|object| {
            if alive.try_reserve(1).is_ok() {
                alive.push(object.id());
            }
        });
        alive.sort_unstable();
        self.list.retain(|named| alive.binary_search(&named.object).is_ok());
        self.many = (2 * self.list.len()).max(256);
    }
}
