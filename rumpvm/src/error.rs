//! Running out of memory, as a value.

use core::fmt;

/// There was no memory. Nothing has changed; trying again later is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for NoMemory {}
