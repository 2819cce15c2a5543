//! The page walk: from an address to a frame through the real tables, as the CPU does it.
//!
//! Flow:  nearest cached table, else the root -> entries, top down -> `Translation`, cached on the way.
//! Locks: the walker's TLB is locked by the caller. The tables are not: the walker races with whoever
//!        changes them, and settles it entry by entry with compare-exchange.
//! Owns:  nothing.
//!
//! W1. A and D are set only in an entry that is still what was read; a cleared entry stays clear.
//! W2. A frame's generation is taken while the entry is known to name the frame, so a free after the
//!     walk makes the translation stale, and a free before it does not.
//! W3. Rights count from every level, and nothing is marked used on an access that is refused here.
//!     (Intel SDM vol. 3A, 4.6 and 4.8.)

use rumpvm_arch::{Access, Format, Frame, Pte, VirtAddr, entries, index, span};

use crate::arena::{Arena, Entry};
use crate::freed::{Freed, Generation};
use crate::tlb::{Mode, Rights, Table, Tlb, Translation};

/// Memory as the page walker sees it.
#[derive(Clone, Copy)]
pub(crate) struct Walker<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) freed: &'a Freed,
}

/// Why a walk gave no translation.
#[derive(Debug)]
pub(crate) enum Refused {
    /// An entry on the way is absent: a page fault.
    Absent,
    /// Some level denies the access: a page fault.
    Denied,
    /// The tables or the TLB are broken: the machine stops with this story.
    Broken(String),
}

/// What a walk that changes nothing finds.
pub(crate) struct Glimpse {
    pub(crate) entry: Pte,
    pub(crate) rights: Rights,
}

impl Walker<'_> {
    /// A root to activate. It must be a frame of the arena.
    pub(crate) fn root(&self, frame: Frame) -> Table {
        let generation = self.generation(frame).expect("the root of a page table is in memory");
        Table { frame, rights: Rights::ALL, generation }
    }

    /// The frame's generation now; `None` outside of the arena.
    pub(crate) fn generation(&self, frame: Frame) -> Option<Generation> {
        Some(self.freed.generation(self.arena.position(frame)?))
    }

    /// Walks for `access` at `at`, marks what is used, and caches what is found.
    pub(crate) fn fill<F: Format>(
        &self,
        tlb: &mut Tlb,
        at: VirtAddr,
        access: Access,
    ) -> Result<Translation, Refused> {
        if tlb.mode == Mode::User && at.0 >= span::<F>(F::LEVELS + 1) {
            return Err(Refused::Absent);
        }
        let (mut level, mut table) = tlb.nearest_table::<F>(at).ok_or(Refused::Absent)?;
        while level > 1 {
            table = self.descend::<F>(level, table, at)?;
            level -= 1;
            tlb.remember_table::<F>(level, at, table);
        }
        let translation = self.leaf::<F>(table, at, access, (tlb.mode, tlb.clock))?;
        tlb.remember_page(at, translation);
        Ok(translation)
    }

    /// From `table` at `level` to the table below that serves `at`.
    fn descend<F: Format>(
        &self,
        level: usize,
        table: Table,
        at: VirtAddr,
    ) -> Result<Table, Refused> {
        let entry = self.entry::<F>(level, table, at)?;
        // The four root entries of PAE are loaded like registers: they have neither rights nor A.
        let is_plain = level < F::LEVELS || F::ROOT_HAS_RIGHTS;
        let mark = if is_plain { Pte::A } else { 0 };
        loop {
            let seen = entry.load();
            if !seen.is_present() {
                return Err(Refused::Absent);
            }
            let generation = self.named_by(level, seen, at)?;
            if confirm(&entry, seen, mark) {
                let own = if is_plain { Rights::of::<F>(seen) } else { Rights::ALL };
                let rights = table.rights.and(own);
                return Ok(Table { frame: seen.frame(), rights, generation });
            }
        }
    }

    /// From the leaf table to the page.
    fn leaf<F: Format>(
        &self,
        table: Table,
        at: VirtAddr,
        access: Access,
        (mode, clock): (Mode, u64),
    ) -> Result<Translation, Refused> {
        let entry = self.entry::<F>(1, table, at)?;
        let mark = if access == Access::Write { Pte::A | Pte::D } else { Pte::A };
        loop {
            let seen = entry.load();
            if !seen.is_present() {
                return Err(Refused::Absent);
            }
            let rights = table.rights.and(Rights::of::<F>(seen));
            if !rights.allow::<F>(access, mode) {
                return Err(Refused::Denied);
            }
            let generation = self.named_by(1, seen, at)?;
            if confirm(&entry, seen, mark) {
                let dirty = seen.with(mark).is_dirty();
                return Ok(Translation {
                    frame: seen.frame(),
                    rights,
                    dirty,
                    generation,
                    filled: clock,
                });
            }
        }
    }

    /// The entry of `table` that serves `at`, unless the table has been freed under the walker.
    fn entry<F: Format>(
        &self,
        level: usize,
        table: Table,
        at: VirtAddr,
    ) -> Result<Entry<'_>, Refused> {
        let now = self.generation(table.frame);
        if now != Some(table.generation) {
            return Err(Refused::Broken(format!(
                "the walk for {at} still uses the level-{level} page table in {:?}, which has been \
                 freed since: was {}, now {}",
                table.frame,
                table.generation,
                now.map_or_else(|| "outside of memory".into(), |now| now.to_string()),
            )));
        }
        Ok(self.arena.entry::<F>(table.frame, index::<F>(level, at)))
    }

    /// Generation of the frame that `seen` names.
    fn named_by(&self, level: usize, seen: Pte, at: VirtAddr) -> Result<Generation, Refused> {
        self.generation(seen.frame()).ok_or_else(|| {
            Refused::Broken(format!("the level-{level} entry for {at} is {seen:?}: no such memory"))
        })
    }

    /// Walks from `root` down to the entry at `level` that serves `at`, and changes nothing. `None` if
    /// an entry above it is absent or leads out of memory.
    pub(crate) fn peek<F: Format>(
        &self,
        root: Frame,
        level: usize,
        at: VirtAddr,
    ) -> Option<Glimpse> {
        self.peek_below::<F>((root, F::LEVELS), level, at)
    }

    /// As [`Walker::peek`], from a table at some level.
    pub(crate) fn peek_below<F: Format>(
        &self,
        (mut table, top): (Frame, usize),
        level: usize,
        at: VirtAddr,
    ) -> Option<Glimpse> {
        let mut rights = Rights::ALL;
        for above in (level..=top).rev() {
            self.arena.position(table)?;
            debug_assert!(index::<F>(above, at) < entries::<F>(above));
            let entry = self.arena.entry::<F>(table, index::<F>(above, at)).load();
            if above < F::LEVELS || F::ROOT_HAS_RIGHTS {
                rights = rights.and(Rights::of::<F>(entry));
            }
            if above == level {
                return Some(Glimpse { entry, rights });
            }
            if !entry.is_present() {
                return None;
            }
            table = entry.frame();
        }
        None
    }
}

/// Sets `mark` in an entry if it is still `seen`, and says whether it was (W1, W2).
fn confirm(entry: &Entry<'_>, seen: Pte, mark: u64) -> bool {
    let wanted = seen.with(mark);
    if wanted == seen { entry.load() == seen } else { entry.exchange(seen, wanted) }
}
