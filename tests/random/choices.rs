//! Where the decisions of a random program come from: a seed, or bytes that somebody else has chosen.
//!
//! The same program text serves tests, which repeat by seed, and fuzzers, which change bytes one at a time: each
//! decision takes as few of them as its range needs (`arbitrary`). When they are used up every choice is the first.

use std::ops::{Bound, RangeBounds};

use arbitrary::Unstructured;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// A source of decisions.
pub struct Choices(Source);

enum Source {
    Seed(Box<Xoshiro256PlusPlus>),
    Bytes { bytes: Vec<u8>, used: usize },
}

/// A whole number that is not negative.
pub trait Number: Copy {
    /// Which.
    fn to_u64(self) -> u64;
    /// The same number; it fits.
    fn of_u64(number: u64) -> Self;
}

macro_rules! numbers {
    ($($type:ty)+) => {$(
        impl Number for $type {
            fn to_u64(self) -> u64 {
                self as u64
            }
            fn of_u64(number: u64) -> Self {
                number as Self
            }
        }
    )+};
}
numbers! { u8 i32 u32 u64 usize }

impl Choices {
    /// Without end, and the same for each seed.
    pub fn of_seed(seed: u64) -> Self {
        Self(Source::Seed(Box::new(Xoshiro256PlusPlus::seed_from_u64(seed))))
    }

    /// As many as `bytes` are good for.
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        Self(Source::Bytes { bytes, used: 0 })
    }

    /// Whether nothing is left to decide by.
    pub fn is_over(&self) -> bool {
        matches!(&self.0, Source::Bytes { bytes, used } if *used == bytes.len())
    }

    /// A number of `range`, which has both ends.
    pub fn random_range<T: Number>(&mut self, range: impl RangeBounds<T>) -> T {
        let first = match range.start_bound() {
            Bound::Included(first) => first.to_u64(),
            Bound::Excluded(before) => before.to_u64() + 1,
            Bound::Unbounded => 0,
        };
        let last = match range.end_bound() {
            Bound::Included(last) => last.to_u64(),
            Bound::Excluded(end) => end.to_u64() - 1,
            Bound::Unbounded => unreachable!("a range of choices has an end"),
        };
        T::of_u64(match &mut self.0 {
            Source::Seed(random) => random.random_range(first..=last),
            Source::Bytes { bytes, used } => {
                let mut left = Unstructured::new(&bytes[*used..]);
                let number = left.int_in_range(first..=last).unwrap_or(first);
                *used = bytes.len() - left.len();
                number
            }
        })
    }
}
