//! Long mode: 4-level tables, and 5-level ones (LA57). Intel SDM vol. 3A, 4.5.

use crate::{Format, PAGE_SIZE, VirtAddr};

/// 4-level paging: 48-bit addresses, of which user memory is the lower half.
pub struct X86_64;

/// 4-level paging below a kernel: a root's lower half is who uses this format, its upper half whoever shares it.
pub struct X86_64Lower;

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

impl Format for X86_64Lower {
    const NAME: &'static str = "x86-64 4-level below a kernel";
    const LEVELS: usize = X86_64::LEVELS;
    const INDEX_BITS: u32 = X86_64::INDEX_BITS;
    const ROOT_BITS: u32 = X86_64::ROOT_BITS - 1;
    const WIDE: bool = X86_64::WIDE;
    const HAS_NX: bool = X86_64::HAS_NX;
    const ROOT_HAS_RIGHTS: bool = X86_64::ROOT_HAS_RIGHTS;
    const USER_END: VirtAddr = X86_64::USER_END;
    const FRAME_END: u64 = X86_64::FRAME_END;
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
