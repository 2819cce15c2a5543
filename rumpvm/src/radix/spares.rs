//! Spares: frames set aside for an operation that must not fail half-way.

use rumpvm_platform::Platform;

use super::MAX_HEIGHT;
use crate::NoMemory;
use crate::phys::{Fresh, Phys};

/// Nodes that clearing a range copies at most: those that the two ends of the range cut, level by level.
pub(super) const MAX_SPARES: usize = 2 * MAX_HEIGHT as usize;

/// Frames set aside for an operation that must not fail half-way.
pub struct Spares<'p, P: Platform> {
    phys: &'p Phys<P>,
    frames: [Option<Fresh>; MAX_SPARES],
    /// Those that are left, from the front.
    left: usize,
}

impl<'p, P: Platform> Spares<'p, P> {
    /// None, for clearing whole trees.
    pub fn none(phys: &'p Phys<P>) -> Self {
        Self { phys, frames: [const { None }; MAX_SPARES], left: 0 }
    }

    /// As many as clearing any range of any tree can need.
    pub fn worst_case(phys: &'p Phys<P>) -> Result<Self, NoMemory> {
        Self::try_new(phys, MAX_SPARES)
    }

    pub(super) fn try_new(phys: &'p Phys<P>, count: usize) -> Result<Self, NoMemory> {
        let mut spares = Self::none(phys);
        for _ in 0..count {
            spares.frames[spares.left] = Some(phys.alloc_zeroed()?);
            spares.left += 1;
        }
        Ok(spares)
    }

    pub(super) fn take(&mut self) -> Result<Fresh, NoMemory> {
        let last = self.left.checked_sub(1).ok_or(NoMemory)?;
        self.left = last;
        self.frames[last].take().ok_or(NoMemory)
    }
}

impl<P: Platform> Drop for Spares<'_, P> {
    fn drop(&mut self) {
        while let Ok(fresh) = self.take() {
            self.phys.free(fresh);
        }
    }
}
