//! What is mapped where, in one pmap.

use rumpvm_arch::{Format, Frame, PAGE_SIZE, Prot, Pte, VirtAddr, VirtRange, span};
use rumpvm_platform::Platform;

use super::{Pmap, Pmaps};
use crate::NoMemory;
use crate::pmap::Debt;
use crate::stats::Event;

/// Whether the host relies on a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wiring {
    /// It may be dropped.
    Unwired,
    /// It stays until the host takes it away.
    Wired,
}

/// Why a mapping was not entered. What was there before is there still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PmapError {
    /// The address is no page of user memory, the frame is none that an entry can name, or there are no rights.
    Invalid,
    /// No memory for a table, or for the list of a frame's mappings.
    NoMemory,
}

impl From<NoMemory> for PmapError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// What is mapped at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extracted {
    /// The frame.
    pub frame: Frame,
    /// Its rights there. On x86 what may be stored to may be loaded; without NX bits what may be loaded may be executed.
    pub prot: Prot,
    /// Whether the host relies on it.
    pub wiring: Wiring,
}

impl Wiring {
    fn bits(self) -> u64 {
        if self == Self::Wired { Pte::WIRED } else { 0 }
    }
}

impl<P: Platform> Pmaps<P> {
    /// Maps `frame` at `at` with exactly `prot`, in place of what is mapped there: pmap_enter. A frame that was added is the
    /// host's, and keeps its reverse map; any other is a device's, and is mapped as it is.
    pub fn enter(
        &self,
        pmap: &Pmap<P>,
        at: VirtAddr,
        frame: Frame,
        prot: Prot,
        wiring: Wiring,
    ) -> Result<(), PmapError> {
        let known = !self.phys.has(frame) || self.phys.host_page(frame).is_some();
        let is_named = u64::from(frame.0) < P::Format::FRAME_END;
        if !Self::is_user_page(at) || prot.is_empty() || !known || !is_named {
            return Err(PmapError::Invalid);
        }
        let mut debt = Debt::new();
        let pin = self.phys.epoch.pin();
        let entered = pmap
            .tables
            .own_leaf(self, &pin, at)
            .and_then(|mut leaf| leaf.replace(at, frame, prot, wiring.bits(), &mut debt));
        if entered.is_err() {
            // Tables that were made in vain.
            pmap.tables.free_empty(self, at, 1, &mut debt);
        }
        drop(pin);
        debt.pay(self, &pmap.tables);
        self.phys.counters.count(Event::PmapEnter);
        Ok(entered?)
    }

    /// Unmaps every page of `range`, wired or not: pmap_remove. Frames stay the host's. Cannot fail.
    pub fn remove(&self, pmap: &Pmap<P>, range: VirtRange) {
        self.change(pmap, range, |cursor, debt| cursor.remove(debt));
    }

    /// Leaves no more than `prot` of the rights in `range`: pmap_protect. With none it is [`Pmaps::remove`]. Cannot fail.
    pub fn protect(&self, pmap: &Pmap<P>, range: VirtRange, prot: Prot) {
        self.change(pmap, range, |cursor, debt| cursor.protect(prot, debt));
    }

    /// Drops what is not wired, and the tables that this empties: pmap_collect. For when memory is short.
    pub fn collect(&self, pmap: &Pmap<P>) {
        let everything = VirtRange::new(VirtAddr(0), P::Format::USER_END);
        self.change(pmap, everything, |cursor, debt| cursor.collect(debt));
        // Tables are free when no reader can be looking at them.
        for _ in 0..3 {
            self.phys.epoch.advance();
        }
        self.phys.collect();
    }

