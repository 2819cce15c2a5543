//! ACPI: which CPUs there are, where their interrupt controllers are, and how the power goes off.
//!
//! Three tables are read, and one name in a fourth; that is little enough to need no interpreter and no crate
//! (the `acpi` crate asks its user for twenty methods before it reads the first).
//!
//! Flow:  root pointer -> root table -> MADT, FADT -> DSDT -> [`Acpi`].
//! Owns:  nothing; everything is copied while the boot tables map the first 4 GiB. What lies above is not found.

mod power;
#[cfg(test)]
mod tests;

use rumpvm_platform::MAX_CPUS;

use crate::boot::{List, Read, bytes};

pub(crate) use power::{Register, SoftOff};

/// What the tables say.
pub(crate) struct Acpi {
    cpus: List<u32, MAX_CPUS>,
    /// Physical address of each CPU's own interrupt controller.
    pub(crate) controller: u64,
    /// Port of the timer that counts at 3.579545 MHz.
    pub(crate) timer_port: Option<u16>,
    /// How the power goes off.
    pub(crate) soft_off: Option<SoftOff>,
    /// What resets the machine, and the value to write there.
    pub(crate) reset: Option<(Register, u8)>,
}

impl Acpi {
    const fn nothing() -> Self {
        Self {
            cpus: List::new(0),
            controller: 0xfee0_0000,
            timer_port: None,
            soft_off: None,
            reset: None,
        }
    }

    /// Numbers of the CPUs in the interrupt controllers.
    pub(crate) fn cpus(&self) -> impl Iterator<Item = u32> + '_ {
        self.cpus.as_slice().iter().copied()
    }
}

/// A table: where it is, header included, and its length.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    at: u64,
    length: u64,
    read: &'a Read<'a>,
}

impl<'a> Table<'a> {
    const HEADER: u64 = 36;

    fn new(at: u64, read: &'a Read<'a>) -> Self {
        let length = u64::from(u32::from_le_bytes(bytes(read, at + 4)));
        Self { at, length, read }
    }

    fn is(&self, signature: &[u8; 4]) -> bool {
        bytes::<4>(self.read, self.at) == *signature
    }

    /// The field of `N` bytes at `offset`; zeros beyond the table's end.
    pub(crate) fn field<const N: usize>(&self, offset: u64) -> [u8; N] {
        if offset + N as u64 > self.length { [0; N] } else { bytes(self.read, self.at + offset) }
    }
}

/// Reads the tables; `rsdp` is where the boot loader says that the root pointer is. A machine without tables has
/// one CPU.
pub(crate) fn find(rsdp: Option<u64>, read: &Read<'_>) -> Acpi {
    let mut acpi = Acpi::nothing();
    let Some(root) = rsdp.or_else(|| search(read)) else {
        log::warn!("no ACPI tables: one processor");
        return acpi;
    };
    for table in tables(root, read) {
        if table.is(b"APIC") {
            read_madt(&table, &mut acpi);
        } else if table.is(b"FACP") {
            power::read_fadt(&table, &mut acpi);
        }
    }
    acpi
}

/// Where firmware without a boot loader's help leaves the root pointer: ACPI 6.5, 5.2.5.1.
fn search(read: &Read<'_>) -> Option<u64> {
    let extended = u64::from(u16::from_le_bytes(bytes(read, 0x40e))) << 4;
    let places = (extended..extended + 1024).step_by(16).chain((0xe_0000..0x10_0000).step_by(16));
    places.into_iter().find(|at| bytes::<8>(read, *at) == *b"RSD PTR ")
}

/// All tables that the root names: by 64-bit addresses from revision 2 on, by 32-bit ones before.
fn tables<'a>(pointer: u64, read: &'a Read<'a>) -> impl Iterator<Item = Table<'a>> {
    let [revision] = bytes(read, pointer + 15);
    let wide = u64::from_le_bytes(bytes(read, pointer + 24));
    let is_wide = revision >= 2 && wide != 0;
    let narrow = u64::from(u32::from_le_bytes(bytes(read, pointer + 16)));
    let root = Table::new(if is_wide { wide } else { narrow }, read);
    let width = if is_wide { 8 } else { 4 };
    let entries = root.length.saturating_sub(Table::HEADER) / width;
    (0..entries).map(move |entry| {
        let offset = Table::HEADER + entry * width;
        let at = match is_wide {
            true => u64::from_le_bytes(root.field(offset)),
            false => u64::from(u32::from_le_bytes(root.field(offset))),
        };
        Table::new(at, read)
    })
}

/// The table of interrupt controllers: ACPI 6.5, 5.2.12.
fn read_madt(table: &Table<'_>, acpi: &mut Acpi) {
    /// The CPU can be used now.
    const ENABLED: u32 = 1;
    acpi.controller = u64::from(u32::from_le_bytes(table.field(36)));
    let mut at = 44;
    while at < table.length {
        let [kind, length] = table.field(at);
        let half = |offset: u64| u32::from_le_bytes(table.field(at + offset));
        let number = match kind {
            0 if half(4) & ENABLED != 0 => Some(u32::from(table.field::<1>(at + 3)[0])),
            9 if half(8) & ENABLED != 0 => Some(half(4)),
            5 => {
                acpi.controller = u64::from_le_bytes(table.field(at + 4));
                None
            }
            _ => None,
        };
        if let Some(number) = number
            && !acpi.cpus.push(number)
        {
            log::warn!("more than {MAX_CPUS} processors: the others stay off");
        }
        at += u64::from(length).max(2);
    }
}
