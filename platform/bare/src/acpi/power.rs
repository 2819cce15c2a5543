//! The FADT, and the one name of the DSDT that switching off needs: ACPI 6.5, 4.8 and 5.2.9.

use super::{Acpi, Table};

/// A register of one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Register {
    /// A port.
    Port(u16),
    /// Physical memory.
    Memory(u64),
}

/// How the power goes off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SoftOff {
    /// The value goes to a port, 16 bits wide.
    Control(u16, u16),
    /// The value goes to a register of a machine without the usual ones.
    Sleep(Register, u8),
}

/// Reads the table.
pub(super) fn read_fadt(table: &Table<'_>, acpi: &mut Acpi) {
    /// The machine has none of the usual power registers.
    const REDUCED: u32 = 1 << 20;
    /// There is a register that resets.
    const RESETS: u32 = 1 << 10;
    let half = |offset: u64| u32::from_le_bytes(table.field(offset));
    let flags = half(112);
    if flags & RESETS != 0 {
        acpi.reset = register(table, 116).map(|register| (register, table.field::<1>(128)[0]));
    }
    let wide = u64::from_le_bytes(table.field(140));
    let narrow = u64::from(half(40));
    let definitions = Table::new(if wide != 0 { wide } else { narrow }, table.read);
    let kind = sleep_kind(&definitions);
    if flags & REDUCED != 0 {
        /// Sleep control: kind in bits 2 to 4, and the bit that starts it.
        const START: u8 = 1 << 5;
        let value = kind.unwrap_or(0) << 2 | START;
        acpi.soft_off = register(table, 244).map(|register| SoftOff::Sleep(register, value));
        return;
    }
    /// Power management control: kind in bits 10 to 12, and the bit that starts it.
    const START: u16 = 1 << 13;
    let port = half(64) as u16;
    if let Some(kind) = kind
        && port != 0
    {
        acpi.soft_off = Some(SoftOff::Control(port, u16::from(kind) << 10 | START));
    }
    acpi.timer_port = Some(half(76) as u16).filter(|port| *port != 0);
}

/// A generic address: its space, three bytes about its width, and 64 bits.
fn register(table: &Table<'_>, offset: u64) -> Option<Register> {
    let [space] = table.field(offset);
    let address = u64::from_le_bytes(table.field(offset + 4));
    match space {
        0 if address != 0 => Some(Register::Memory(address)),
        1 if address != 0 => Some(Register::Port(address as u16)),
        _ => None,
    }
}

/// The number of the state "soft off", first of the package named `_S5_`.
fn sleep_kind(definitions: &Table<'_>) -> Option<u8> {
    const PACKAGE: u8 = 0x12;
    const BYTE: u8 = 0x0a;
    let last = definitions.length.checked_sub(12)?;
    let at = (Table::HEADER..last).find(|at| definitions.field::<5>(*at) == *b"_S5_\x12")?;
    debug_assert_eq!(definitions.field::<1>(at + 4), [PACKAGE]);
    // The package's length takes 1 to 4 bytes: the first one's upper bits say how many more. Then the number of
    // elements, then the first element: a byte behind a prefix, or the constants 0 and 1, which stand for themselves.
    let [lead] = definitions.field(at + 5);
    let element = at + 5 + 1 + u64::from(lead >> 6) + 1;
    match definitions.field::<2>(element) {
        [BYTE, kind] => Some(kind),
        [kind @ (0 | 1), _] => Some(kind),
        _ => None,
    }
}