    fn change(
        &self,
        pmap: &Pmap<P>,
        range: VirtRange,
        work: impl FnOnce(crate::pmap::Cursor<'_, P>, &mut Debt<P>),
    ) {
        let end = VirtRange::new(VirtAddr(0), P::Format::USER_END);
        let mut debt = Debt::new();
        let pin = self.phys.epoch.pin();
        work(pmap.tables.cursor(self, &pin, range.clip(end)), &mut debt);
        drop(pin);
        debt.pay(self, &pmap.tables);
    }

    /// What is mapped at `at`, as of some moment during the call: pmap_extract. From anywhere; takes no lock.
    pub fn extract(&self, pmap: &Pmap<P>, at: VirtAddr) -> Option<Extracted> {
        if at >= P::Format::USER_END {
            return None;
        }
        let pin = self.phys.epoch.pin();
        let entry = pmap.tables.query(self, &pin, at)?;
        let wiring = if entry.0 & Pte::WIRED == 0 { Wiring::Unwired } else { Wiring::Wired };
        Some(Extracted { frame: entry.frame(), prot: entry.prot::<P::Format>(), wiring })
    }

    /// Says whether the host relies on what is mapped at `at`: pmap_change_wiring. False if there is nothing.
    pub fn change_wiring(&self, pmap: &Pmap<P>, at: VirtAddr, wiring: Wiring) -> bool {
        if at >= P::Format::USER_END {
            return false;
        }
        let pin = self.phys.epoch.pin();
        let leaf = pmap.tables.find_leaf_seldom(self, &pin, at);
        leaf.is_some_and(|mut leaf| leaf.set_software(at, Pte::WIRED, wiring.bits()))
    }

    /// Pages mapped: pmap_resident_count. Takes no lock.
    pub fn resident(&self, pmap: &Pmap<P>) -> u64 {
        pmap.tables.resident(self, &self.phys.epoch.pin())
    }

    /// Maps at `at` and behind it in `to` what `range` of `from` maps, unwired and not yet used, where `to` has nothing:
    /// pmap_copy, which saves faults after a fork. It is advice: wired mappings and devices' are left out, and so is what
    /// memory does not suffice for. Returns the number of pages. Nothing if both are the same pmap.
    pub fn copy(&self, to: &Pmap<P>, at: VirtAddr, from: &Pmap<P>, range: VirtRange) -> u64 {
        let target = VirtRange::of_length(at, range.length());
        let fits = |range: VirtRange| {
            range.start.is_page_aligned()
                && range.end.is_page_aligned()
                && range.end <= P::Format::USER_END
        };
        if to.tables.id() == from.tables.id() || !fits(range) || !target.is_some_and(fits) {
            return 0;
        }
        let step = span::<P::Format>(2);
        let left = |at: VirtAddr| step - (at.0 & (step - 1));
        let (mut done, mut copied) = (0, 0);
        while done < range.length() {
            let (source, target) = (range.start + done, at + done);
            let bytes = left(source).min(left(target)).min(range.length() - done);
            copied += self.copy_below((to, target), (from, source), bytes / PAGE_SIZE);
            done += bytes;
        }
        copied
    }

    /// As [`Pmaps::copy`], of pages that one leaf table serves on each side.
    fn copy_below(
        &self,
        (to, target): (&Pmap<P>, VirtAddr),
        (from, source): (&Pmap<P>, VirtAddr),
        pages: u64,
    ) -> u64 {
        let pin = self.phys.epoch.pin();
        let find = |pmap: &Pmap<P>, at| pmap.tables.table_at(self, at, 1).is_some();
        if !find(from, source) || to.tables.make_tables(self, target, 1).is_err() {
            return 0;
        }
        let mut debt = Debt::new();
        let mut copied = 0;
        // Two tables of one level: in the order of their pmaps, as nobody else ever holds two.
        let (reader, writer) = if from.tables.id() < to.tables.id() {
            let reader = from.tables.find_leaf_seldom(self, &pin, source);
            (reader, to.tables.find_leaf_seldom(self, &pin, target))
        } else {
            let writer = to.tables.find_leaf_seldom(self, &pin, target);
            (from.tables.find_leaf_seldom(self, &pin, source), writer)
        };
        if let (Some(reader), Some(mut writer)) = (reader, writer) {
            for page in 0..pages {
                let (from, to) = (source + page * PAGE_SIZE, target + page * PAGE_SIZE);
                let entry = reader.get(from);
                let is_plain = entry.is_present() && entry.0 & Pte::WIRED == 0;
                if !is_plain || !self.phys.has(entry.frame()) || writer.get(to).is_present() {
                    continue;
                }
                let prot = entry.prot::<P::Format>();
                if writer.replace(to, entry.frame(), prot, 0, &mut debt).is_err() {
                    break;
                }
                copied += 1;
            }
        }
        if copied == 0 {
            to.tables.free_empty(self, target, 1, &mut debt);
        }
        drop(pin);
        debt.pay(self, &to.tables);
        copied
    }
}
