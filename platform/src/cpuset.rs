//! Sets of CPUs, for flush targets.

/// Most CPUs that a machine can have.
pub const MAX_CPUS: usize = 256;
const WORDS: usize = MAX_CPUS / 64;

/// The number of a CPU, below [`MAX_CPUS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CpuId(pub u32);

/// A set of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuSet {
    words: [u64; WORDS],
}

impl CpuSet {
    /// No CPU.
    pub const EMPTY: Self = Self { words: [0; WORDS] };
    /// Number of 64-bit words in a set.
    pub const WORDS: usize = WORDS;

    /// The set whose members are the set bits of `words`, lowest first.
    #[inline]
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        Self { words }
    }

    /// Adds `cpu`.
    #[inline]
    pub fn insert(&mut self, cpu: CpuId) {
        self.words[cpu.0 as usize / 64] |= 1 << (cpu.0 % 64);
    }

    /// Takes `cpu` out.
    #[inline]
    pub fn remove(&mut self, cpu: CpuId) {
        self.words[cpu.0 as usize / 64] &= !(1 << (cpu.0 % 64));
    }

    /// Whether `cpu` is in it.
    #[inline]
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.words[cpu.0 as usize / 64] & (1 << (cpu.0 % 64)) != 0
    }

    /// Whether no CPU is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Number of CPUs in it.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The CPUs in it, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            core::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(CpuId(at as u32 * 64 + bit))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn members_come_back_in_order() {
        let mut set = CpuSet::EMPTY;
        for cpu in [0, 63, 64, 255] {
            set.insert(CpuId(cpu));
        }
        assert_eq!(set.iter().map(|cpu| cpu.0).collect::<Vec<_>>(), [0, 63, 64, 255]);
        set.remove(CpuId(63));
        assert!(!set.contains(CpuId(63)));
        assert_eq!(set.count(), 3);
    }
}
