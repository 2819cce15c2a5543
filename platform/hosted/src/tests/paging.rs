//! Translation, the same for every format.

use rumpvm_arch::{
    Access, Format, I386, PAGE_SIZE, Pae, PageFault, Prot, Pte, VirtAddr, VirtRange, X86_64,
    X86_64La57,
};
use rumpvm_platform::Platform;

use super::machine;
use super::tables::Tables;
use crate::Hosted;

const AT: VirtAddr = VirtAddr(0x40_3000);

/// Runs one case in every format, on a CPU whose tables are active.
macro_rules! in_every_format {
    ($($name:ident)*) => { $(
        mod $name {
            use super::*;

            #[test]
            fn i386() { on_cpu::<I386>(super::cases::$name) }
            #[test]
            fn pae() { on_cpu::<Pae>(super::cases::$name) }
            #[test]
            fn x86_64() { on_cpu::<X86_64>(super::cases::$name) }
            #[test]
            fn x86_64_la57() { on_cpu::<X86_64La57>(super::cases::$name) }
        }
    )* };
}

in_every_format! {
    bytes_stored_through_one_page_are_loaded_through_another
    an_access_across_pages_faults_on_the_page_that_lacks_it
    using_a_page_sets_accessed_and_the_first_store_sets_dirty
    rights_count_from_every_level
    a_stale_translation_survives_until_it_is_invalidated
    a_cleared_dirty_bit_is_set_again_after_the_flush
    a_page_fault_drops_the_translation_so_that_the_retry_succeeds
    a_replaced_table_is_seen_after_the_flush_of_its_range
    leaving_the_space_drops_everything_and_staying_drops_nothing
    addresses_beyond_the_format_fault
}

fn on_cpu<F: Format>(case: fn(&Hosted<F>, &mut Tables<F>)) {
    let (hosted, _power) = machine::<F>(1);
    hosted.clone().run(None, move || {
        let mut tables = Tables::new(&hosted);
        hosted.tlb_activate(Some(tables.root));
        case(&hosted, &mut tables);
    });
}

fn fault(at: VirtAddr, access: Access, present: bool) -> Result<(), PageFault> {
    Err(PageFault { at, access, present, user: true })
}

