//! Owner records: in debug builds, and with the feature `kmem-debug`, every item says where it was allocated and freed.
//!
//! Behind an item lie a red zone and a record of it. A free item is full of junk; so what is written to it later is
//! seen when it is handed out again, and what is written beyond its end when it is freed. Each report names both
//! places. This is what "entry not free" (#2083) wanted to know and could not tell.
//!
//! Locks: none; an item is the caller's. Two who free one at once are told apart by one exchange of its state.
//!
//! Z5. A free item holds junk up to its red zone, and its record says that it is free.

use core::fmt;
use core::panic::Location;
use core::ptr;

use rumpvm_arch::{PAGE_SIZE, PhysAddr};
use rumpvm_platform::Platform;

use super::slab::word;
use super::story::tell;
use crate::phys::Phys;
use crate::sync::Ordering;

/// Whether items have records.
pub(crate) const DEBUG: bool = cfg!(any(debug_assertions, feature = "kmem-debug"));

/// Red zone behind an item, at least.
const RED_ZONE: u32 = 16;
/// What a red zone holds.
const RED: u8 = 0xed;
/// What a free item holds: no valid pointer, no small number.
const FREED: u8 = 0xdf;
/// What a new item holds.
const NEW: u8 = 0xa7;

/// Words of a record, and of the slab's link behind it.
const STATE: u64 = 0;
const SIZE: u64 = 8;
const ALLOCATED: u64 = 16;
const LAST_FREED: u64 = 24;
const SEAL: u64 = 32;
const LINK: u32 = 40;
const RECORD: u32 = 48;

/// States. Anything else was written by somebody else.
const FREE: u64 = 0x4672_6565_4672_6565;
const OUT: u64 = 0x4f75_7421_4f75_7421;

/// Where the records of one zone are, and what they are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Records {
    name: &'static str,
    /// From an item to its record.
    offset: u32,
}

/// An item as the reports name it.
struct Item<'p, P: Platform> {
    phys: &'p Phys<P>,
    records: Records,
    at: PhysAddr,
    /// Address that its user knows.
    address: usize,
}

/// A place in the source, if the record still knows it.
struct Place(Option<&'static Location<'static>>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(place) => place.fmt(f),
            None => f.write_str("an unknown place"),
        }
    }
}

impl Records {
    /// The records of items of `size` bytes; with the bytes that one and its red zone and record take, and where in
    /// them the slab has its link.
    pub(crate) fn new(name: &'static str, size: u32) -> (Self, u32, u32) {
        let offset = (size + RED_ZONE).next_multiple_of(8);
        (Self { name, offset }, offset + RECORD, offset + LINK)
    }

