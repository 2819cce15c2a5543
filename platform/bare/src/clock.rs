//! Time: nanoseconds since the start, and alarms.
//!
//! The time stamp counter counts; the timer of each CPU's interrupt controller interrupts. What one tick of each
//! is worth is told by the CPU or its hypervisor, or measured against ACPI's timer.
//!
//! Locks: none. Owns: the two scales.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::acpi::Acpi;
use crate::apic;
use crate::cpu::features::features;
use crate::scheduler;

const SECOND: u64 = 1_000_000_000;
/// ACPI's timer, by its definition.
const ACPI_HZ: u64 = 3_579_545;
/// Long enough for one part in a thousand, short enough not to be noticed at the start.
const MEASURE: u64 = 2_000_000;

/// The counter's value at the image's first instruction.
static ENTRY: AtomicU64 = AtomicU64::new(0);
/// The counter's value at the start of time.
static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds in 2^32 of its ticks.
static SCALE: AtomicU64 = AtomicU64::new(0);
/// Frequency of the alarm timer.
static TIMER_HZ: AtomicU64 = AtomicU64::new(0);
/// The latest time that anybody was told, so that it never goes back where counters differ a little.
static LATEST: AtomicU64 = AtomicU64::new(0);

fn counter() -> u64 {
    // SAFETY: every CPU here has it (`features`).
    unsafe { x86::time::rdtsc() }
}

/// The counter was at `ticks` when the image began.
pub(crate) fn entered(ticks: u64) {
    ENTRY.store(ticks, Ordering::Relaxed);
}

/// What it was at then.
pub(crate) fn at_entry() -> u64 {
    ENTRY.load(Ordering::Relaxed)
}

/// Finds the scales. Interrupts are masked.
pub(crate) fn start(acpi: &Acpi) {
    let features = features();
    let (counter_hz, timer_hz) = match (features.nanosecond_timer, acpi.timer_port) {
        (true, _) => (features.tsc_hz.unwrap_or_else(|| by_timer(SECOND)), SECOND),
        (false, Some(port)) => by_acpi(port),
        (false, None) => {
            panic!("this machine has no clock that rumpvm knows to measure its timers by")
        }
    };
    let scale = u128::from(SECOND) << 32;
    SCALE.store((scale / u128::from(counter_hz.max(1))) as u64, Ordering::Relaxed);
    TIMER_HZ.store(timer_hz, Ordering::Relaxed);
    START.store(counter(), Ordering::Relaxed);
}

/// The counter's frequency, measured by the alarm timer's.
fn by_timer(timer_hz: u64) -> u64 {
    apic::measure_timer();
    let (first, begin) = (u64::from(apic::measured()), counter());
    loop {
        let passed = u64::from(apic::measured()) - first;
        if passed * SECOND / timer_hz >= MEASURE {
            return (counter() - begin) * timer_hz / passed;
        }
        core::hint::spin_loop();
    }
}

/// Both frequencies, measured by ACPI's timer at `port`, which has at least 24 bits.
fn by_acpi(port: u16) -> (u64, u64) {
    // SAFETY: reading the port that the tables name has no effect.
    let acpi = || unsafe { x86::io::inl(port) } & 0xff_ffff;
    apic::measure_timer();
    let (first, timer, begin) = (acpi(), u64::from(apic::measured()), counter());
    loop {
        let passed = u64::from(acpi().wrapping_sub(first) & 0xff_ffff);
        if passed * SECOND / ACPI_HZ >= MEASURE {
            let per_second = |ticks: u64| ticks * ACPI_HZ / passed;
            return (
                per_second(counter() - begin),
                per_second(u64::from(apic::measured()) - timer),
            );
        }
        core::hint::spin_loop();
    }
}

/// Nanoseconds since the start; never goes back.
pub(crate) fn now() -> u64 {
    let ticks = counter().saturating_sub(START.load(Ordering::Relaxed));
    let scaled = u128::from(ticks) * u128::from(SCALE.load(Ordering::Relaxed));
    let now = (scaled >> 32) as u64;
    LATEST.fetch_max(now, Ordering::Relaxed).max(now)
}

/// Waits for some microseconds without giving up the CPU.
pub(crate) fn wait(microseconds: u64) {
    let end = now() + microseconds * 1000;
    while now() < end {
        core::hint::spin_loop();
    }
}

/// Has this CPU's alarm go off in `nanoseconds`, or never. Interrupts are masked.
pub(crate) fn set_alarm(nanoseconds: Option<u64>) {
    let hz = TIMER_HZ.load(Ordering::Relaxed);
    let ticks = |time: u64| {
        let ticks = u128::from(time) * u128::from(hz) / u128::from(SECOND);
        // Zero would never come.
        (ticks as u64).clamp(1, u64::from(u32::MAX)) as u32
    };
    apic::set_timer(nanoseconds.map_or(0, ticks));
}

/// The alarm of this CPU went off.
pub(crate) fn alarm() {
    scheduler::on_alarm();
}
