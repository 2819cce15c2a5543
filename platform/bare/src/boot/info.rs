//! What the boot loader told, whichever it was: one [`BootInfo`].
//!
//! Everything is copied out of the loader's memory, so that the memory can be used for something else; but
//! modules stay where they are.

use core::fmt;

use rumpvm_arch::PhysAddr;
use spin::Once;

/// Most regions kept; a PC's map has about ten.
const REGIONS: usize = 64;
/// Most modules kept.
const MODULES: usize = 8;
/// Longest command line kept; Linux keeps as much.
const WORDS: usize = 2048;

/// What a region of physical memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// RAM for whoever wants it.
    Ram,
    /// RAM that holds ACPI tables.
    Acpi,
    /// Not to be touched, or nothing at all.
    Reserved,
}

/// A physical range and what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// What it is.
    pub kind: Kind,
}

/// A file that the loader put into memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module {
    /// First byte.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

impl Module {
    /// Its contents, once the kernel has its own tables.
    pub fn bytes(&self) -> &'static [u8] {
        let from = crate::layout::direct(PhysAddr(self.start)) as *const u8;
        // SAFETY: the direct map covers RAM, where loaders put modules; nobody is given this part of it
        // (R1 in `memory`) but who is done with the contents.
        unsafe { core::slice::from_raw_parts(from, (self.end - self.start) as usize) }
    }
}

/// A list with room for `N`.
#[derive(Clone, Copy)]
pub(crate) struct List<T: Copy, const N: usize> {
    items: [T; N],
    len: usize,
}

impl<T: Copy, const N: usize> List<T, N> {
    pub(crate) const fn new(filler: T) -> Self {
        Self { items: [filler; N], len: 0 }
    }

    /// Appends `item`; what does not fit is left out, and `false` says so.
    pub(crate) fn push(&mut self, item: T) -> bool {
        let Some(place) = self.items.get_mut(self.len) else { return false };
        *place = item;
        self.len += 1;
        true
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &self.items[..self.len]
    }
}

/// What the boot loader told.
pub struct BootInfo {
    pub(super) regions: List<Region, REGIONS>,
    pub(super) modules: List<Module, MODULES>,
    pub(super) words: List<u8, WORDS>,
    /// Where the ACPI root pointer is, if the loader knows.
    pub rsdp: Option<u64>,
}

impl BootInfo {
    pub(super) const fn new() -> Self {
        Self {
            regions: List::new(Region { start: 0, end: 0, kind: Kind::Reserved }),
            modules: List::new(Module { start: 0, end: 0 }),
            words: List::new(0),
            rsdp: None,
        }
    }

    /// The memory map, in the loader's order.
    pub fn regions(&self) -> &[Region] {
        self.regions.as_slice()
    }

    /// The modules, in the loader's order.
    pub fn modules(&self) -> &[Module] {
        self.modules.as_slice()
    }

    /// The command line; what is no UTF-8 is cut off.
    pub fn command_line(&self) -> &str {
        let bytes = self.words.as_slice();
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// Appends a region, if there is anything in it.
    pub(super) fn add_region(&mut self, start: u64, length: u64, kind: Kind) {
        let end = start.saturating_add(length);
        if start < end {
            self.regions.push(Region { start, end, kind });
        }
    }

    /// Appends a module, if there is anything in it.
    pub(super) fn add_module(&mut self, start: u64, end: u64) {
        if start < end {
            self.modules.push(Module { start, end });
        }
    }

    /// Copies the command line, which ends with a zero, from physical address `at`.
    pub(super) fn copy_words(&mut self, at: u64, read: &Read<'_>) {
        for offset in 0.. {
            let mut byte = [0];
            read(at + offset, &mut byte);
            if byte[0] == 0 || !self.words.push(byte[0]) {
                return;
            }
        }
    }
}

impl fmt::Debug for BootInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootInfo")
            .field("regions", &self.regions())
            .field("modules", &self.modules())
            .field("command_line", &self.command_line())
            .field("rsdp", &self.rsdp)
            .finish()
    }
}

/// Reads physical memory.
pub(crate) type Read<'a> = dyn Fn(u64, &mut [u8]) + 'a;

/// Reads `N` bytes at `at`.
pub(crate) fn bytes<const N: usize>(read: &Read<'_>, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    read(at, &mut bytes);
    bytes
}

/// Keeps the information for good.
pub(super) fn keep(info: BootInfo) -> &'static BootInfo {
    static KEPT: Once<BootInfo> = Once::new();
    KEPT.call_once(|| info)
}
