//! Signals: their numbers, what they carry, and what a process does about them.
//!
//! Flow:  kill(2), a fault, a timer -> [`send`] -> pending -> the thread's waker -> [`deliver`] -> a frame on the
//!        program's stack, or its end.
//! Locks: `PENDING`, `ACTIONS`: each for a few instructions, never both.

pub(crate) mod actions;
pub(crate) mod deliver;
pub(crate) mod frame;
pub(crate) mod pending;
pub(crate) mod send;
pub(crate) mod stop;

pub(crate) use actions::{Action, Actions, Default, default_of};
pub(crate) use pending::Pending;

/// Number of a signal, from 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Signal(u8);

/// A set of signals; bit 0 is signal 1.
pub(crate) type Set = u64;

impl Signal {
    pub(crate) const HUP: Self = Self(1);
    pub(crate) const ILL: Self = Self(4);
    pub(crate) const TRAP: Self = Self(5);
    pub(crate) const BUS: Self = Self(7);
    pub(crate) const FPE: Self = Self(8);
    pub(crate) const KILL: Self = Self(9);
    pub(crate) const SEGV: Self = Self(11);
    pub(crate) const PIPE: Self = Self(13);
    pub(crate) const ALRM: Self = Self(14);
    pub(crate) const CHLD: Self = Self(17);
    pub(crate) const CONT: Self = Self(18);
    pub(crate) const STOP: Self = Self(19);
    pub(crate) const TSTP: Self = Self(20);
    pub(crate) const TTIN: Self = Self(21);
    pub(crate) const TTOU: Self = Self(22);
    pub(crate) const URG: Self = Self(23);
    pub(crate) const XCPU: Self = Self(24);
    pub(crate) const XFSZ: Self = Self(25);
    pub(crate) const VTALRM: Self = Self(26);
    pub(crate) const PROF: Self = Self(27);
    pub(crate) const WINCH: Self = Self(28);
    pub(crate) const SYS: Self = Self(31);

    /// Those that say what an instruction did, delivered before all others.
    const SYNCHRONOUS: Set = Self::SEGV.bit()
        | Self::BUS.bit()
        | Self::ILL.bit()
        | Self::TRAP.bit()
        | Self::FPE.bit()
        | Self::SYS.bit();
    /// Those that nobody can block, ignore or handle.
    pub(crate) const ABSOLUTE: Set = Self::KILL.bit() | Self::STOP.bit();
    /// Those that stop a process.
    pub(crate) const STOPS: Set =
        Self::STOP.bit() | Self::TSTP.bit() | Self::TTIN.bit() | Self::TTOU.bit();
    /// The first of those that are queued rather than noted once.
    const FIRST_QUEUED: u8 = 32;

    /// The signal of that number, if there is one.
    pub(crate) fn new(number: u64) -> Option<Self> {
        (1..=64).contains(&number).then_some(Self(number as u8))
    }

    pub(crate) const fn number(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn bit(self) -> Set {
        1 << (self.0 - 1)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// The first of a set, faults before the others.
    fn first_of(set: Set) -> Option<Self> {
        let urgent = set & Self::SYNCHRONOUS;
        let set = if urgent == 0 { set } else { urgent };
        (set != 0).then(|| Self(set.trailing_zeros() as u8 + 1))
    }

    fn is_queued(self) -> bool {
        self.0 >= Self::FIRST_QUEUED
    }
}

/// What a signal carries: `siginfo_t`, of which nobody uses more than its first 48 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Info {
    pub(crate) signal: Signal,
    pub(crate) errno: i32,
    pub(crate) code: i32,
    /// What depends on the code, from byte 16 on.
    pub(crate) fields: [u64; 4],
}

/// Values of `si_code` that do not depend on the signal.
pub(crate) mod code {
    pub(crate) const USER: i32 = 0;
    pub(crate) const KERNEL: i32 = 0x80;
    pub(crate) const TKILL: i32 = -6;
    pub(crate) const TIMER: i32 = -2;
}

impl Info {
    /// Bytes of a `siginfo_t`.
    pub(crate) const BYTES: usize = 128;

    /// From the kernel, which says no more.
    pub(crate) fn kernel(signal: Signal) -> Self {
        Self { signal, errno: 0, code: code::KERNEL, fields: [0; 4] }
    }

    /// From process `pid` of user `uid`.
    pub(crate) fn from(signal: Signal, code: i32, pid: u32, uid: u32) -> Self {
        let sender = u64::from(pid) | u64::from(uid) << 32;
        Self { signal, errno: 0, code, fields: [sender, 0, 0, 0] }
    }

    /// For what an instruction did at, or with, `address`.
    pub(crate) fn fault(signal: Signal, code: i32, address: u64) -> Self {
        Self { signal, errno: 0, code, fields: [address, 0, 0, 0] }
    }

    /// About a child.
    pub(crate) fn child(code: i32, pid: u32, uid: u32, status: i32) -> Self {
        let status = u64::from(status.cast_unsigned());
        Self {
            fields: [u64::from(pid) | u64::from(uid) << 32, status, 0, 0],
            code,
            ..Self::kernel(Signal::CHLD)
        }
    }

    /// Whether both are of the same timer.
    fn is_of_timer(&self, other: &Self) -> bool {
        let (id, other_id) = (self.fields[0] as u32, other.fields[0] as u32);
        (self.signal, self.code, id) == (other.signal, other.code, other_id)
    }

    /// As a program sees it.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&self.signal.number().to_le_bytes());
        bytes[4..8].copy_from_slice(&self.errno.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.code.to_le_bytes());
        for (at, field) in self.fields.iter().enumerate() {
            bytes[16 + 8 * at..24 + 8 * at].copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// As a program says it, for `signal`.
    pub(crate) fn from_bytes(signal: Signal, bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let (errno, code) = ((word(0) >> 32) as i32, word(8) as i32);
        Self { signal, errno, code, fields: [word(16), word(24), word(32), word(40)] }
    }
}
