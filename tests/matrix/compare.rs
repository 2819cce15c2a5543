//! Everything a program can see of its memory, in the component and in the model.
//!
//! Flow:  areas and counters -> what is in memory -> invariants -> loads, fetches, stores, loads of every
//!        page -> invariants again, with everything mapped that can be.
//!
//! The second half changes memory, in both alike, so it comes last in a cell.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use rumpvm::AreaFlags;
use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr};

use super::alignments::{AROUND, Span};
use super::pair::{Pair, Running, Verdict, agree};

/// Areas of at most so many pages are looked at as a whole, larger ones near their ends and edges.
const WHOLE: u64 = 40;
/// Pages of a leaf table.
const LEAF: u64 = 512;

/// One area: its first page and the one behind the last, its rights, the rest, and the page of which object.
type Seen = (u64, u64, Prot, AreaFlags, Option<(u64, u64)>);

impl<F: Format> Pair<'_, F> {
    pub(crate) fn compare(&mut self) -> Verdict {
        let mut names = BTreeMap::new();
        for process in &self.processes {
            self.compare_areas(process, &mut names)?;
        }
        for process in 0..self.processes.len() {
            self.now = process;
            self.compare_resident()?;
        }
        self.machine.try_check().map_err(|broken| format!("check, at once: {broken}"))?;
        let pages: Vec<Vec<VirtAddr>> = self.processes.iter().map(interesting).collect();
        let whole = PAGE_SIZE as usize;
        self.each(&pages, |pair, at| pair.load_bytes(at, whole, false))?;
        self.each(&pages, |pair, at| pair.fetch(word(at)))?;
        self.each(&pages, |pair, at| pair.store(word(at)))?;
        self.each(&pages, |pair, at| pair.load_bytes(at, whole, false))?;
        self.machine.try_check().map_err(|broken| format!("check, all mapped: {broken}"))
    }

    fn each(
        &mut self,
        pages: &[Vec<VirtAddr>],
        mut act: impl FnMut(&mut Self, VirtAddr) -> Verdict,
    ) -> Verdict {
        for (process, pages) in pages.iter().enumerate() {
            self.now = process;
            pages.iter().try_for_each(|&at| {
                act(self, at).map_err(|story| format!("afterwards, process {process}: {story}"))
            })?;
        }
        Ok(())
    }

    /// `names` remembers which object of the component is which one of the model.
    fn compare_areas(&self, process: &Running<F>, names: &mut BTreeMap<u64, usize>) -> Verdict {
        let Running { space, memory, .. } = process;
        let mut seen: Vec<Seen> = vec![];
        let mut objects = vec![];
        let _: ControlFlow<()> = space.areas(self.vm(), |area| {
            let object = area.object.as_ref().map(|object| (object.id(), area.offset / PAGE_SIZE));
            let (first, end) = (area.range.start.page(), area.range.end.page());
            seen.push((first, end, area.prot, area.flags, object));
            ControlFlow::Continue(())
        });
        let mut expected: Vec<Seen> = vec![];
        for ((first, end), page) in memory.areas() {
            let object = page.object.map(|(object, index)| (object as u64, index as u64));
            objects.push(page.object);
            expected.push((first, end, page.prot, page.flags, object));
        }
        // In the model's names.
        for (area, object) in seen.iter_mut().zip(objects) {
            if let (Some((id, _)), Some((name, _))) = (&mut area.4, object) {
                *id = *names.entry(*id).or_insert(name) as u64;
            }
        }
        agree("areas", seen, expected)?;
        let distinct: BTreeSet<&usize> = names.values().collect();
        agree("number of objects", names.len(), distinct.len())?;
        let mapped = memory.pages.len() as u64 * PAGE_SIZE;
        agree("bytes mapped", space.mapped_bytes(), mapped)?;
        agree("bytes locked", space.locked_bytes(), memory.locked())?;
        // An end that nothing can be moved to: the call only tells.
        agree("end of the heap", space.brk(self.vm(), VirtAddr(0)), memory.heap.1)
    }

    fn compare_resident(&mut self) -> Verdict {
        let areas: Vec<_> =
            self.processes[self.now].memory.areas().iter().map(|(pages, _)| *pages).collect();
        areas.into_iter().try_for_each(|(first, end)| {
            let length = (end - first) * PAGE_SIZE;
            let story = |story| format!("area at page {first:#x}: {story}");
            self.mincore(Span { at: VirtAddr::of_page(first), length }).map_err(story)
        })
    }
}

fn word(at: VirtAddr) -> Span {
    Span { at: at + 64, length: 16 }
}

/// Where a flaw would show: all around the templates, and at the ends and edges of large areas.
fn interesting<F: Format>(process: &Running<F>) -> Vec<VirtAddr> {
    let mut pages: BTreeSet<u64> = (AROUND.0.page()..AROUND.1.page()).collect();
    for ((first, end), _) in process.memory.areas() {
        if end - first <= WHOLE {
            pages.extend(first..end);
            continue;
        }
        let edges = (first.next_multiple_of(LEAF)..end).step_by(LEAF as usize);
        let near = edges.flat_map(|edge| [edge - 1, edge]);
        pages.extend([first, first + 1, end - 2, end - 1].into_iter().chain(near));
    }
    pages.into_iter().map(VirtAddr::of_page).collect()
}
