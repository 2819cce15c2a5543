//! Rights of a mapping, and what an access wants.

use bitflags::bitflags;

bitflags! {
    /// What may be done to a page; the bits are those of mmap(2)'s `PROT_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Prot: u8 {
        /// Loads. x86 cannot express write without read, so `WRITE` implies it in hardware.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches. Without an NX bit (`i386`), every readable page is executable.
        const EXEC = 4;
    }
}

/// One attempt of a CPU to use memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store, or a read-modify-write.
    Write,
    /// An instruction fetch.
    Execute,
}

impl Access {
    /// The right that this access needs.
    #[inline]
    pub const fn needs(self) -> Prot {
        match self {
            Self::Read => Prot::READ,
            Self::Write => Prot::WRITE,
            Self::Execute => Prot::EXEC,
        }
    }
}

impl Prot {
    /// Every right.
    pub const ALL: Self = Self::READ.union(Self::WRITE).union(Self::EXEC);
    /// Load and store.
    pub const RW: Self = Self::READ.union(Self::WRITE);

    /// Whether x86 lets `access` through: any right at all makes a page readable, and where the
    /// format has no NX bit any right at all makes it executable.
    #[inline]
    pub const fn allows(self, access: Access, has_nx: bool) -> bool {
        match access {
            Access::Read => !self.is_empty(),
            Access::Write => self.contains(Self::WRITE),
            Access::Execute => self.contains(Self::EXEC) || (!has_nx && !self.is_empty()),
        }
    }
}
