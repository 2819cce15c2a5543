//! Where an arena's spans come from: frames of the direct map, or another arena.

use rumpvm_arch::{Frame, PAGE_SIZE, PhysAddr};
use rumpvm_platform::Platform;

use super::Arena;
use super::tag::Span;
use crate::NoMemory;
use crate::phys::{PageKind, Phys};

/// Something that spans come from. It is asked with none of the arena's locks held.
pub trait Source<P: Platform>: Sync {
    /// A span of `size` or more that begins at a multiple of `align`; both are multiples of the asking arena's quantum.
    fn import(&self, phys: &Phys<P>, size: u64, align: u64) -> Result<Span, NoMemory>;

    /// Takes back, as a whole, what [`Source::import`] returned.
    fn release(&self, phys: &Phys<P>, span: Span);
}

/// Wired memory of the direct map: runs of frames, by the addresses where the kernel sees them. Its quantum is a page or
/// a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

/// A run that is asked for to serve several requests: 2^5 frames, 128 KiB.
const RUN: u32 = 5;
/// No more than this part of memory is asked for ahead of need.
const SHARE: u64 = 512;

impl<P: Platform> Source<P> for Direct {
    fn import(&self, phys: &Phys<P>, size: u64, align: u64) -> Result<Span, NoMemory> {
        let frames = size.max(align).div_ceil(PAGE_SIZE).checked_next_power_of_two();
        let order = frames.ok_or(NoMemory)?.ilog2();
        let ahead = order.max((phys.total_frames() / SHARE).max(1).ilog2().min(RUN));
        let many = if ahead > order { phys.alloc_block_at_hand(ahead).ok() } else { None };
        let run = match many {
            Some(run) => run,
            None => phys.alloc_block(order)?,
        };
        let start = phys.platform.phys_to_virt(run.first().start());
        let mut frames = 0;
        for fresh in phys.split_run(run) {
            phys.give(fresh, PageKind::Wired);
            frames += 1;
        }
        Ok(Span { start: start.as_ptr().expose_provenance() as u64, size: frames * PAGE_SIZE })
    }

    fn release(&self, phys: &Phys<P>, span: Span) {
        let first = first_frame(phys, span.start);
        phys.free_block(phys.join_run(first, (span.size / PAGE_SIZE).ilog2()));
    }
}

/// The frame seen at `address` of the direct map.
fn first_frame<P: Platform>(phys: &Phys<P>, address: u64) -> Frame {
    physical(phys, address).frame()
}

/// The physical address behind `address` of the direct map.
pub(super) fn physical<P: Platform>(phys: &Phys<P>, address: u64) -> PhysAddr {
    phys.platform.virt_to_phys(super::pointer(address))
}

impl<P: Platform> Source<P> for Arena<'_, P> {
    fn import(&self, phys: &Phys<P>, size: u64, align: u64) -> Result<Span, NoMemory> {
        let start = self.alloc_aligned(phys, size, align)?;
        Ok(Span { start, size: self.rounded(size).ok_or(NoMemory)? })
    }

    fn release(&self, phys: &Phys<P>, span: Span) {
        self.free(phys, span.start, span.size);
    }
}
