//! Chance: for addresses, for /dev/random and getrandom(2).
//!
//! Numbers follow from the time stamp counter at the start, and from the moments at which they are asked for: enough
//! to make runs different, not to keep secrets. With the word `norandmaps` on the command line addresses are always the
//! same, for measurements.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rumpvm_arch::PAGE_SIZE;
use rumpvm_bare::calendar;

static STATE: AtomicU64 = AtomicU64::new(0x853c_49e6_748f_ea9b);
static WANTED: AtomicBool = AtomicBool::new(true);

/// Makes all addresses those of a machine without chance.
pub(crate) fn leave_out() {
    WANTED.store(false, Ordering::Relaxed);
}

/// Whether addresses are chosen by chance.
pub(crate) fn is_wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

/// A number (SplitMix64, by Steele, Lea and Flood).
pub(crate) fn word() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let now = calendar::since_start();
    let before = STATE.fetch_add(STEP ^ (now << 17), Ordering::Relaxed);
    let mut mixed = before.wrapping_add(STEP);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Fills a slice.
pub(crate) fn fill(bytes: &mut [u8]) {
    for piece in bytes.chunks_mut(8) {
        piece.copy_from_slice(&word().to_le_bytes()[..piece.len()]);
    }
}

/// A number of pages of so many bits, in bytes; zero if chance is left out.
pub(crate) fn pages(bits: u32) -> u64 {
    if is_wanted() { (word() & ((1 << bits) - 1)) * PAGE_SIZE } else { 0 }
}
