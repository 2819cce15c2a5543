//! Limits of a process, as prlimit(2) numbers them.

use rumpvm::Limits as SpaceLimits;

/// No limit.
pub(crate) const INFINITY: u64 = u64::MAX;

/// What a process may have, and what it may let itself have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Numbers of limits.
pub(crate) mod resource {
    pub(crate) const CPU: usize = 0;
    pub(crate) const FILE_SIZE: usize = 1;
    pub(crate) const DATA: usize = 2;
    pub(crate) const STACK: usize = 3;
    pub(crate) const PROCESSES: usize = 6;
    pub(crate) const FILES: usize = 7;
    pub(crate) const LOCKED: usize = 8;
    pub(crate) const ADDRESS_SPACE: usize = 9;
    pub(crate) const SIGNALS: usize = 11;
    pub(crate) const NICE: usize = 13;
    pub(crate) const REAL_TIME: usize = 14;
    pub(crate) const COUNT: usize = 16;
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Limits([Limit; resource::COUNT]);

impl Default for Limits {
    /// Linux's, for the first process.
    fn default() -> Self {
        let same = |limit| Limit { soft: limit, hard: limit };
        let mut limits = [same(INFINITY); resource::COUNT];
        limits[resource::STACK].soft = 8 << 20;
        // No dumps of memory, as on most systems.
        limits[4].soft = 0;
        limits[resource::PROCESSES] = same(30_000);
        limits[resource::FILES] = Limit { soft: 1024, hard: 4096 };
        limits[resource::LOCKED] = same(INFINITY);
        // Of the order that small machines have; each takes some 50 bytes.
        limits[resource::SIGNALS] = same(1024);
        limits[12] = same(819_200);
        // Priorities that nobody without the right may have.
        limits[resource::NICE] = same(0);
        limits[resource::REAL_TIME] = same(0);
        Self(limits)
    }
}

impl Limits {
    pub(crate) fn get(&self, resource: usize) -> Option<Limit> {
        self.0.get(resource).copied()
    }

    pub(crate) fn set(&mut self, resource: usize, limit: Limit) {
        if let Some(place) = self.0.get_mut(resource) {
            *place = limit;
        }
    }

    /// Most descriptors.
    pub(crate) fn files(&self) -> u64 {
        self.0[resource::FILES].soft
    }

    /// Most signals that wait with what they carry, of a process or of a thread.
    pub(crate) fn signals(&self) -> u64 {
        self.0[resource::SIGNALS].soft
    }

    /// Largest stack.
    pub(crate) fn stack(&self) -> u64 {
        self.0[resource::STACK].soft
    }

    /// What of them concerns memory. Who may lock memory anyway has no limit of that.
    pub(crate) fn of_space(&self, locks_freely: bool) -> SpaceLimits {
        let soft = |resource: usize| self.0[resource].soft;
        SpaceLimits {
            stack: soft(resource::STACK),
            address_space: soft(resource::ADDRESS_SPACE),
            data: soft(resource::DATA),
            locked: if locks_freely { INFINITY } else { soft(resource::LOCKED) },
            ..SpaceLimits::default()
        }
    }
}
