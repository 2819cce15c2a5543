//! Page-table formats: one geometry per format, one entry encoding for all of x86.
//!
//! Levels count from 1, the tables whose entries map 4 KiB pages, up to [`Format::LEVELS`], the root.
//! Every x86 format has the same meaning for the same bit (Intel SDM vol. 3A, chapter 4), so an entry
//! is one type, [`Pte`], and a format says how wide it is stored, how many there are in a table, and
//! which bits it lacks.

use core::fmt;

use crate::{Frame, PAGE_SHIFT, PAGE_SIZE, Prot, VirtAddr, VirtRange};

/// The shape of one kind of page table.
///
/// All methods are constants in disguise: a pmap generic over a format compiles to the shifts and
/// masks that one would write by hand.
pub trait Format: Send + Sync + 'static {
    /// What the manual calls it.
    const NAME: &'static str;
    /// Levels of tables; the root is at this level.
    const LEVELS: usize;
    /// log2 of the entries in a table below the root.
    const INDEX_BITS: u32;
    /// log2 of the entries in the root.
    const ROOT_BITS: u32;
    /// Entries of the root that serve user memory: the first ones. Those behind them, if there are any, belong to the kernel
    /// that lives there in every space; whoever walks or frees a space leaves them alone.
    const ROOT_ENTRIES: usize = 1 << Self::ROOT_BITS;
    /// Entries are stored in 8 bytes; otherwise in 4.
    const WIDE: bool;
    /// There is a no-execute bit.
    const HAS_NX: bool;
    /// Entries of the root carry rights. PAE's four root entries have those bits reserved.
    const ROOT_HAS_RIGHTS: bool;
    /// One past the highest address of user memory.
    const USER_END: VirtAddr;
    /// One past the highest physical frame that an entry can name, within what [`Frame`] can.
    const FRAME_END: u64;
}

/// Number of entries of a table at `level`.
#[inline]
pub const fn entries<F: Format>(level: usize) -> usize {
    1 << if level == F::LEVELS { F::ROOT_BITS } else { F::INDEX_BITS }
}

/// As [`entries`], without those of the root that belong to a kernel.
#[inline]
pub const fn user_entries<F: Format>(level: usize) -> usize {
    if level == F::LEVELS { F::ROOT_ENTRIES } else { entries::<F>(level) }
}

/// Bytes that one entry of a table at `level` covers; at level `LEVELS + 1`, all that the root does.
#[inline]
pub const fn span<F: Format>(level: usize) -> u64 {
    if level > F::LEVELS {
        return 1 << (PAGE_SHIFT + F::INDEX_BITS * (F::LEVELS as u32 - 1) + F::ROOT_BITS);
    }
    1 << (PAGE_SHIFT + F::INDEX_BITS * (level as u32 - 1))
}

/// Which entry of a table at `level` serves `at`.
#[inline]
pub const fn index<F: Format>(level: usize, at: VirtAddr) -> usize {
    let shift = PAGE_SHIFT + F::INDEX_BITS * (level as u32 - 1);
    (at.0 >> shift) as usize & (entries::<F>(level) - 1)
}

/// The addresses above user memory, which are the kernel's in every space; without the last page, so that each end of a range
/// in it is an address.
#[inline]
pub const fn kernel_half<F: Format>() -> VirtRange {
    let start = F::USER_END.0.next_multiple_of(span::<F>(F::LEVELS));
    // Addresses that are longer than 32 bits are sign-extended: those of the upper half begin with ones.
    let (start, last) =
        if start >> 32 == 0 { (start, u32::MAX as u64) } else { (!(start - 1), u64::MAX) };
    VirtRange { start: VirtAddr(start), end: VirtAddr(last & !(PAGE_SIZE - 1)) }
}

/// One page-table entry, widened to 64 bits whatever the format stores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pte(pub u64);

impl Pte {
    /// The absent entry.
    pub const ABSENT: Self = Self(0);

