//! Limits of one space, as setrlimit(2) and sysctl(8) know them.

/// How much may be promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overcommit {
    /// Refuse one mapping that is larger than all memory (Linux's mode 0).
    #[default]
    Heuristic,
    /// Refuse nothing (mode 1).
    Always,
}

/// Limits of one space. All in bytes but `areas`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest size that a growing stack reaches (`RLIMIT_STACK`).
    pub stack: u64,
    /// Most bytes mapped (`RLIMIT_AS`).
    pub address_space: u64,
    /// Largest heap (`RLIMIT_DATA`).
    pub data: u64,
    /// Most bytes locked (`RLIMIT_MEMLOCK`).
    pub locked: u64,
    /// Most areas (`vm.max_map_count`).
    pub areas: u64,
    /// How much may be promised (`vm.overcommit_memory`).
    pub overcommit: Overcommit,
    /// Place mappings at or above this address (`vm.mmap_min_addr`).
    pub lowest: u64,
}

impl Default for Limits {
    /// Linux's defaults for root.
    fn default() -> Self {
        Self {
            stack: 8 << 20,
            address_space: u64::MAX,
            data: u64::MAX,
            locked: u64::MAX,
            areas: 65_530,
            overcommit: Overcommit::Heuristic,
            lowest: 0x1_0000,
        }
    }
}
