//! process_madvise(2): advice on a list of ranges, of one's own space or another's.
//!
//! Locks: the map's, for each range anew.
//! Sleep: as madvise does.

use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr};
use rumpvm_platform::Platform;

use super::Space;
use crate::error::CallError;
use crate::map::Store;

/// Most ranges (`UIO_MAXIOV`).
const MOST_RANGES: usize = 1024;
/// Most bytes; what is beyond is cut off (`MAX_RW_COUNT`).
const MOST_BYTES: u64 = i32::MAX as u64 & !(PAGE_SIZE - 1);

/// Whose space is advised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advised {
    /// The caller's own: any advice.
    Own,
    /// Another's: what destroys nothing. The caller must be one of its users for the time, and it is his
    /// home that decides whether the advisor may.
    Others,
}

impl<P: Platform> Space<P> {
    /// Takes `advice` on each range, a start and a number of bytes, in order; returns how many bytes were
    /// advised. The first range that cannot be ends it, and its error is returned only if nothing was done
    /// before; as on Linux, where `flags` must be 0 too.
    ///
    /// Takes the map's lock. Sleeps as [`Space::madvise`] does.
    pub fn process_madvise(
        &self,
        store: &Store<P>,
        ranges: &[(VirtAddr, u64)],
        advice: i32,
        flags: u32,
        whose: Advised,
    ) -> Result<u64, CallError> {
        if flags != 0 || ranges.len() > MOST_RANGES {
            return Err(CallError::Invalid);
        }
        if ranges.iter().any(|(_, length)| *length > i64::MAX as u64) {
            return Err(CallError::Invalid);
        }
        // A list of one is cut before it is looked at, as on Linux.
        let most = if ranges.len() == 1 { MOST_BYTES } else { u64::MAX };
        let outside = |(at, length): &(VirtAddr, u64)| {
            at.0.checked_add((*length).min(most)).is_none_or(|end| end > P::Format::USER_END.0)
        };
        if ranges.iter().any(outside) {
            return Err(CallError::BadAddress);
        }
        // WILLNEED, COLD, PAGEOUT, COLLAPSE.
        if whose == Advised::Others && !matches!(advice, 3 | 20 | 21 | 25) {
            return Err(CallError::Invalid);
        }
        let mut done = 0;
        for (number, &(at, length)) in ranges.iter().enumerate() {
            let length = length.min(MOST_BYTES - done);
            let nothing_left = ranges[number..].iter().all(|(_, length)| *length == 0);
            // An empty range is looked at only if it is the first of several.
            if nothing_left || (length == 0 && number > 0) {
                continue;
            }
            match self.madvise(store, at, length, advice) {
                Ok(()) => done += length,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}
