//! What has been seen, over all runs: which words matter, and which points followed which.

use std::collections::{BTreeMap, HashMap, HashSet};

use rumpvm_platform::Site;
use rustc_hash::FxBuildHasher;

use super::settings::Mutation;

/// log2 of the bits of the filter. A scenario shares some hundred words.
const BITS: u32 = 20;

/// The words that somebody shared with somebody in an earlier run. A switch before a step on any other word is the
/// same as a switch later, before the next step that matters.
pub(super) struct Focus {
    bits: Vec<u64>,
    /// Every word counts: nothing is known yet.
    pub(super) everything: bool,
    /// Words found to be shared only after everything was thought to be known.
    pub(super) late: u64,
    pub(super) learning: bool,
}

impl Focus {
    pub(super) fn new() -> Self {
        Self { bits: vec![0; 1 << (BITS - 6)], everything: true, late: 0, learning: true }
    }

    #[inline]
    fn place(key: u64) -> (usize, u64) {
        let bit = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS);
        ((bit >> 6) as usize, 1 << (bit & 63))
    }

    /// Whether a step on this word is a point.
    #[inline]
    pub(super) fn has(&self, key: u64) -> bool {
        let (word, bit) = Self::place(key);
        self.everything || key == 0 || self.bits[word] & bit != 0
    }

    /// Notes that this word is shared.
    #[inline]
    pub(super) fn learn(&mut self, key: u64) {
        let (word, bit) = Self::place(key);
        if self.bits[word] & bit == 0 {
            self.bits[word] |= bit;
            self.late += u64::from(!self.learning);
        }
    }
}

/// How often runs came by a place.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Met {
    /// Times.
    pub times: u64,
    /// Times at which others had touched the word as well.
    pub shared: u64,
}

/// Pairs of places, each by its address in this program.
pub type Pairs = HashSet<(usize, usize), FxBuildHasher>;

/// Counters over all runs of one explorer.
#[derive(Default)]
pub(super) struct Coverage {
    pairs: Pairs,
    places: HashMap<Mutation, Met, FxBuildHasher>,
}

impl Coverage {
    /// Two agents touched one word, one after the other, at these places.
    #[inline]
    pub(super) fn pair(&mut self, before: Site, after: Site) {
        self.pairs.insert((std::ptr::from_ref(before).addr(), std::ptr::from_ref(after).addr()));
    }

    pub(super) fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// A flaw could be put in here, where others have been as well, or nobody.
    pub(super) fn place(&mut self, flaw: Mutation, shared: bool) {
        let met = self.places.entry(flaw).or_default();
        met.times += 1;
        met.shared += u64::from(shared);
    }

    pub(super) fn places(&self) -> BTreeMap<Mutation, Met> {
        self.places.iter().map(|(place, met)| (*place, *met)).collect()
    }
}
