//! The depot: batches of items on their way from one CPU's magazine to another's.
//!
//! Locks: the zone's.
//! Owns:  blocks of 2 KiB, which hold a batch each; they are items of slabs of their own.

use rumpvm_arch::PhysAddr;
use rumpvm_platform::Platform;

use super::slab::{Plan, Slabs, word};
use crate::phys::Phys;

/// Bytes of a block. Where two CPUs allocate at once, what they pay is the lock: it costs some thousand cycles when the other one
/// had it last, once for each batch.
const BLOCK: u32 = 2048;
/// What says that a slab has blocks, not items.
const LABEL: u16 = u16::MAX - 1;
/// Words of a block that are no items: next block, number of items.
const HEADER: usize = 2;
/// Most items of a batch.
pub(crate) const MAX_BATCH: usize = BLOCK as usize / 8 - HEADER;

/// A batch in nobody's hands but the caller's.
pub(super) struct Batch {
    items: [u64; MAX_BATCH],
    len: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { items: [0; MAX_BATCH], len: 0 }
    }

    /// Adds an item; there must be room.
    pub(super) fn push(&mut self, item: u64) {
        self.items[self.len] = item;
        self.len += 1;
    }

    pub(super) fn items(&self) -> &[u64] {
        &self.items[..self.len]
    }
}

/// Batches, behind the zone's lock.
pub(super) struct Depot {
    blocks: Slabs,
    /// Address of the first block, or zero.
    first: u64,
    batches: u32,
    items: u64,
}

impl Depot {
    pub(super) fn new(owner: u64) -> Self {
        let blocks = Slabs::new(Plan::new(BLOCK, 0, LABEL, owner));
        Self { blocks, first: 0, batches: 0, items: 0 }
    }

    pub(super) fn batches(&self) -> u32 {
        self.batches
    }

    pub(super) fn items(&self) -> u64 {
        self.items
    }

    /// Frames that hold blocks.
    pub(super) fn frames(&self) -> u64 {
        self.blocks.frames()
    }

    /// Puts a batch in. Whether there was memory for its block.
    pub(super) fn push<P: Platform>(&mut self, phys: &Phys<P>, batch: &Batch) -> bool {
        let Some(block) = self.block(phys) else { return false };
        word(phys, block).set(self.first);
        word(phys, PhysAddr(block.0 + 8)).set(batch.len as u64);
        for (at, item) in batch.items().iter().enumerate() {
            word(phys, PhysAddr(block.0 + (HEADER + at) as u64 * 8)).set(*item);
        }
        self.first = block.0;
        self.batches += 1;
        self.items += batch.len as u64;
        true
    }

    /// Takes a batch out, in the place of what was in `batch`. Whether there was one.
    #[inline(never)]
    pub(super) fn pop<P: Platform>(&mut self, phys: &Phys<P>, batch: &mut Batch) -> bool {
        batch.len = 0;
        if self.first == 0 {
            return false;
        }
        let block = PhysAddr(self.first);
        self.first = word(phys, block).get();
        let len = word(phys, PhysAddr(block.0 + 8)).get() as usize;
        for at in 0..len.min(MAX_BATCH) {
            batch.push(word(phys, PhysAddr(block.0 + (HEADER + at) as u64 * 8)).get());
        }
        self.batches -= 1;
        self.items -= batch.len as u64;
        self.blocks.put(phys, block);
        true
    }

    /// Gives back frames without a batch in them. They go to this CPU's magazine of frames, so that may be done with the
    /// lock held.
    pub(super) fn trim<P: Platform>(&mut self, phys: &Phys<P>) {
        while let Some(slab) = self.blocks.take_empty(phys, u32::from(self.batches > 0)) {
            slab.free(phys);
        }
    }

    pub(super) fn check<P: Platform>(&self, phys: &Phys<P>) -> Result<(), &'static str> {
        if self.blocks.out() != u64::from(self.batches) {
            return Err("Z1: the depot has blocks without a batch");
        }
        self.blocks.check(phys)
    }

    fn block<P: Platform>(&mut self, phys: &Phys<P>) -> Option<PhysAddr> {
        if let Some(block) = self.blocks.take(phys) {
            return Some(block);
        }
        let slab = self.blocks.plan().make_at_hand(phys).ok()?;
        self.blocks.add(phys, slab);
        self.blocks.take(phys)
    }
}
