//! The address space of a 32-bit program, inside one that is wider.
//!
//! Linux gives such a program nothing above 4 GiB, so a mapping may fail for want of room that a wider
//! space has. One mapping without rights over all that is above makes the spaces alike.

use rumpvm::{Backing, MapFlags, Space, Vm};
use rumpvm_arch::{Format, Prot, VirtAddr, X86_64};
use rumpvm_hosted::Hosted;

/// Where the address space of a 32-bit program ends on a 64-bit Linux (`IA32_PAGE_OFFSET`).
const END: u64 = 0xffff_e000;

/// Takes everything above [`END`].
pub(super) fn confine(vm: &Vm<Hosted>, space: &Space<Hosted>) {
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED | MapFlags::NORESERVE;
    let length = X86_64::USER_END - VirtAddr(END);
    let taken = space.mmap(vm, VirtAddr(END), length, Prot::empty(), flags, Backing::Anonymous, 0);
    debug_assert!(taken.is_ok(), "an area without pages needs one record");
}