    /// Present.
    pub const P: u64 = 1 << 0;
    /// Writable.
    pub const W: u64 = 1 << 1;
    /// Reachable from user mode.
    pub const U: u64 = 1 << 2;
    /// Accessed: set by the CPU when it uses the entry.
    pub const A: u64 = 1 << 5;
    /// Dirty: set by the CPU when it writes through the entry.
    pub const D: u64 = 1 << 6;
    /// Stays when CR3 is loaded, where the CPU is told so (CR4.PGE): entries that are the same in every space.
    pub const G: u64 = 1 << 8;
    /// For software, in leaf entries: their owner relies on it, so nobody drops it on his own account.
    pub const WIRED: u64 = 1 << 9;
    /// For software, in leaf entries: no reverse map knows of it.
    pub const UNTRACKED: u64 = 1 << 10;
    /// No instruction fetches.
    pub const NX: u64 = 1 << 63;
    /// The frame's address: bits 12 to 51.
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

    /// An entry of a leaf table: `frame` with `prot` for user mode. Empty rights give an absent entry,
    /// because x86 has no present page without read access.
    #[inline]
    pub const fn page<F: Format>(frame: Frame, prot: Prot) -> Self {
        if prot.is_empty() {
            return Self::ABSENT;
        }
        let write = if prot.contains(Prot::WRITE) { Self::W } else { 0 };
        let no_exec = if F::HAS_NX && !prot.contains(Prot::EXEC) { Self::NX } else { 0 };
        Self(frame.start().0 | Self::P | Self::U | write | no_exec)
    }

    /// An entry at `level` (2 or more) that points to the table in `frame`. Writes below it are
    /// possible only if `writable`; PAE's root entries cannot forbid them.
    #[inline]
    pub const fn table<F: Format>(level: usize, frame: Frame, writable: bool) -> Self {
        let rights = if level == F::LEVELS && !F::ROOT_HAS_RIGHTS {
            0
        } else {
            Self::U | if writable { Self::W } else { 0 }
        };
        Self(frame.start().0 | Self::P | rights)
    }

    /// Whether the CPU may use it.
    #[inline]
    pub const fn is_present(self) -> bool {
        self.0 & Self::P != 0
    }

    /// Whether stores may pass it.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::W != 0
    }

    /// Whether the CPU has used it.
    #[inline]
    pub const fn is_accessed(self) -> bool {
        self.0 & Self::A != 0
    }

    /// Whether the CPU has written through it.
    #[inline]
    pub const fn is_dirty(self) -> bool {
        self.0 & Self::D != 0
    }

    /// The frame that it names.
    #[inline]
    pub const fn frame(self) -> Frame {
        Frame(((self.0 & Self::ADDRESS) >> PAGE_SHIFT) as u32)
    }

    /// The rights of a leaf entry; empty if it is absent.
    #[inline]
    pub const fn prot<F: Format>(self) -> Prot {
        if !self.is_present() {
            return Prot::empty();
        }
        let mut prot = Prot::READ;
        if self.is_writable() {
            prot = prot.union(Prot::WRITE);
        }
        if !F::HAS_NX || self.0 & Self::NX == 0 {
            prot = prot.union(Prot::EXEC);
        }
        prot
    }

    /// The same entry with the bits of `mask` cleared.
    #[inline]
    pub const fn without(self, mask: u64) -> Self {
        Self(self.0 & !mask)
    }

    /// The same entry with the bits of `mask` set.
    #[inline]
    pub const fn with(self, mask: u64) -> Self {
        Self(self.0 | mask)
    }
}

impl fmt::Debug for Pte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_present() {
            return write!(f, "absent({:#x})", self.0);
        }
        write!(f, "{:?}", self.frame())?;
        for (bit, name) in [
            (Self::W, " W"),
            (Self::U, " U"),
            (Self::A, " A"),
            (Self::D, " D"),
            (Self::G, " G"),
            (Self::WIRED, " wired"),
            (Self::UNTRACKED, " untracked"),
            (Self::NX, " NX"),
        ] {
            if self.0 & bit != 0 {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}