    fn item<P: Platform>(self, phys: &Phys<P>, at: PhysAddr) -> Item<'_, P> {
        let address = phys.platform.phys_to_virt(at).as_ptr() as usize;
        Item { phys, records: self, at, address }
    }

    /// Makes the record of an item of a new slab.
    pub(crate) fn begin<P: Platform>(self, phys: &Phys<P>, at: PhysAddr) {
        let item = self.item(phys, at);
        item.fill(0, u64::from(self.offset), FREED);
        for field in [SIZE, ALLOCATED, LAST_FREED] {
            item.word(field).set(0);
        }
        item.seal();
        item.word(STATE).store(FREE, Ordering::Release);
    }

    /// The item is handed out, to be used up to byte `size`.
    pub(crate) fn hand_out<P: Platform>(
        self,
        phys: &Phys<P>,
        at: PhysAddr,
        size: u64,
        now: &'static Location<'static>,
    ) {
        let item = self.item(phys, at);
        match item.word(STATE).compare_exchange(FREE, OUT, Ordering::AcqRel) {
            Ok(_) => {}
            Err(OUT) => {
                let (allocated, freed) = item.places();
                item.tell(format_args!(
                    "entry not free: it is handed out at {now} and in use, allocated at {allocated}, freed at {freed}"
                ))
            }
            Err(_) => item.overwritten(now),
        }
        if let Some(byte) = item.find(0, u64::from(self.offset), FREED) {
            let (allocated, freed) = item.places();
            item.tell(format_args!(
                "byte {byte} was written after it was freed: allocated at {allocated}, freed at {freed}, seen at {now}"
            ));
        }
        item.fill(0, size, NEW);
        item.fill(size, u64::from(self.offset), RED);
        item.word(SIZE).set(size);
        item.word(ALLOCATED).set(ptr::from_ref(now).expose_provenance() as u64);
        item.seal();
    }

    /// The item comes back from who used `size` bytes of it, if he knows.
    pub(crate) fn take_back<P: Platform>(
        self,
        phys: &Phys<P>,
        at: PhysAddr,
        size: Option<u64>,
        now: &'static Location<'static>,
    ) {
        let item = self.item(phys, at);
        match item.word(STATE).compare_exchange(OUT, FREE, Ordering::AcqRel) {
            Ok(_) => {}
            Err(FREE) => {
                let (allocated, freed) = item.places();
                item.tell(format_args!(
                    "it is freed twice: allocated at {allocated}, freed at {freed}, and again at {now}"
                ))
            }
            Err(_) => item.overwritten(now),
        }
        let had = item.word(SIZE).get();
        let (allocated, _) = item.places();
        if size.is_some_and(|size| size != had) {
            item.tell(format_args!(
                "it is freed with another size, not {had}: allocated at {allocated}, freed at {now}"
            ));
        }
        if let Some(byte) = item.find(had, u64::from(self.offset), RED) {
            item.tell(format_args!(
                "byte {byte} was written, of {had}: allocated at {allocated}, freed at {now}"
            ));
        }
        item.word(LAST_FREED).set(ptr::from_ref(now).expose_provenance() as u64);
        item.seal();
    }

    /// Nobody uses the item any more, nor does its zone's destructor.
    pub(crate) fn bury<P: Platform>(self, phys: &Phys<P>, at: PhysAddr) {
        self.item(phys, at).fill(0, u64::from(self.offset), FREED);
    }

    /// The item that begins at `at` belongs to somebody else, or begins elsewhere.
    pub(crate) fn not_ours<P: Platform>(
        self,
        phys: &Phys<P>,
        address: usize,
        now: &'static Location<'static>,
    ) -> ! {
        let name = self.name;
        tell(
            phys,
            format_args!("zone {name}: {address:#x} is freed at {now} and is none of its items"),
        )
    }

    /// Changes the size of an item that is out.
    pub(crate) fn resize<P: Platform>(
        self,
        phys: &Phys<P>,
        at: PhysAddr,
        size: u64,
        now: &'static Location<'static>,
    ) {
        let item = self.item(phys, at);
        let had = item.word(SIZE).get();
        let (allocated, _) = item.places();
        if let Some(byte) = item.find(had, u64::from(self.offset), RED) {
            item.tell(format_args!(
                "byte {byte} was written, of {had}: allocated at {allocated}, resized at {now}"
            ));
        }
        item.fill(had.min(size), size, NEW);
        item.fill(size, u64::from(self.offset), RED);
        item.word(SIZE).set(size);
    }

    /// Bytes that are used of an item that is out.
    pub(crate) fn size<P: Platform>(self, phys: &Phys<P>, at: PhysAddr) -> u64 {
        self.item(phys, at).word(SIZE).get()
    }

    /// Where an item that is out was allocated.
    pub(crate) fn allocated<P: Platform>(
        self,
        phys: &Phys<P>,
        at: PhysAddr,
    ) -> Option<&'static Location<'static>> {
        let item = self.item(phys, at);
        (item.word(STATE).get() == OUT).then(|| item.places().0.0).flatten()
    }
}

impl<P: Platform> Item<'_, P> {
    fn word(&self, field: u64) -> &crate::sync::Atomic<u64, P> {
        word(self.phys, PhysAddr(self.at.0 + u64::from(self.records.offset) + field))
    }

    fn seal(&self) {
        self.word(SEAL).set(self.sealed());
    }

    /// What the seal of its two places is.
    fn sealed(&self) -> u64 {
        let (allocated, freed) = (self.word(ALLOCATED).get(), self.word(LAST_FREED).get());
        (allocated ^ freed.rotate_left(32) ^ self.at.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ OUT
    }

    /// Where it was allocated and where it was last freed.
    fn places(&self) -> (Place, Place) {
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

    fn overwritten(&self, now: &'static Location<'static>) -> ! {
        self.tell(format_args!(
            "its record was overwritten, as by a write beyond the end of this item or the one before: seen at {now}"
        ))
    }

    fn tell(&self, what: fmt::Arguments<'_>) -> ! {
        tell(
            self.phys,
            format_args!("zone {}, item {:#x}: {what}", self.records.name, self.address),
        )
    }

    /// Fills the bytes from `start` to `end`.
    fn fill(&self, start: u64, end: u64, with: u8) {
        let bytes = [with; 64];
        self.pieces(start, end, |at, length| {
            self.phys.write(at.frame(), at.0 % PAGE_SIZE, &bytes[..length]);
            None::<()>
        });
    }

    /// The first byte from `start` to `end` that is not `what`.
    fn find(&self, start: u64, end: u64, what: u8) -> Option<u64> {
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
