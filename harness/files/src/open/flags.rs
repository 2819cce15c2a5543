//! Flags of open(2).

use bitflags::bitflags;

use crate::access::Rights;

bitflags! {
    /// Flags of open(2) with the values of x86-64.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct OpenFlags: u32 {
        /// For writing only; reading only is none of the two.
        const WRITE_ONLY = 0o1;
        /// For both.
        const READ_WRITE = 0o2;
        /// It is made if it is not there.
        const CREATE = 0o100;
        /// It is made, and was not there.
        const EXCLUSIVE = 0o200;
        /// A terminal does not become the session's.
        const NO_TERMINAL = 0o400;
        /// It is cut off to nothing.
        const TRUNCATE = 0o1000;
        /// Every write goes to the end.
        const APPEND = 0o2000;
        /// Nothing waits.
        const NONBLOCK = 0o4000;
        /// Data are safe when a write returns.
        const DATA_SYNC = 0o10_000;
        /// Signals say when something can be done.
        const ASYNC = 0o20_000;
        /// Past the cache.
        const DIRECT = 0o40_000;
        /// Of any size, as on every 64-bit machine.
        const LARGE = 0o100_000;
        /// Only if it is a directory.
        const DIRECTORY = 0o200_000;
        /// Not if it is a link.
        const NO_FOLLOW = 0o400_000;
        /// Reads leave no trace.
        const NO_ACCESS_TIME = 0o1_000_000;
        /// The descriptor goes at exec.
        const CLOSE_ON_EXEC = 0o2_000_000;
        /// With [`OpenFlags::DATA_SYNC`], attributes as well.
        const SYNC = 0o4_000_000;
        /// Only the name is wanted.
        const PATH = 0o10_000_000;
        /// A file without a name, in this directory; with [`OpenFlags::DIRECTORY`].
        const TEMPORARY = 0o20_000_000;
        /// What `F_SETFL` changes.
        const CHANGEABLE = 0o2000 | 0o4000 | 0o20_000 | 0o40_000 | 0o1_000_000;
        /// What `F_GETFL` shows, the large-file flag included, as Linux does.
        const KEPT = 0o3 | Self::CHANGEABLE.bits() | 0o4_010_000 | 0o100_000 | 0o10_600_000;
    }
}

impl OpenFlags {
    /// What is asked for. Both bits ask for neither, but for both rights to be checked, as drivers use it.
    pub fn rights(self) -> Rights {
        let (write, both) = (Self::WRITE_ONLY, Self::READ_WRITE);
        match self & (write | both) {
            _ if self.contains(Self::PATH) => Rights::empty(),
            access if access == write => Rights::WRITE,
            access if access == both => Rights::READ | Rights::WRITE,
            access if access == write | both => Rights::empty(),
            _ => Rights::READ,
        }
    }

    /// What the file's permissions must give for that.
    pub(crate) fn needs(self) -> Rights {
        let both = Rights::READ | Rights::WRITE;
        let rights =
            if self.contains(Self::WRITE_ONLY | Self::READ_WRITE) { both } else { self.rights() };
        if self.contains(Self::TRUNCATE) { rights | Rights::WRITE } else { rights }
    }
}
