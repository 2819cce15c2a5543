//! Obituaries: how often each frame has been freed, and by whom the last time.
//!
//! Flow:  `Platform::frame_freed` -> count + CPU -> compared with what a translation remembers (H3).
//! Locks: none; one atomic word per frame.
//! Owns:  a mapping of 8 bytes per frame, filled in by the host kernel as frames are freed.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapMut, MmapRaw};
use rumpvm_platform::CpuId;

/// The low bits of a word hold the CPU that freed; `MAX_CPUS` needs 9.
const CPU_BITS: u32 = 16;

pub(crate) struct Freed {
    words: MmapRaw,
}

/// A moment in the life of a frame: how often it had been freed by then, and who did it last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl Freed {
    pub(crate) fn new(frames: usize) -> io::Result<Self> {
        Ok(Self { words: MmapMut::map_anon(frames * size_of::<u64>())?.into() })
    }

    /// Forgets all. Nobody else uses it.
    pub(crate) fn forget(&self) {
        // SAFETY: the mapping has that length, and the caller has it to himself.
        unsafe { self.words.as_mut_ptr().write_bytes(0, self.words.len()) };
    }

    /// The frame at `position` of the arena has been freed by `cpu`.
    pub(crate) fn record(&self, position: usize, cpu: CpuId) {
        let word = self.word(position);
        // Who frees a frame has it alone, so nobody else writes this word.
        let freed = (word.load(Ordering::Relaxed) >> CPU_BITS) + 1;
        word.store(freed << CPU_BITS | u64::from(cpu.0), Ordering::Release);
    }

    #[inline]
    pub(crate) fn generation(&self, position: usize) -> Generation {
        Generation(self.word(position).load(Ordering::SeqCst))
    }

    #[inline]
    fn word(&self, position: usize) -> &AtomicU64 {
        assert!(position < self.words.len() / size_of::<u64>());
        // SAFETY: the word is inside the mapping, which is aligned to a page and lives as long as
        // `self`; it is used by atomics only, all of them here.
        unsafe { AtomicU64::from_ptr(self.words.as_mut_ptr().cast::<u64>().add(position)) }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 >> CPU_BITS {
            0 => f.write_str("never freed"),
            count => {
                let cpu = self.0 & ((1 << CPU_BITS) - 1);
                write!(f, "freed {count} times, last by CPU {cpu}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_free_starts_a_new_generation_and_names_the_cpu() {
        let freed = Freed::new(4).unwrap();
        let born = freed.generation(3);
        assert_eq!(born.to_string(), "never freed");

        freed.record(3, CpuId(0));
        freed.record(3, CpuId(7));

        assert!(freed.generation(3) != born);
        assert_eq!(freed.generation(3).to_string(), "freed 2 times, last by CPU 7");
        assert!(freed.generation(2) == born);
    }
}
