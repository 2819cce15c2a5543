//! Copies between a buffer and the arena while other CPUs may be copying too.
//!
//! Two threads that race for a byte are the business of the program that runs on the machine, not a
//! data race of ours: every transfer is a relaxed atomic of the widest size that is aligned. So an
//! aligned access of 2, 4 or 8 bytes is never torn, as on x86 (Intel SDM vol. 3A, 9.1.1).

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Calls `step` with offset and width of each aligned piece of `length` bytes at `at`.
#[inline]
fn pieces(at: NonNull<u8>, length: usize, mut step: impl FnMut(usize, usize)) {
    let mut done = 0;
    while done < length {
        let place = at.as_ptr() as usize + done;
        let fits = |width: usize| place.is_multiple_of(width) && length - done >= width;
        let width = [8, 4, 2].into_iter().find(|width| fits(*width)).unwrap_or(1);
        step(done, width);
        done += width;
    }
}

/// Fills `into` from memory at `from`.
///
/// # Safety
/// `from` must be readable for `into.len()` bytes, and others may write them by atomics only.
#[inline]
pub(crate) unsafe fn load(from: NonNull<u8>, into: &mut [u8]) {
    pieces(from, into.len(), |at, width| {
        // SAFETY: `at + width` is within the range the caller vouches for, and aligned to `width`.
        unsafe {
            let from = from.as_ptr().add(at);
            let into = &mut into[at..at + width];
            match width {
                8 => into
                    .copy_from_slice(&AtomicU64::from_ptr(from.cast()).load(Relaxed).to_ne_bytes()),
                4 => into
                    .copy_from_slice(&AtomicU32::from_ptr(from.cast()).load(Relaxed).to_ne_bytes()),
                2 => into
                    .copy_from_slice(&AtomicU16::from_ptr(from.cast()).load(Relaxed).to_ne_bytes()),
                _ => into[0] = AtomicU8::from_ptr(from).load(Relaxed),
            }
        }
    });
}

/// Writes `from` to memory at `to`.
///
/// # Safety
/// `to` must be writable for `from.len()` bytes, and others may use them by atomics only.
#[inline]
pub(crate) unsafe fn store(to: NonNull<u8>, from: &[u8]) {
    pieces(to, from.len(), |at, width| {
        // SAFETY: `at + width` is within the range the caller vouches for, and aligned to `width`.
        unsafe {
            let to = to.as_ptr().add(at);
            let from = from.as_ptr().add(at);
            match width {
                8 => AtomicU64::from_ptr(to.cast())
                    .store(from.cast::<u64>().read_unaligned(), Relaxed),
                4 => AtomicU32::from_ptr(to.cast())
                    .store(from.cast::<u32>().read_unaligned(), Relaxed),
                2 => AtomicU16::from_ptr(to.cast())
                    .store(from.cast::<u16>().read_unaligned(), Relaxed),
                _ => AtomicU8::from_ptr(to).store(from.read(), Relaxed),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_and_length_arrives_whole() {
        let mut memory = [0_u64; 8];
        let base = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
        for offset in 0..16 {
            for length in 0..40 {
                let from: Vec<u8> = (0..length).map(|byte| (byte * 7 + offset) as u8).collect();
                let mut into = vec![0; length];
                // SAFETY: at most 56 of 64 bytes, and no other thread knows of them.
                unsafe {
                    store(base.add(offset), &from);
                    load(base.add(offset), &mut into);
                }
                assert_eq!(from, into);
            }
        }
    }

    #[test]
    fn an_aligned_word_is_one_piece() {
        let memory = [0_u64; 2];
        let base = NonNull::from(&memory).cast::<u8>();
        let mut seen = Vec::new();
        pieces(base, 8, |at, width| seen.push((at, width)));
        // SAFETY: one past is inside the array.
        pieces(unsafe { base.add(1) }, 8, |at, width| seen.push((at, width)));
        assert_eq!(seen, [(0, 8), (0, 1), (1, 2), (3, 4), (7, 1)]);
    }
}
