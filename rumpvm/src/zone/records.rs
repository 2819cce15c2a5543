//! Owner records: in debug builds, and with the feature `kmem-debug`, every item says where it was allocated and freed.
//!
//! Behind an item lie a red zone and a record of it. A free item is full of junk; so what is written to it later is
//! seen when it is handed out again, and what is written beyond its end when it is freed. Each report names both
//! places. This is what "entry not free" (#2083) wanted to know and could not tell.
//!
//! Locks: none; an item is the caller's. Two who free one at once are told apart by one exchange of its state.
//!
//! Z5. A free item holds junk up to its red zone, and its record says that it is free.

use core::panic::Location;
use core::ptr;

use rumpvm_arch::PhysAddr;
use rumpvm_platform::Platform;

use super::item::{ALLOCATED, FREE, Item, LAST_FREED, LINK, OUT, RECORD, SIZE, STATE};
use super::story::tell;
use crate::phys::Phys;
use crate::sync::Ordering;

/// Whether items have records.
pub(crate) const DEBUG: bool = cfg!(any(debug_assertions, feature = "kmem-debug"));

/// Red zone behind an item, at least.
const RED_ZONE: u32 = 16;
/// What a red zone holds.
pub(super) const RED: u8 = 0xed;
/// What a free item holds: no valid pointer, no small number.
const FREED: u8 = 0xdf;
/// What a new item holds.
const NEW: u8 = 0xa7;

/// Where the records of one zone are, and what they are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Records {
    pub(super) name: &'static str,
    /// From an item to its record.
    pub(super) offset: u32,
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
        if size.is_some_and(|size| size != had) {
            let (allocated, _) = item.places();
            item.tell(format_args!(
                "it is freed with another size, not {had}: allocated at {allocated}, freed at {now}"
            ));
        }
        item.look_behind(had, "freed", now);
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
        item.look_behind(had, "resized", now);
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
