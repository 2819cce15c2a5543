//! The time of day, from the clock that a PC's battery keeps.
//!
//! Flow:  registers behind ports 0x70 and 0x71 -> seconds since 1970, once; from then on the counter counts.
//! Locks: none; the first caller reads the registers, before there are others.

use spin::Once;

use crate::clock;

/// Seconds since 1970 when the counter was at zero.
static BEGIN: Once<u64> = Once::new();

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds since 1970, as far as the machine knows; a machine without that clock begins in 1970.
pub fn now() -> u64 {
    let begin = BEGIN.call_once(|| {
        let since_start = clock::now() / SECOND;
        read_clock().unwrap_or(0).saturating_sub(since_start)
    });
    begin * SECOND + clock::now()
}

/// Nanoseconds since the start.
pub fn since_start() -> u64 {
    clock::now()
}

/// The time stamp counter, as programs see it, at the image's first instruction.
pub fn ticks_at_entry() -> u64 {
    clock::at_entry()
}

fn register(number: u8) -> u8 {
    // SAFETY: the two ports are the clock's on every PC; where there is none, all bits read as set.
    unsafe {
        x86::io::outb(0x70, number);
        x86::io::inb(0x71)
    }
}

/// Seconds since 1970; `None` if there is no clock, or it changes while it is read again and again.
fn read_clock() -> Option<u64> {
    /// Seconds, minutes, hours, day, month, year.
    const REGISTERS: [u8; 6] = [0, 2, 4, 7, 8, 9];
    /// Says that the registers are about to change.
    const STATUS_A: u8 = 10;
    const CHANGING: u8 = 0x80;
    const STATUS_B: u8 = 11;
    const BINARY: u8 = 4;
    for _ in 0..1_000 {
        if register(STATUS_A) & CHANGING != 0 {
            continue;
        }
        let read = REGISTERS.map(register);
        if read != REGISTERS.map(register) {
            continue;
        }
        let binary = register(STATUS_B) & BINARY != 0;
        let number = |byte: u8| u64::from(if binary { byte } else { byte / 16 * 10 + byte % 16 });
        let [second, minute, hour, day, month, year] = read.map(number);
        let plausible = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
        let time = (hour * 60 + minute) * 60 + second;
        return plausible.then(|| days(2000 + year, month, day) * 86_400 + time);
    }
    None
}

/// Days from 1970 to a date since 2000, when every fourth year is a leap year for a century.
fn days(year: u64, month: u64, day: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = (year - 1969) / 4;
    let leap_day = u64::from(year.is_multiple_of(4) && month > 2);
    (year - 1970) * 365 + leaps + BEFORE[month as usize - 1] + leap_day + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_since_1970_count_leap_years() {
        assert_eq!(days(2000, 1, 1), 10_957);
        assert_eq!(days(2024, 2, 29), 19_782);
        assert_eq!(days(2024, 3, 1), 19_783);
        assert_eq!(days(2026, 11, 22), 20_779);
    }
}
