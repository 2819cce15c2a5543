//! Limits of one space, as setrlimit(2) and sysctl(8) know them.

/// Whether a space gets what is kept for administrators when promises are counted (`CAP_SYS_ADMIN`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reserve {
    /// It does.
    #[default]
    Usable,
    /// It does not.
    Kept,
}

/// Limits of one space. All in bytes but `areas`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest size that a growing stack reaches (`RLIMIT_STACK`).
    pub stack: u64,
    /// Most bytes mapped (`RLIMIT_AS`).
    pub address_space: u64,
    /// Largest heap, and most bytes of private memory that can be stored to, stacks aside (`RLIMIT_DATA`).
    pub data: u64,
    /// Most bytes locked (`RLIMIT_MEMLOCK`).
    pub locked: u64,
    /// Most areas (`vm.max_map_count`). Cutting one in the middle obeys it; a new mapping may be one more, as on
    /// Linux.
    pub areas: u64,
    /// Whether it gets what is kept for administrators.
    pub reserve: Reserve,
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
            reserve: Reserve::Usable,
            lowest: 0x1_0000,
        }
    }
}
