//! Long mode: 4-level tables, and 5-level ones (LA57). Intel SDM vol. 3A, 4.5.

use crate::{Format, PAGE_SIZE, VirtAddr};

/// 4-level paging: 48-bit addresses, of which user memory is the lower half.
pub struct X86_64;

/// 5-level paging: 57-bit addresses, of which user memory is the lower half.
pub struct X86_64La57;

impl Format for X86_64 {
    const NAME: &'static str = "x86-64 4-level";
    const LEVELS: usize = 4;
    const INDEX_BITS: u32 = 9;
    const ROOT_BITS: u32 = 9;
    const WIDE: bool = true;
    const HAS_NX: bool = true;
    const ROOT_HAS_RIGHTS: bool = true;
    /// The last page below the hole stays free, as in Linux: `syscall` there would return to a
    /// non-canonical address.
    const USER_END: VirtAddr = VirtAddr((1 << 47) - PAGE_SIZE);
    const FRAME_END: u64 = 1 << 32;
}

impl Format for X86_64La57 {
    const NAME: &'static str = "x86-64 5-level";
    const LEVELS: usize = 5;
    const INDEX_BITS: u32 = 9;
    const ROOT_BITS: u32 = 9;
    const WIDE: bool = true;
    const HAS_NX: bool = true;
    const ROOT_HAS_RIGHTS: bool = true;
    const USER_END: VirtAddr = VirtAddr((1 << 56) - PAGE_SIZE);
    const FRAME_END: u64 = 1 << 32;
}
