//! Layout: where stack, heap and mappings of a fresh space begin, plain or at random.
//!
//! As Linux's x86 has it (`arch_pick_mmap_layout`): mappings go down from below the room of the stack, or, in the
//! legacy way, up from a third of the address space. Random parts come from a seed that the home draws; without
//! one every run is the same.

use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr};
use rumpvm_platform::Platform;

use super::Map;
use super::place::GUARD;

/// Least room for the stack: Linux's `MIN_GAP`.
const STACK_ROOM: u64 = 128 << 20;

/// Which way mappings are placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Each below the last.
    Down,
    /// Each above the last: what Linux does for `ADDR_COMPAT_LAYOUT`.
    Up,
}

/// Where things begin in a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Which way mappings go from `base`.
    pub direction: Direction,
    /// Where mappings begin that may go anywhere.
    pub base: VirtAddr,
    /// One past the highest byte of the stack.
    pub stack_top: VirtAddr,
    /// Bytes between the end of a program and its heap.
    pub heap_gap: u64,
}

/// A seed, and how many pages, in bits, each part may be moved by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Randomness {
    /// Drawn by the home for each exec.
    pub seed: u64,
    /// Of mappings (`vm.mmap_rnd_bits`).
    pub mapping_bits: u32,
    /// Of the stack's top.
    pub stack_bits: u32,
    /// Of the heap's start.
    pub heap_bits: u32,
}

impl Randomness {
    /// As many bits as Linux has on x86.
    pub fn usual<F: Format>(seed: u64) -> Self {
        if F::USER_END.0 > 1 << 32 {
            Self { seed, mapping_bits: 28, stack_bits: 22, heap_bits: 13 }
        } else {
            Self { seed, mapping_bits: 8, stack_bits: 11, heap_bits: 13 }
        }
    }

    /// The next number of so many bits, in bytes of whole pages (SplitMix64, by Steele, Lea and Flood).
    fn pages(&mut self, bits: u32) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed & ((1 << bits) - 1)) * PAGE_SIZE
    }
}

impl Layout {
    /// Top down below the least room for a stack, nothing at random.
    pub(super) fn plain<F: Format>() -> Self {
        Self::new::<F>(Direction::Down, 0, None)
    }

    /// The layout for a stack of at most `stack` bytes.
    pub fn new<F: Format>(
        direction: Direction,
        stack: u64,
        randomness: Option<Randomness>,
    ) -> Self {
        let end = F::USER_END;
        let (mut mapping, mut moved, mut heap_gap, mut stack_room) = (0, 0, 0, 0);
        if let Some(mut random) = randomness {
            mapping = random.pages(random.mapping_bits);
            moved = random.pages(random.stack_bits);
            heap_gap = random.pages(random.heap_bits);
            stack_room = PAGE_SIZE << random.stack_bits;
        }
        let base = match direction {
            Direction::Up => VirtAddr((end.0 / 3).next_multiple_of(PAGE_SIZE) + mapping),
            Direction::Down => {
                let gap = stack.saturating_add(stack_room + GUARD);
                let gap = gap.clamp(STACK_ROOM, end.0 / 6 * 5);
                VirtAddr(end.0.saturating_sub(gap + mapping).max(end.0 / 6)).page_down()
            }
        };
        Self { direction, base, stack_top: end - moved.min(end.0 / 6), heap_gap }
    }
}

impl<P: Platform> Map<P> {
    /// Where things begin.
    pub fn layout(&self) -> Layout {
        self.state.lock().layout
    }

    /// Lays an empty space out, for whoever loads a program: mappings are placed by `layout` from now on, and by
    /// children too. Takes the map's lock.
    pub fn set_layout(&self, layout: Layout) {
        self.state.lock().layout = layout;
    }
}
