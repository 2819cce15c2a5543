//! What one says of a zone when it is made, and what it says of itself.

use core::ffi::c_void;
use core::fmt;
use core::panic::Location;
use core::ptr::NonNull;

use crate::NoMemory;

/// What makes something of an item's memory, or undoes that. Called with interrupts masked; it may not use the zone.
pub type Hook = extern "C" fn(item: NonNull<c_void>);

/// What the items of a zone are.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// What reports call the zone.
    pub name: &'static str,
    /// Bytes of an item.
    pub size: u32,
    /// An item's address is a multiple of this power of two, which is a page at most.
    pub align: u32,
    /// Most items, rounded up to whole slabs; those in magazines count too.
    pub limit: Option<u64>,
    /// Makes an item of memory: called before it is handed out, not each time.
    pub construct: Option<Hook>,
    /// Undoes that: called before the memory is given back, from within [`Zone::free`](super::Zone::free), `drain` and
    /// `close` alone. So items of such a zone stay when somebody else wants a frame, until it is drained.
    pub destroy: Option<Hook>,
}

impl Spec {
    /// Items of `size` bytes at multiples of `align`, without constructor and limit.
    pub const fn new(name: &'static str, size: u32, align: u32) -> Self {
        Self { name, size, align, limit: None, construct: None, destroy: None }
    }
}

/// Why there is no such zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpecError {
    /// Items have no size, or are too large for a slab: 16 KiB is always possible.
    Size,
    /// The alignment is no power of two, or more than a page.
    Alignment,
    /// There is no memory for its records.
    NoMemory,
}

impl From<NoMemory> for SpecError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "items of that size do not fit a slab",
            Self::Alignment => "the alignment is no power of two up to a page",
            Self::NoMemory => "out of memory",
        })
    }
}

impl core::error::Error for SpecError {}

/// Items of a zone are still in use, so it is not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InUse {
    /// How many.
    pub items: u64,
    /// Where one of them was allocated, if items have owner records.
    pub allocated: Option<&'static Location<'static>>,
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items are in use", self.items)?;
        match self.allocated {
            Some(place) => write!(f, ", one of them allocated at {place}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for InUse {}

/// What a zone has, as of some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Bytes of an item.
    pub size: u32,
    /// Items handed out, ever.
    pub taken: u64,
    /// Items that are out.
    pub out: u64,
    /// Items in magazines and in the depot.
    pub cached: u64,
    /// Items that its slabs have room for.
    pub items: u64,
    /// Frames of its slabs, and of the blocks of its depot.
    pub frames: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Items that go between a magazine and the depot at a time.
    pub batch: u32,
}
