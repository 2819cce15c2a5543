//! The strict TLB of one CPU: what it has walked once, it believes until told otherwise.
//!
//! Hardware may drop a translation at any time, and thereby hides most missing flushes; this one never
//! does. It forgets for the three reasons the manual guarantees (Intel SDM vol. 3A, 4.10.4): the CPU
//! leaves the space, software invalidates the range, or the page faults. It remembers the tables above
//! the pages too, as the paging-structure caches do (4.10.3), so that a page-table page freed or
//! replaced without a flush is found out as well.
//!
//! Flow:  walk -> `Translation` and `Table`s here -> every further access to the page.
//! Locks: the CPU's `tlb`; never held while a thread is switched or the component is called.
//! Owns:  the cached translations.

use rumpvm_arch::{Access, Format, Frame, Prot, Pte, VirtAddr, VirtRange, span};
use rustc_hash::FxHashMap;

use crate::freed::Generation;

/// Levels of tables below the root, in the deepest format.
const LOWER_LEVELS: usize = 4;

/// What a chain of entries lets user code do: the weakest of each right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rights {
    prot: Prot,
    user: bool,
}

/// A cached translation of one page.
#[derive(Clone, Copy)]
pub(crate) struct Translation {
    pub(crate) frame: Frame,
    pub(crate) rights: Rights,
    /// The entry's D bit has been set through this translation, or was set when it was made.
    pub(crate) dirty: bool,
    /// The frame's generation when the translation was made.
    pub(crate) generation: Generation,
    /// The CPU's clock when the translation was made.
    pub(crate) filled: u64,
}

/// A cached pointer to a table, with the rights of the entries above it.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) frame: Frame,
    pub(crate) rights: Rights,
    pub(crate) generation: Generation,
}

/// Whose accesses go through a TLB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mode {
    /// User code's, to its half.
    #[default]
    User,
    /// The kernel's, to its own half; it never touches what user code can (SMAP, SMEP).
    Kernel,
}

#[derive(Default)]
pub(crate) struct Tlb {
    pub(crate) mode: Mode,
    /// Accesses that this CPU has made.
    pub(crate) clock: u64,
    root: Option<Table>,
    pages: FxHashMap<u64, Translation>,
    /// Tables of level 1 and up, each by the region it serves.
    tables: [FxHashMap<u64, Table>; LOWER_LEVELS],
}

impl Rights {
    pub(crate) const ALL: Self = Self { prot: Prot::ALL, user: true };

    pub(crate) fn of<F: Format>(entry: Pte) -> Self {
        Self { prot: entry.prot::<F>(), user: entry.0 & Pte::U != 0 }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { prot: self.prot & other.prot, user: self.user && other.user }
    }

    #[inline]
    pub(crate) fn allow<F: Format>(self, access: Access, mode: Mode) -> bool {
        self.user == (mode == Mode::User) && self.prot.allows(access, F::HAS_NX)
    }

    /// Whether these rights allow something that `other` does not.
    pub(crate) fn exceed(self, other: Self) -> bool {
        self.and(other) != self
    }
}

impl Tlb {
    pub(crate) fn root(&self) -> Option<Table> {
        self.root
    }

    /// Translates through `root` from now on. Staying in a space forgets nothing.
    pub(crate) fn activate(&mut self, root: Option<Table>) {
        let name = |table: Table| (table.frame, table.generation);
        if self.root.map(name) == root.map(name) {
            return;
        }
        self.root = root;
        self.pages.clear();
        self.tables.iter_mut().for_each(FxHashMap::clear);
    }

    #[inline]
    pub(crate) fn page(&self, at: VirtAddr) -> Option<Translation> {
        self.pages.get(&at.page()).copied()
    }

    pub(crate) fn remember_page(&mut self, at: VirtAddr, translation: Translation) {
        self.pages.insert(at.page(), translation);
    }

    /// The lowest table known to serve `at`, with its level; the root if no other is known.
    pub(crate) fn nearest_table<F: Format>(&self, at: VirtAddr) -> Option<(usize, Table)> {
        (1..F::LEVELS)
            .find_map(|level| {
                let table = self.tables[level - 1].get(&region::<F>(level, at))?;
                Some((level, *table))
            })
            .or(self.root.map(|root| (F::LEVELS, root)))
    }

