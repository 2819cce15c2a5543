//! Mappings that the kernel makes at exec and no call shows: the program, its interpreter, the vDSO,
//! the stack.
//!
//! Flow:  a call that Linux let through -> the pages that must have been there -> anonymous memory.
//!
//! I1. Only pages are inferred that no call of the recording has mapped or unmapped since exec. Where
//!     the recording itself made a hole, rumpvm must see the hole.

use std::ops::ControlFlow;

use rumpvm::{Backing, MapFlags, Space, Vm};
use rumpvm_arch::{Prot, VirtRange};
use rumpvm_hosted::Hosted;

use super::known::Known;

/// Puts memory wherever `wanted` has none and an image may have some. Returns how many pages.
pub(super) fn image(
    vm: &Vm<Hosted>,
    space: &Space<Hosted>,
    known: &mut Known,
    wanted: VirtRange,
) -> u64 {
    let mut mapped = Vec::new();
    let _: ControlFlow<()> = space.areas(vm, |area| {
        mapped.push(area.range);
        ControlFlow::Continue(())
    });
    let mut pages = 0;
    for gap in known.untold_gaps(wanted, mapped.into_iter()) {
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED_NOREPLACE;
        let length = gap.length();
        if space.mmap(vm, gap.start, length, Prot::RW, flags, Backing::Anonymous, 0).is_ok() {
            pages += gap.pages();
        }
        known.tell(gap);
    }
    pages
}
