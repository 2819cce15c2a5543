//! Seals: what may no more be done to a memory file, whoever holds it; see fcntl(2), `F_ADD_SEALS`.
//!
//! Locks: `resizing`, so that no change of the size is under way when it is forbidden.
//! Sleep: for it.
//!
//! `writers` counts shared areas that may ever be stored through. It is [`DENIED`] once stores are sealed off; who
//! counts an area in and who seals meet at that word.

use bitflags::bitflags;

use rumpvm_platform::Platform;

use super::{Object, Pager};
use crate::error::CallError;
use crate::pmap::Mmu;
use crate::sync::Ordering;

bitflags! {
    /// Seals, with Linux's values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Seals: u32 {
        /// No more seals.
        const SEAL = 1;
        /// It does not become shorter.
        const SHRINK = 2;
        /// It does not become longer.
        const GROW = 4;
        /// Nobody stores to it.
        const WRITE = 8;
        /// Nobody stores to it but through mappings that there are already.
        const FUTURE_WRITE = 0x10;
        /// Its executable bits do not change. If they are set, none of the above is possible either.
        const EXEC = 0x20;
    }
}

bitflags! {
    /// Flags of memfd_create(2), with Linux's values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MemoryFlags: u32 {
        /// For the home's descriptor.
        const CLOEXEC = 1;
        /// Seals can be added.
        const ALLOW_SEALING = 2;
        /// Superpages of a hugetlb file system, of which there is no pool here.
        const HUGETLB = 4;
        /// Not executable, and sealed so; other seals can be added.
        const NOEXEC_SEAL = 8;
        /// Executable, as it is without this.
        const EXEC = 0x10;
    }
}

/// What anonymous memory is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A mapping, which is all that there is of it.
    Mapping,
    /// A memory file; with the mode bits to execute it, or without.
    File {
        /// Whether they are set.
        executable: bool,
    },
    /// A segment of System V.
    Segment,
}

/// Stores are sealed off.
const DENIED: u64 = u64::MAX;

impl MemoryFlags {
    /// The seals of a new memory file and what it is, or what is wrong with the flags.
    pub(crate) fn decode(self) -> Result<(Seals, Purpose), CallError> {
        let (exec, sealed) = (Self::EXEC, Self::NOEXEC_SEAL);
        if self.bits() & !Self::all().bits() != 0 || self.contains(exec | sealed) {
            return Err(CallError::Invalid);
        }
        if self.contains(Self::HUGETLB) {
            return Err(CallError::NoMemory);
        }
        let executable = !self.contains(sealed);
        let seals = match (executable, self.contains(Self::ALLOW_SEALING)) {
            (false, _) => Seals::EXEC,
            (true, true) => Seals::empty(),
            (true, false) => Seals::SEAL,
        };
        Ok((seals, Purpose::File { executable }))
    }
}

impl<P: Platform> Object<P> {
    /// What it is for, if it is anonymous memory.
    pub(crate) fn purpose(&self) -> Option<Purpose> {
        match self.pager {
            Pager::Memory(purpose) => Some(purpose),
            Pager::File(_) | Pager::Device { .. } => None,
        }
    }

    /// Its seals; none if it is not a memory file, and then none can be added.
    pub fn seals(&self) -> Option<Seals> {
        let is_file = matches!(self.purpose(), Some(Purpose::File { .. }));
        is_file.then(|| self.sealed())
    }

    pub(crate) fn sealed(&self) -> Seals {
        Seals::from_bits_retain(self.seals.load(Ordering::Acquire))
    }

    /// Adds seals. That the descriptor was opened for writing is for the home to check. On an error nothing has
    /// changed.
    pub(crate) fn add_seals(&self, mmu: &Mmu<P>, mut seals: Seals) -> Result<(), CallError> {
        if seals.bits() & !Seals::all().bits() != 0 {
            return Err(CallError::Invalid);
        }
        let _resizing = self.resizing(mmu);
        let before = self.seals().ok_or(CallError::Invalid)?;
        if before.contains(Seals::SEAL) {
            return Err(CallError::NotPermitted);
        }
        if seals.contains(Seals::EXEC) && self.purpose() == Some(Purpose::File { executable: true })
        {
            seals |= Seals::SHRINK | Seals::GROW | Seals::WRITE | Seals::FUTURE_WRITE;
        }
        let denies = seals.contains(Seals::WRITE) && !before.contains(Seals::WRITE);
        if denies && self.writers.compare_exchange(0, DENIED, Ordering::AcqRel).is_err() {
            return Err(CallError::Busy);
        }
        self.seals.store((before | seals).bits(), Ordering::Release);
        Ok(())
    }

    /// One more shared area that may be stored through, unless that is sealed off.
    pub(crate) fn add_writer(&self) -> Result<(), CallError> {
        let mut writers = self.writers.load(Ordering::Relaxed);
        while writers != DENIED {
            match self.writers.compare_exchange(writers, writers + 1, Ordering::AcqRel) {
                Ok(_) => return Ok(()),
                Err(now) => writers = now,
            }
        }
        Err(CallError::NotPermitted)
    }

    /// One less.
    pub(crate) fn remove_writer(&self) {
        self.writers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Shared areas that may be stored through. For checks.
    pub(crate) fn writers(&self) -> u64 {
        let writers = self.writers.load(Ordering::Acquire);
        if writers == DENIED { 0 } else { writers }
    }
}
