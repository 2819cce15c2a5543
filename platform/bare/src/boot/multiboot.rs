//! The information of Multiboot 1: "Multiboot Specification version 0.6.96", 3.3.
//!
//! Six fields of it are read, so there is nothing for a crate to do. Older loaders leave out parts; the flags say which.

use super::info::{BootInfo, Kind, Read, bytes};

/// `mem_upper` is there.
const MEMORY: u32 = 1 << 0;
/// So is the command line.
const COMMAND_LINE: u32 = 1 << 2;
/// So are modules.
const MODULES: u32 = 1 << 3;
/// So is the memory map.
const MEMORY_MAP: u32 = 1 << 6;

const MEGABYTE: u64 = 1 << 20;

/// Decodes the information at physical address `at`.
pub(super) fn decode(at: u64, read: &Read<'_>) -> BootInfo {
    let field = |offset: u64| u32::from_le_bytes(bytes(read, at + offset));
    let (flags, mut info) = (field(0), BootInfo::new());
    if flags & COMMAND_LINE != 0 {
        info.copy_words(u64::from(field(16)), read);
    }
    if flags & MODULES != 0 {
        for module in 0..u64::from(field(20)) {
            let at = u64::from(field(24)) + module * 16;
            let number = |at| u64::from(u32::from_le_bytes(bytes(read, at)));
            info.add_module(number(at), number(at + 4));
        }
    }
    if flags & MEMORY_MAP != 0 {
        let (mut at, length) = (u64::from(field(48)), u64::from(field(44)));
        let end = at + length;
        while at < end {
            // The size of an entry does not count the field that says it.
            let size = u64::from(u32::from_le_bytes(bytes(read, at)));
            let word = |offset| u64::from_le_bytes(bytes(read, at + offset));
            let kind = match u32::from_le_bytes(bytes(read, at + 20)) {
                1 => Kind::Ram,
                3 | 4 => Kind::Acpi,
                _ => Kind::Reserved,
            };
            info.add_region(word(4), word(12), kind);
            at += size + 4;
        }
    } else if flags & MEMORY != 0 {
        info.add_region(0, u64::from(field(4)) * 1024, Kind::Ram);
        info.add_region(MEGABYTE, u64::from(field(8)) * 1024, Kind::Ram);
    }
    info
}
