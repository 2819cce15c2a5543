//! Both loaders' information, decoded from bytes as they lie in memory.

extern crate std;

use std::vec;
use std::vec::Vec;

use super::info::{Kind, Module, Region};
use super::{multiboot, pvh};

/// Where the tests' information is.
const AT: u64 = 0x100;

/// Memory in which numbers of some width lie at some addresses.
struct Memory(Vec<u8>);

impl Memory {
    fn new() -> Self {
        Self(vec![0; 4096])
    }

    fn put(mut self, at: u64, bytes: &[u8]) -> Self {
        self.0[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn half(self, at: u64, value: u32) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    fn word(self, at: u64, value: u64) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    fn read(&self) -> impl Fn(u64, &mut [u8]) + '_ {
        |at, into| into.copy_from_slice(&self.0[at as usize..][..into.len()])
    }
}

#[test]
fn pvh_tells_memory_modules_words_and_tables() {
    let memory = Memory::new()
        .half(AT, 0x336e_c578)
        .half(AT + 4, 1)
        .half(AT + 12, 1)
        .word(AT + 16, 0x400)
        .word(AT + 24, 0x500)
        .word(AT + 32, 0xf_5a90)
        .word(AT + 40, 0x600)
        .half(AT + 48, 2)
        .word(0x400, 0x8000)
        .word(0x408, 0x123)
        .put(0x500, b"cases quiet\0")
        .word(0x608, 0x9_fc00)
        .half(0x610, 1)
        .word(0x618, 0xf_0000)
        .word(0x620, 0x1_0000)
        .half(0x628, 2);
    let info = pvh::decode(AT, &memory.read());
    let ram = Region { start: 0, end: 0x9_fc00, kind: Kind::Ram };
    let bios = Region { start: 0xf_0000, end: 0x10_0000, kind: Kind::Reserved };
    assert_eq!(info.regions(), [ram, bios]);
    assert_eq!(info.modules(), [Module { start: 0x8000, end: 0x8123 }]);
    assert_eq!((info.command_line(), info.rsdp), ("cases quiet", Some(0xf_5a90)));
}

#[test]
fn multiboot_tells_memory_modules_and_words() {
    let memory = Memory::new()
        .half(AT, 1 << 2 | 1 << 3 | 1 << 6)
        .half(AT + 16, 0x500)
        .half(AT + 20, 1)
        .half(AT + 24, 0x400)
        .half(AT + 44, 48)
        .half(AT + 48, 0x600)
        .half(0x400, 0x8000)
        .half(0x404, 0x9000)
        .put(0x500, b"x\0")
        .half(0x600, 20)
        .word(0x604, 0x10_0000)
        .word(0x60c, 0x70_0000)
        .half(0x614, 1)
        .half(0x618, 20)
        .word(0x61c, 0xffff_0000)
        .word(0x624, 0x1_0000)
        .half(0x62c, 2);
    let info = multiboot::decode(AT, &memory.read());
    let ram = Region { start: 0x10_0000, end: 0x80_0000, kind: Kind::Ram };
    let rom = Region { start: 0xffff_0000, end: 0x1_0000_0000, kind: Kind::Reserved };
    assert_eq!(info.regions(), [ram, rom]);
    assert_eq!(info.modules(), [Module { start: 0x8000, end: 0x9000 }]);
    assert_eq!((info.command_line(), info.rsdp), ("x", None));
}

#[test]
fn a_multiboot_loader_without_a_map_still_tells_how_much_there_is() {
    let memory = Memory::new().half(AT, 1).half(AT + 4, 639).half(AT + 8, 15 << 10);
    let info = multiboot::decode(AT, &memory.read());
    let low = Region { start: 0, end: 639 << 10, kind: Kind::Ram };
    let high = Region { start: 1 << 20, end: 16 << 20, kind: Kind::Ram };
    assert_eq!(info.regions(), [low, high]);
}
