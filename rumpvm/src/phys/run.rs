//! Runs: many frames in a row, straight from the buddy, for superpages and devices.
//!
//! A run is one thing until it is taken apart: only the record of its first frame is touched, so a large one costs
//! no more than a small one.

use core::panic::Location;

use rumpvm_arch::Frame;
use rumpvm_platform::{Platform, Scarce};

use super::page::PageKind;
use super::{Fresh, Phys};
use crate::NoMemory;

/// 2^order frames in a row, aligned to their length, that nobody but the holder of this value knows. Free it, or
/// take it apart.
#[must_use = "a run is lost unless it is freed or taken apart"]
#[derive(PartialEq, Eq, Debug)]
pub struct Run {
    first: Frame,
    order: u32,
}

impl Run {
    /// Its first frame.
    pub fn first(&self) -> Frame {
        self.first
    }

    /// It has 2^`order` frames.
    pub(crate) fn order(&self) -> u32 {
        self.order
    }
}

impl<P: Platform> Phys<P> {
    /// 2^`order` frames in a row, aligned to their length, with unknown contents. Takes the buddy's lock. If there are none,
    /// all that is at hand somewhere comes back first: for who needs so many.
    #[inline]
    #[track_caller]
    pub fn alloc_run(&self, order: u32) -> Result<Run, NoMemory> {
        if P::fails(Scarce::Frame, Location::caller()) {
            return Err(NoMemory);
        }
        let run = self.pop_run(order);
        run.or_else(|| self.pop_run_after_all(order)).ok_or(NoMemory)
    }

    #[inline]
    fn pop_run(&self, order: u32) -> Option<Run> {
        let first = self.buddy.lock().alloc(&self.records, order)?;
        self.page(first).set_kind(PageKind::Fresh);
        Some(Run { first, order })
    }

    #[cold]
    #[inline(never)]
    fn pop_run_after_all(&self, order: u32) -> Option<Run> {
        self.drain_all();
        self.pop_run(order)
    }

    /// Frees a run that was never taken apart. Nobody can have mapped it, so the machine need not be told. Takes
    /// the buddy's lock.
    #[inline]
    pub fn free_run(&self, run: Run) {
        if cfg!(debug_assertions) {
            for at in 0..1 << run.order {
                self.junk(&Fresh(Frame(run.first.0 + at)));
            }
        }
        self.buddy.lock().free(&self.records, run.first, run.order);
    }

    /// Puts the frames of a run that was taken apart together again; their owner must have let go of each, as for
    /// [`Phys::take`].
    pub(crate) fn join_run(&self, first: Frame, order: u32) -> Run {
        for at in 0..1 << order {
            let fresh = self.take(Frame(first.0 + at));
            if at > 0 {
                self.page(fresh.frame()).reset(PageKind::FreeTail);
            }
        }
        Run { first, order }
    }

    /// As [`Phys::alloc_run`]; a single frame comes from this CPU's magazine.
    #[inline]
    #[track_caller]
    pub(crate) fn alloc_block(&self, order: u32) -> Result<Run, NoMemory> {
        if order > 0 {
            return self.alloc_run(order);
        }
        Ok(Run { first: self.alloc()?.frame(), order })
    }

    /// As [`Phys::alloc_block`], without asking hoards: for who can do with less, or without.
    #[inline(never)]
    #[track_caller]
    pub(crate) fn alloc_block_at_hand(&self, order: u32) -> Result<Run, NoMemory> {
        if P::fails(Scarce::Frame, Location::caller()) {
            return Err(NoMemory);
        }
        let run = match order {
            0 => self.pop_at_hand().map(|first| Run { first: self.fresh(first).frame(), order }),
            _ => self.pop_run(order),
        };
        run.ok_or(NoMemory)
    }

    /// As [`Phys::free_run`]; a single frame goes to this CPU's magazine.
    #[inline]
    pub(crate) fn free_block(&self, run: Run) {
        match run.order {
            0 => self.free(Fresh(run.first)),
            _ => self.free_run(run),
        }
    }

    /// Takes a run apart: its frames, in order, each to be given to an owner or freed by itself.
    pub fn split_run(&self, run: Run) -> impl Iterator<Item = Fresh> {
        let Run { first, order } = run;
        for at in 1..1u32 << order {
            self.page(Frame(first.0 + at)).set_kind(PageKind::Fresh);
        }
        (0..1u32 << order).map(move |at| Fresh(Frame(first.0 + at)))
    }
}