    pub(crate) fn remember_table<F: Format>(&mut self, level: usize, at: VirtAddr, table: Table) {
        self.tables[level - 1].insert(region::<F>(level, at), table);
    }

    /// Forgets what leads to `at`, as a page fault there does.
    pub(crate) fn forget<F: Format>(&mut self, at: VirtAddr) {
        self.pages.remove(&at.page());
        for level in 1..F::LEVELS {
            self.tables[level - 1].remove(&region::<F>(level, at));
        }
    }

    /// Forgets what leads into `range`.
    pub(crate) fn invalidate<F: Format>(&mut self, range: VirtRange) {
        if range.is_empty() {
            return;
        }
        let last = range.end - 1;
        drop_keys(&mut self.pages, range.start.page(), last.page());
        for level in 1..F::LEVELS {
            let (first, last) = (region::<F>(level, range.start), region::<F>(level, last));
            drop_keys(&mut self.tables[level - 1], first, last);
        }
    }

    pub(crate) fn pages(&self) -> impl Iterator<Item = (VirtAddr, Translation)> {
        self.pages.iter().map(|(page, translation)| (VirtAddr::of_page(*page), *translation))
    }

    /// Level, an address served, and the table itself.
    pub(crate) fn tables<F: Format>(&self) -> impl Iterator<Item = (usize, VirtAddr, Table)> {
        (1..F::LEVELS).flat_map(move |level| {
            let named = move |(region, table): (&u64, &Table)| {
                (level, VirtAddr(region * span::<F>(level + 1)), *table)
            };
            self.tables[level - 1].iter().map(named)
        })
    }
}

/// Number of the region that one table at `level` serves.
fn region<F: Format>(level: usize, at: VirtAddr) -> u64 {
    at.0 / span::<F>(level + 1)
}

/// Removes the keys `first..=last`, walking whichever is shorter, the range or the map.
fn drop_keys<V>(map: &mut FxHashMap<u64, V>, first: u64, last: u64) {
    if last - first < map.len() as u64 {
        for key in first..=last {
            map.remove(&key);
        }
    } else {
        map.retain(|key, _| *key < first || last < *key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::freed::Freed;
    use rumpvm_arch::{PAGE_SIZE, X86_64};

    fn filled() -> Tlb {
        let generation = Freed::new(1).unwrap().generation(0);
        let mut tlb = Tlb::default();
        for page in 0..1024 {
            let at = VirtAddr::of_page(page);
            let frame = Frame(1 + page as u32);
            let rights = Rights::ALL;
            tlb.remember_page(
                at,
                Translation { frame, rights, dirty: false, generation, filled: 0 },
            );
            tlb.remember_table::<X86_64>(1, at, Table { frame: Frame(9), rights, generation });
        }
        tlb
    }

    #[test]
    fn invalidating_a_range_forgets_it_and_the_tables_above_it_alone() {
        for length in [1, 5, 700] {
            let mut tlb = filled();
            let start = VirtAddr::of_page(3);
            tlb.invalidate::<X86_64>(VirtRange::new(start, start + length * PAGE_SIZE));

            assert_eq!(tlb.pages().count(), 1024 - length as usize);
            assert!(tlb.page(VirtAddr::of_page(2)).is_some());
            assert!(tlb.page(VirtAddr::of_page(3)).is_none());
            assert!(tlb.page(VirtAddr::of_page(3 + length)).is_some());
            let kept = if length > 512 { 0 } else { 1 };
            assert_eq!(tlb.tables::<X86_64>().count(), kept);
        }
    }

    #[test]
    fn rights_only_shrink_along_the_way() {
        let read = Rights::of::<X86_64>(Pte::page::<X86_64>(Frame(1), Prot::READ));
        let kernel = Rights::of::<X86_64>(Pte(Pte::P | Pte::W));
        assert_eq!(Rights::ALL.and(read), read);
        assert!(Rights::ALL.exceed(read) && !read.exceed(Rights::ALL));
        assert!(!kernel.allow::<X86_64>(Access::Read, Mode::User));
        assert!(kernel.allow::<X86_64>(Access::Read, Mode::Kernel));
        assert!(!read.allow::<X86_64>(Access::Read, Mode::Kernel));
        let may = |access| read.allow::<X86_64>(access, Mode::User);
        assert!(may(Access::Read) && !may(Access::Execute));
    }
}
