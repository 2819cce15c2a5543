//! Protected mode: classic 2-level tables, and 3-level PAE. Intel SDM vol. 3A, 4.3 and 4.4.

use crate::{Format, VirtAddr};

/// Where the kernel's gigabyte begins in the usual 3:1 split.
const KERNEL_BASE: VirtAddr = VirtAddr(0xc000_0000);

/// Classic 32-bit paging: 4-byte entries, 1,024 to a table, no NX bit. The root's last 256 entries are a kernel's.
pub struct I386;

/// Physical address extension: 8-byte entries, a root of four, an NX bit. The root's fourth entry is a kernel's.
pub struct Pae;

impl Format for I386 {
    const NAME: &'static str = "i386 2-level";
    const LEVELS: usize = 2;
    const INDEX_BITS: u32 = 10;
    const ROOT_BITS: u32 = 10;
    const ROOT_ENTRIES: usize = 768;
    const WIDE: bool = false;
    const HAS_NX: bool = false;
    const ROOT_HAS_RIGHTS: bool = true;
    const USER_END: VirtAddr = KERNEL_BASE;
    const FRAME_END: u64 = 1 << 20;
}

impl Format for Pae {
    const NAME: &'static str = "i386 PAE";
    const LEVELS: usize = 3;
    const INDEX_BITS: u32 = 9;
    const ROOT_BITS: u32 = 2;
    const ROOT_ENTRIES: usize = 3;
    const WIDE: bool = true;
    const HAS_NX: bool = true;
    const ROOT_HAS_RIGHTS: bool = false;
    const USER_END: VirtAddr = KERNEL_BASE;
    const FRAME_END: u64 = 1 << 32;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Frame, Prot, Pte, VirtRange, X86_64, X86_64La57, X86_64Lower, entries, index, kernel_half,
        span, user_entries,
    };

    fn root_covers_user_memory<F: Format>() {
        assert_eq!(span::<F>(F::LEVELS + 1), span::<F>(F::LEVELS) * entries::<F>(F::LEVELS) as u64);
        assert!(span::<F>(F::LEVELS) * user_entries::<F>(F::LEVELS) as u64 >= F::USER_END.0);
        assert!(user_entries::<F>(F::LEVELS) <= entries::<F>(F::LEVELS));
        assert_eq!(user_entries::<F>(1), entries::<F>(1));
        let last = VirtAddr(F::USER_END.0 - 1);
        let mut rebuilt = 0;
        for level in 1..=F::LEVELS {
            rebuilt += index::<F>(level, last) as u64 * span::<F>(level);
        }
        assert_eq!(rebuilt, last.page_down().0);
    }

    #[test]
    fn indices_and_spans_rebuild_the_address() {
        root_covers_user_memory::<I386>();
        root_covers_user_memory::<Pae>();
        root_covers_user_memory::<X86_64>();
        root_covers_user_memory::<X86_64Lower>();
        root_covers_user_memory::<X86_64La57>();
    }

    #[test]
    fn the_kernels_half_begins_behind_user_memory_where_a_root_entry_does() {
        let of = |half: VirtRange| (half.start.0, half.end.0);
        assert_eq!(of(kernel_half::<I386>()), (0xc000_0000, 0xffff_f000));
        assert_eq!(of(kernel_half::<Pae>()), (0xc000_0000, 0xffff_f000));
        let end = 0xffff_ffff_ffff_f000;
        assert_eq!(of(kernel_half::<X86_64>()), (0xffff_8000_0000_0000, end));
        assert_eq!(of(kernel_half::<X86_64Lower>()), (0xffff_8000_0000_0000, end));
        assert_eq!(of(kernel_half::<X86_64La57>()), (0xff00_0000_0000_0000, end));
    }

    #[test]
    fn an_entry_gives_back_the_frame_and_the_rights_it_was_made_of() {
        for bits in 1..=Prot::ALL.bits() {
            let wanted = Prot::from_bits_retain(bits);
            let entry = Pte::page::<X86_64>(Frame(0xfedcb), wanted);
            assert_eq!(entry.frame(), Frame(0xfedcb));
            assert_eq!(entry.prot::<X86_64>(), wanted | Prot::READ);
            assert!(Pte::page::<I386>(Frame(0xfedcb), wanted).0 <= u64::from(u32::MAX));
        }
        assert_eq!(Pte::page::<X86_64>(Frame(1), Prot::empty()), Pte::ABSENT);
    }

    #[test]
    fn a_pae_root_entry_leaves_its_reserved_bits_clear() {
        let root = Pte::table::<Pae>(3, Frame(7), true);
        assert_eq!(root.0 & (Pte::W | Pte::U), 0);
        assert!(Pte::table::<Pae>(2, Frame(7), true).is_writable());
    }
}
