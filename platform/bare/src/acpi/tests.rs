//! Tables as firmware writes them, decoded.

extern crate std;

use std::vec;
use std::vec::Vec;

use super::{Register, SoftOff, find};

struct Memory(Vec<u8>);

impl Memory {
    fn new() -> Self {
        Self(vec![0; 0x10_0000])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A table with this signature and body.
    fn table(&mut self, at: usize, signature: &[u8; 4], body: &[u8]) {
        self.put(at, signature);
        self.put(at + 4, &(36 + body.len() as u32).to_le_bytes());
        self.put(at + 36, body);
    }

    fn read(&self) -> impl Fn(u64, &mut [u8]) + '_ {
        |at, into| into.copy_from_slice(&self.0[at as usize..][..into.len()])
    }
}

/// A root pointer at 0xf0000, and its table at 0x1000 that names `tables`.
fn machine(tables: &[u32]) -> Memory {
    let mut memory = Memory::new();
    memory.put(0xf_0000, b"RSD PTR ");
    memory.put(0xf_0010, &0x1000_u32.to_le_bytes());
    let body: Vec<u8> = tables.iter().flat_map(|at| at.to_le_bytes()).collect();
    memory.table(0x1000, b"RSDT", &body);
    memory
}

#[test]
fn cpus_that_are_enabled_are_found_by_either_kind_of_number() {
    let mut memory = machine(&[0x2000]);
    let mut body = 0xfee0_0000_u32.to_le_bytes().to_vec();
    body.extend(1_u32.to_le_bytes());
    body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    body.extend([0, 8, 1, 7, 1, 0, 0, 0]);
    body.extend([0, 8, 2, 9, 0, 0, 0, 0]);
    body.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    body.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
    memory.table(0x2000, b"APIC", &body);
    let acpi = find(None, &memory.read());
    assert_eq!(acpi.cpus().collect::<Vec<_>>(), [0, 7, 256]);
    assert_eq!(acpi.controller, 0xfee0_0000);
}

#[test]
fn soft_off_takes_its_number_from_the_definitions() {
    for (element, value) in [(&[0x0a, 5][..], 5 << 10 | 1 << 13), (&[0, 0], 1 << 13)] {
        let mut memory = machine(&[0x2000]);
        let mut fadt = vec![0; 240];
        fadt[40 - 36..44 - 36].copy_from_slice(&0x3000_u32.to_le_bytes());
        fadt[64 - 36..68 - 36].copy_from_slice(&0x604_u32.to_le_bytes());
        fadt[76 - 36..80 - 36].copy_from_slice(&0x608_u32.to_le_bytes());
        memory.table(0x2000, b"FACP", &fadt);
        let mut definitions = b"\x08_S4_\x12\x06\x04\x00\x00\x00\x00\x08_S5_\x12\x06\x04".to_vec();
        definitions.extend(element);
        definitions.extend([0; 16]);
        memory.table(0x3000, b"DSDT", &definitions);
        let acpi = find(None, &memory.read());
        assert_eq!(acpi.soft_off, Some(SoftOff::Control(0x604, value)));
        assert_eq!(acpi.timer_port, Some(0x608));
    }
}

#[test]
fn a_reduced_machine_goes_off_and_resets_by_registers_in_memory() {
    let mut memory = machine(&[0x2000]);
    let mut fadt = vec![0; 240];
    fadt[112 - 36..116 - 36].copy_from_slice(&(1_u32 << 20 | 1 << 10).to_le_bytes());
    fadt[120 - 36..128 - 36].copy_from_slice(&0xfe80_0002_u64.to_le_bytes());
    fadt[128 - 36] = 0x42;
    fadt[248 - 36..256 - 36].copy_from_slice(&0xfe80_0000_u64.to_le_bytes());
    fadt[40 - 36..44 - 36].copy_from_slice(&0x3000_u32.to_le_bytes());
    memory.table(0x2000, b"FACP", &fadt);
    memory.table(0x3000, b"DSDT", b"\x08_S5_\x12\x06\x04\x0a\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let acpi = find(Some(0xf_0000), &memory.read());
    let register = Register::Memory(0xfe80_0000);
    assert_eq!(acpi.soft_off, Some(SoftOff::Sleep(register, 5 << 2 | 1 << 5)));
    assert_eq!(acpi.reset, Some((Register::Memory(0xfe80_0002), 0x42)));
}

#[test]
fn a_machine_without_tables_has_nothing() {
    let memory = Memory::new();
    let acpi = find(None, &memory.read());
    assert_eq!((acpi.cpus().count(), acpi.soft_off, acpi.timer_port), (0, None, None));
}