fn load_u64<F: Format>(hosted: &Hosted<F>, at: VirtAddr) -> Result<u64, PageFault> {
    let mut bytes = [0; 8];
    hosted.load(at, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn page(at: VirtAddr) -> VirtRange {
    VirtRange::new(at.page_down(), at.page_down() + PAGE_SIZE)
}

mod cases {
    use super::*;

    pub(super) fn bytes_stored_through_one_page_are_loaded_through_another<F: Format>(
        hosted: &Hosted<F>,
        tables: &mut Tables<F>,
    ) {
        let high = VirtAddr(F::USER_END.0 - PAGE_SIZE);
        let frame = tables.map_new(AT, Prot::RW);
        tables.map(high, frame, Prot::READ, true);

        hosted.store(AT + 0x123, b"hello").unwrap();

        let mut bytes = [0; 5];
        hosted.load(high + 0x123, &mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        assert_eq!(hosted.verify_tlbs(), Ok(()));
    }

    pub(super) fn an_access_across_pages_faults_on_the_page_that_lacks_it<F: Format>(
        hosted: &Hosted<F>,
        tables: &mut Tables<F>,
    ) {
        tables.map_new(AT, Prot::RW);
        let second = AT + PAGE_SIZE;
        let across = second - 3;
        assert_eq!(hosted.store(across, b"abcdef"), fault(second, Access::Write, false));

        tables.map_new(second, Prot::RW);
        assert_eq!(hosted.store(across, b"abcdef"), Ok(()));

        let mut bytes = [0; 6];
        hosted.load(across, &mut bytes).unwrap();
        assert_eq!(&bytes, b"abcdef");
    }

    pub(super) fn using_a_page_sets_accessed_and_the_first_store_sets_dirty<F: Format>(
        hosted: &Hosted<F>,
        tables: &mut Tables<F>,
    ) {
        tables.map_new(AT, Prot::RW);
        assert!(!tables.leaf(AT).is_accessed());

        load_u64(hosted, AT).unwrap();
        assert!(tables.leaf(AT).is_accessed() && !tables.leaf(AT).is_dirty());

        hosted.store(AT, b"x").unwrap();
        assert!(tables.leaf(AT).is_dirty());

        let root = tables.at_level(tables.root, F::LEVELS, AT);
        assert_eq!(root.is_accessed(), F::ROOT_HAS_RIGHTS);
    }

    pub(super) fn rights_count_from_every_level<F: Format>(
        hosted: &Hosted<F>,
        tables: &mut Tables<F>,
    ) {
        tables.map_new(AT, Prot::READ);
        assert_eq!(hosted.load(AT, &mut [0]), Ok(()));
        assert_eq!(hosted.store(AT, b"x"), fault(AT, Access::Write, true));
        let fetched = if F::HAS_NX { fault(AT, Access::Execute, true) } else { Ok(()) };
        assert_eq!(hosted.fetch(AT), fetched);
        assert!(!tables.leaf(AT).is_dirty(), "a denied store leaves no trace");

        tables.set_leaf(AT, tables.leaf(AT).with(Pte::W).without(Pte::NX));
        assert_eq!(hosted.fetch(AT), Ok(()));
        let level = if F::ROOT_HAS_RIGHTS { F::LEVELS } else { F::LEVELS - 1 };
        let above = tables.table(level, AT);
        let entry = tables.at_level(above, level, AT);
        for (lacks, access) in [(Pte::W, Access::Write), (Pte::U, Access::Read)] {
            tables.set(above, level, AT, entry.without(lacks));
            hosted.tlb_invalidate(page(AT));
            let result = match access {
                Access::Write => hosted.store(AT, b"x"),
                _ => hosted.load(AT, &mut [0]),
            };
            assert_eq!(result, fault(AT, access, true));
        }
    }

    pub(super) fn a_stale_translation_survives_until_it_is_invalidated<F: Format>(
        hosted: &Hosted<F>,
        tables: &mut Tables<F>,
    ) {
        let old = tables.map_new(AT, Prot::RW);
        hosted.store(AT, &1_u64.to_ne_bytes()).unwrap();
        let new = tables.map_new(AT, Prot::READ);
        assert_ne!(old, new);

        assert_eq!(load_u64(hosted, AT), Ok(1));
        assert_eq!(hosted.store(AT, &2_u64.to_ne_bytes()), Ok(()));
        assert!(hosted.verify_tlbs().unwrap_err().contains("but the entry is"));

        hosted.tlb_invalidate(page(AT));
        assert_eq!(load_u64(hosted, AT), Ok(0));
        assert_eq!(hosted.verify_tlbs(), Ok(()));

        tables.set_leaf(AT, Pte::ABSENT);
        assert_eq!(load_u64(hosted, AT), Ok(0));
        assert!(hosted.verify_tlbs().unwrap_err().contains("is not mapped"));
        hosted.tlb_invalidate(page(AT));
        assert_eq!(hosted.load(AT, &mut [0]), fault(AT, Access::Read, false));
    }

    pub(super) fn a_cleared_dirty_bit_is_set_again_after_the_flush<F: Format>(
        hosted: &Hosted<F>,
        tables: &mut Tables<F>,
    ) {
        tables.map_new(AT, Prot::RW);
        hosted.store(AT, b"x").unwrap();
        tables.set_leaf(AT, tables.leaf(AT).without(Pte::D));

        hosted.store(AT, b"y").unwrap();
        assert!(!tables.leaf(AT).is_dirty(), "without a flush the CPU does not look again");
        assert!(hosted.verify_tlbs().unwrap_err().contains("would not set D"));

        hosted.tlb_invalidate(page(AT));
        hosted.store(AT, b"z").unwrap();
        assert!(tables.leaf(AT).is_dirty());
    }

    pub(super) fn a_page_fault_drops_the_translation_so_that_the_retry_succeeds<F: Format>(
        hosted: &Hosted<F>,
        tables: &mut Tables<F>,
    ) {
        tables.map_new(AT, Prot::READ);
        load_u64(hosted, AT).unwrap();
        tables.set_leaf(AT, tables.leaf(AT).with(Pte::W));

        assert_eq!(hosted.store(AT, b"x"), fault(AT, Access::Write, true), "from the TLB");
        assert_eq!(hosted.store(AT, b"x"), Ok(()));
    }

    pub(super) fn a_replaced_table_is_seen_after_the_flush_of_its_range<F: Format>(
        hosted: &Hosted<F>,
        tables: &mut Tables<F>,
    ) {
        let neighbour = AT + PAGE_SIZE;
        tables.map_new(AT, Prot::RW);
        tables.map_new(neighbour, Prot::RW);
        load_u64(hosted, AT).unwrap();
        let empty = tables.frame();
        let above = tables.table(2, AT);
        tables.set(above, 2, AT, Pte::table::<F>(2, empty, true));

        assert_eq!(load_u64(hosted, neighbour), Ok(0), "the old table is still known");
        assert!(hosted.verify_tlbs().is_err());

        hosted.tlb_invalidate(page(neighbour));
        assert_eq!(hosted.load(neighbour, &mut [0]), fault(neighbour, Access::Read, false));
        assert_eq!(load_u64(hosted, AT), Ok(0), "the page itself was not invalidated");
    }

    pub(super) fn leaving_the_space_drops_everything_and_staying_drops_nothing<F: Format>(
        hosted: &Hosted<F>,
        tables: &mut Tables<F>,
    ) {
        tables.map_new(AT, Prot::RW);
        load_u64(hosted, AT).unwrap();
        tables.set_leaf(AT, Pte::ABSENT);

        hosted.tlb_activate(Some(tables.root));
        assert_eq!(load_u64(hosted, AT), Ok(0));

        hosted.tlb_activate(None);
        assert_eq!(hosted.load(AT, &mut [0]), fault(AT, Access::Read, false));
        hosted.tlb_activate(Some(tables.root));
        assert_eq!(hosted.load(AT, &mut [0]), fault(AT, Access::Read, false));
    }

    pub(super) fn addresses_beyond_the_format_fault<F: Format>(
        hosted: &Hosted<F>,
        _tables: &mut Tables<F>,
    ) {
        for at in [F::USER_END, VirtAddr(u64::MAX - 7)] {
            assert_eq!(hosted.load(at, &mut [0; 8]), fault(at, Access::Read, false));
        }
        assert!(hosted.load(VirtAddr(u64::MAX), &mut [0; 2]).is_err());
    }
}
