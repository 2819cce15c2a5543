//! Hand-built page tables for the tests: the component's side of the bargain, in twenty lines.

use rumpvm_arch::{Format, Frame, Prot, Pte, VirtAddr, index};

use crate::Hosted;
use crate::arena::Entry;

/// A page table in the arena of a machine, and the next frame that nobody uses.
pub(crate) struct Tables<F: Format> {
    hosted: Hosted<F>,
    pub(crate) root: Frame,
    next: u32,
}

impl<F: Format> Tables<F> {
    pub(crate) fn new(hosted: &Hosted<F>) -> Self {
        let root = hosted.memory().0.frame();
        Self { hosted: hosted.clone(), root, next: root.0 + 1 }
    }

    pub(crate) fn frame(&mut self) -> Frame {
        self.next += 1;
        Frame(self.next - 1)
    }

    /// Maps the page of `at` to `frame`; `writable` is for the tables above.
    pub(crate) fn map(&mut self, at: VirtAddr, frame: Frame, prot: Prot, writable: bool) {
        let mut table = self.root;
        for level in (2..=F::LEVELS).rev() {
            let entry = self.at_level(table, level, at);
            if !entry.is_present() {
                let below = self.frame();
                self.set(table, level, at, Pte::table::<F>(level, below, writable));
            }
            table = self.at_level(table, level, at).frame();
        }
        self.set(table, 1, at, Pte::page::<F>(frame, prot));
    }

    /// Maps a fresh frame and returns it.
    pub(crate) fn map_new(&mut self, at: VirtAddr, prot: Prot) -> Frame {
        let frame = self.frame();
        self.map(at, frame, prot, true);
        frame
    }

    /// The table at `level` that serves `at`.
    pub(crate) fn table(&self, level: usize, at: VirtAddr) -> Frame {
        (level + 1..=F::LEVELS)
            .rev()
            .fold(self.root, |table, above| self.at_level(table, above, at).frame())
    }

    pub(crate) fn leaf(&self, at: VirtAddr) -> Pte {
        self.at_level(self.table(1, at), 1, at)
    }

    pub(crate) fn set_leaf(&self, at: VirtAddr, entry: Pte) {
        self.set(self.table(1, at), 1, at, entry);
    }

    pub(crate) fn at_level(&self, table: Frame, level: usize, at: VirtAddr) -> Pte {
        self.entry(table, level, at).load()
    }

    pub(crate) fn set(&self, table: Frame, level: usize, at: VirtAddr, entry: Pte) {
        let place = self.entry(table, level, at);
        while !place.exchange(place.load(), entry) {}
    }

    fn entry(&self, table: Frame, level: usize, at: VirtAddr) -> Entry<'_> {
        self.hosted.machine().hardware.arena.entry::<F>(table, index::<F>(level, at))
    }
}
