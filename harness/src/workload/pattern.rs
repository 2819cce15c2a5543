//! Contents that can be told apart: every byte follows from a key and an offset, so that whoever reads
//! it back knows what it must be, and a byte from elsewhere is seen.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Bytes written at a time when a file is made: tuxload's random blocks have this size.
const BLOCK: u64 = 32 << 10;

/// The bytes from `offset` on of the content called `key`.
pub(super) fn fill(key: u64, offset: u64, into: &mut [u8]) {
    let mut at = offset;
    for chunk in pieces(offset, into) {
        let skip = (at % 8) as usize;
        chunk.copy_from_slice(&word(key, at / 8)[skip..skip + chunk.len()]);
        at += chunk.len() as u64;
    }
}

/// Writes `length` bytes of the content called `key` to a new file.
pub(super) fn write(path: &Path, key: u64, length: u64) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut block = vec![0; BLOCK as usize];
    for offset in (0..length).step_by(BLOCK as usize) {
        let size = BLOCK.min(length - offset) as usize;
        fill(key, offset, &mut block[..size]);
        out.write_all(&block[..size])?;
    }
    out.flush()
}

/// Where `found` first differs from the bytes from `offset` on of the content called `key`.
pub(super) fn difference(key: u64, offset: u64, found: &[u8]) -> Option<usize> {
    let mut expected = vec![0; found.len()];
    fill(key, offset, &mut expected);
    // Whole slices compare many bytes at a time; the place is looked for only when they differ.
    (expected != found).then(|| expected.iter().zip(found).position(|(a, b)| a != b)).flatten()
}

/// A key made of another one and a number: the content of a part.
pub(super) fn key(of: u64, part: u64) -> u64 {
    mix(of ^ mix(part))
}

/// Splits `bytes`, which start at `offset`, where words begin.
fn pieces(offset: u64, bytes: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    let head = (offset.next_multiple_of(8) - offset).min(bytes.len() as u64);
    let (head, rest) = bytes.split_at_mut(head as usize);
    std::iter::once(head).filter(|head| !head.is_empty()).chain(rest.chunks_mut(8))
}

fn word(key: u64, index: u64) -> [u8; 8] {
    mix(key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_le_bytes()
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): every bit in reaches every bit out.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_equals_the_same_bytes_of_the_whole() {
        let mut whole = [0; 100];
        fill(7, 0, &mut whole);
        for (from, to) in [(0, 100), (3, 5), (5, 64), (8, 16), (99, 100)] {
            assert_eq!(difference(7, from as u64, &whole[from..to]), None, "{from}..{to}");
        }
    }

    #[test]
    fn one_wrong_byte_is_found() {
        let mut bytes = [0; 64];
        fill(7, 40, &mut bytes);
        bytes[33] ^= 1;
        assert_eq!(difference(7, 40, &bytes), Some(33));
    }
}
