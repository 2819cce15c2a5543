//! Who a process is: users, groups, capabilities.

use alloc::vec::Vec;

use rumpvm::NoMemory;
use rumpvm::sync::try_reserve;
use rumpvm_bare::Bare;
use rumpvm_files::{Capabilities, Credentials};

/// Real, effective, saved, and that for files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Four {
    pub(crate) real: u32,
    pub(crate) effective: u32,
    pub(crate) saved: u32,
    pub(crate) files: u32,
}

/// Sets of capabilities, as capget(2) has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Capable {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
}

/// The user and the group that a program's file gives to who executes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Gains {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
}

/// Capabilities that there are: up to `CAP_CHECKPOINT_RESTORE`.
pub(crate) const ALL: u64 = (1 << 41) - 1;
/// Those that go away when the user for files is not the administrator any more.
const FOR_FILES: u64 = 0x1f | 1 << 9 | 1 << 27 | 1 << 32;

/// Numbers of capabilities that this layer asks for.
pub(crate) mod capability {
    pub(crate) const KILL: u32 = 5;
    pub(crate) const SETGID: u32 = 6;
    pub(crate) const SETUID: u32 = 7;
    pub(crate) const SETPCAP: u32 = 8;
    pub(crate) const IPC_LOCK: u32 = 14;
    pub(crate) const SYS_PTRACE: u32 = 19;
    pub(crate) const SYS_ADMIN: u32 = 21;
    pub(crate) const SYS_NICE: u32 = 23;
    pub(crate) const SYS_RESOURCE: u32 = 24;
}

/// Who somebody is.
pub(crate) struct Ids {
    pub(crate) user: Four,
    pub(crate) group: Four,
    pub(crate) groups: Vec<u32>,
    pub(crate) capable: Capable,
    /// `PR_SET_KEEPCAPS`.
    pub(crate) keeps: bool,
}

impl Ids {
    /// The administrator.
    pub(crate) const fn root() -> Self {
        let none = Four { real: 0, effective: 0, saved: 0, files: 0 };
        let capable = Capable { effective: ALL, permitted: ALL, inheritable: 0 };
        Self { user: none, group: none, groups: Vec::new(), capable, keeps: false }
    }

    pub(crate) fn try_clone(&self) -> Result<Self, NoMemory> {
        let mut groups = Vec::new();
        try_reserve::<_, Bare>(&mut groups, self.groups.len())?;
        groups.extend_from_slice(&self.groups);
        Ok(Self { groups, ..*self })
    }

    /// As files see him.
    pub(crate) fn credentials(&self) -> Result<Credentials, NoMemory> {
        self.credentials_of(self.user.files, self.group.files, self.capable.effective)
    }

    /// Real and effective user, real and effective group, as a program is told at its start.
    pub(crate) fn told(&self) -> [u64; 4] {
        [self.user.real, self.user.effective, self.group.real, self.group.effective].map(u64::from)
    }

    /// As access(2) asks: for the real user.
    pub(crate) fn real_credentials(&self) -> Result<Credentials, NoMemory> {
        let capable = if self.user.real == 0 { self.capable.permitted } else { 0 };
        self.credentials_of(self.user.real, self.group.real, capable)
    }

    fn credentials_of(&self, user: u32, group: u32, capable: u64) -> Result<Credentials, NoMemory> {
        let groups = self.try_clone()?.groups;
        let capabilities = Capabilities::from_bits_retain(capable);
        Ok(Credentials { user, group, groups, capabilities })
    }

    /// Whether he has that capability.
    pub(crate) fn can(&self, capability: u32) -> bool {
        self.capable.effective >> capability & 1 != 0
    }

    /// Changes users, and what capabilities follow from that (capabilities(7), "effect of user ID changes").
    pub(crate) fn set_users(&mut self, to: Four) {
        let zero = |four: &Four| [four.real, four.effective, four.saved].contains(&0);
        let was = self.user;
        self.user = to;
        if zero(&was) && !zero(&to) && !self.keeps {
            self.capable.permitted = 0;
            self.capable.effective = 0;
        }
        if was.effective == 0 && to.effective != 0 {
            self.capable.effective = 0;
        } else if was.effective != 0 && to.effective == 0 {
            self.capable.effective = self.capable.permitted;
        }
        if was.files == 0 && to.files != 0 {
            self.capable.effective &= !FOR_FILES;
        } else if was.files != 0 && to.files == 0 {
            self.capable.effective |= self.capable.permitted & FOR_FILES;
        }
    }

    /// What becomes of him when a program begins (credentials(7), capabilities(7)); true if its file has made him
    /// somebody else than who began it, so that it trusts nothing that it is given (`AT_SECURE`).
    pub(crate) fn exec(&mut self, gains: Gains) -> bool {
        self.keeps = false;
        for (four, gained) in [(&mut self.user, gains.user), (&mut self.group, gains.group)] {
            four.effective = gained.unwrap_or(four.effective);
            (four.saved, four.files) = (four.effective, four.effective);
        }
        let all = self.user.effective == 0 || self.user.real == 0;
        self.capable.permitted = if all { ALL } else { 0 };
        self.capable.effective = if self.user.effective == 0 { ALL } else { 0 };
        self.is_raised()
    }

    /// Whether the effective ids are others than the real ones.
    pub(crate) fn is_raised(&self) -> bool {
        [self.user, self.group].iter().any(|four| four.real != four.effective)
    }
}
