//! One item with its record: the words behind it, and the bytes that say whether somebody wrote where he should not.
//!
//! Locks: none; an item is the caller's.

use core::fmt;
use core::panic::Location;
use core::ptr;

use rumpvm_arch::{PAGE_SIZE, PhysAddr};
use rumpvm_platform::Platform;

use super::records::{RED, Records};
use super::slab::word;
use super::story::tell;
use crate::phys::Phys;

/// Words of a record, and of the slab's link behind it.
pub(super) const STATE: u64 = 0;
pub(super) const SIZE: u64 = 8;
pub(super) const ALLOCATED: u64 = 16;
pub(super) const LAST_FREED: u64 = 24;
const SEAL: u64 = 32;
pub(super) const LINK: u32 = 40;
pub(super) const RECORD: u32 = 48;

/// States. Anything else was written by somebody else.
pub(super) const FREE: u64 = 0x4672_6565_4672_6565;
pub(super) const OUT: u64 = 0x4f75_7421_4f75_7421;

/// An item as the reports name it.
pub(super) struct Item<'p, P: Platform> {
    pub(super) phys: &'p Phys<P>,
    pub(super) records: Records,
    pub(super) at: PhysAddr,
    /// Address that its user knows.
    pub(super) address: usize,
}

/// A place in the source, if the record still knows it.
pub(super) struct Place(pub(super) Option<&'static Location<'static>>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(place) => place.fmt(f),
            None => f.write_str("an unknown place"),
        }
    }
}

impl<P: Platform> Item<'_, P> {
    pub(super) fn word(&self, field: u64) -> &crate::sync::Atomic<u64, P> {
        word(self.phys, PhysAddr(self.at.0 + u64::from(self.records.offset) + field))
    }

    pub(super) fn seal(&self) {
        self.word(SEAL).set(self.sealed());
    }

    /// What the seal of its two places is.
    fn sealed(&self) -> u64 {
        let (allocated, freed) = (self.word(ALLOCATED).get(), self.word(LAST_FREED).get());
        (allocated ^ freed.rotate_left(32) ^ self.at.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ OUT
    }

    /// Where it was allocated and where it was last freed.
    pub(super) fn places(&self) -> (Place, Place) {
        if self.word(SEAL).get() != self.sealed() {
            return (Place(None), Place(None));
        }
        let place = |field| {
            let from =
                ptr::with_exposed_provenance::<Location<'static>>(self.word(field).get() as usize);
            // SAFETY: the word is zero or a reference to a `Location` that lives for good, which `hand_out` or
            // `take_back` stored there: the seal, which only they make, is that of these two words at this address.
            Place(unsafe { from.as_ref() })
        };
        (place(ALLOCATED), place(LAST_FREED))
    }

    /// Nobody has written behind the `had` bytes of it that are used; it is now what `done` says.
    pub(super) fn look_behind(&self, had: u64, done: &str, now: &'static Location<'static>) {
        if let Some(byte) = self.find(had, u64::from(self.records.offset), RED) {
            let (allocated, _) = self.places();
            self.tell(format_args!(
                "byte {byte} was written, of {had}: allocated at {allocated}, {done} at {now}"
            ));
        }
    }

    pub(super) fn overwritten(&self, now: &'static Location<'static>) -> ! {
        self.tell(format_args!(
            "its record was overwritten, as by a write beyond the end of this item or the one before: seen at {now}"
        ))
    }

    pub(super) fn tell(&self, what: fmt::Arguments<'_>) -> ! {
        tell(
            self.phys,
            format_args!("zone {}, item {:#x}: {what}", self.records.name, self.address),
        )
    }

    /// Fills the bytes from `start` to `end`.
    pub(super) fn fill(&self, start: u64, end: u64, with: u8) {
        let bytes = [with; 64];
        self.pieces(start, end, |at, length| {
            self.phys.write(at.frame(), at.0 % PAGE_SIZE, &bytes[..length]);
            None::<()>
        });
    }

    /// The first byte from `start` to `end` that is not `what`.
    pub(super) fn find(&self, start: u64, end: u64, what: u8) -> Option<u64> {
        self.pieces(start, end, |at, length| {
            let mut bytes = [0; 64];
            self.phys.read(at.frame(), at.0 % PAGE_SIZE, &mut bytes[..length]);
            let other = bytes[..length].iter().position(|byte| *byte != what)?;
            Some(at.0 + other as u64 - self.at.0)
        })
    }

    /// Calls `with` for pieces of no more than 64 bytes, none of which crosses from one frame to another.
    fn pieces<T>(
        &self,
        start: u64,
        end: u64,
        mut with: impl FnMut(PhysAddr, usize) -> Option<T>,
    ) -> Option<T> {
        let (mut at, end) = (self.at.0 + start, self.at.0 + end);
        while at < end {
            let next = (at / 64 * 64 + 64).min(end);
            if let Some(found) = with(PhysAddr(at), (next - at) as usize) {
                return Some(found);
            }
            at = next;
        }
        None
    }
}
