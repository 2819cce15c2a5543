//! The start info of PVH: xen/include/public/arch-x86/hvm/start_info.h.

use pvh::start_info::{MemmapTableEntry, MemmapType, ModlistEntry, START_MAGIC_VALUE, StartInfo};

use super::info::{BootInfo, Kind, Read, bytes};

/// Decodes the start info at physical address `at`.
pub(super) fn decode(at: u64, read: &Read<'_>) -> BootInfo {
    let start = start_info(&bytes(read, at));
    assert!(start.magic == START_MAGIC_VALUE, "the PVH start info at {at:#x} has no magic number");
    let mut info = BootInfo::new();
    for entry in 0..u64::from(start.memmap_entries) {
        let entry = bytes::<{ size_of::<MemmapTableEntry>() }>(
            read,
            start.memmap_paddr + entry * size_of::<MemmapTableEntry>() as u64,
        );
        info.add_region(word(&entry, 0), word(&entry, 8), kind(word(&entry, 16) as u32));
    }
    for entry in 0..u64::from(start.nr_modules) {
        let entry = bytes::<{ size_of::<ModlistEntry>() }>(
            read,
            start.modlist_paddr + entry * size_of::<ModlistEntry>() as u64,
        );
        let first = word(&entry, 0);
        info.add_module(first, first.saturating_add(word(&entry, 8)));
    }
    if start.cmdline_paddr != 0 {
        info.copy_words(start.cmdline_paddr, read);
    }
    info.rsdp = (start.rsdp_paddr != 0).then_some(start.rsdp_paddr);
    info
}

fn start_info(bytes: &[u8; size_of::<StartInfo>()]) -> StartInfo {
    let half = |at: usize| (word(bytes, at & !7) >> (at % 8 * 8)) as u32;
    let version = half(4);
    StartInfo {
        magic: half(0),
        version,
        nr_modules: half(12),
        modlist_paddr: word(bytes, 16),
        cmdline_paddr: word(bytes, 24),
        rsdp_paddr: word(bytes, 32),
        // Version 0 ends here.
        memmap_paddr: if version >= 1 { word(bytes, 40) } else { 0 },
        memmap_entries: if version >= 1 { half(48) } else { 0 },
        ..StartInfo::default()
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn kind(number: u32) -> Kind {
    match MemmapType::from(number) {
        MemmapType::Ram => Kind::Ram,
        MemmapType::Acpi | MemmapType::Nvs => Kind::Acpi,
        _ => Kind::Reserved,
    }
}
