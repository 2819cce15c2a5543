//! A line of text for a host: bytes that end with a zero, without a heap.

use core::ffi::CStr;
use core::fmt;

/// A line of less than `N` bytes; what does not fit is cut off.
pub(crate) struct Line<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Line<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// Appends `text`; what a C string cannot hold or a serial line not show becomes a question mark.
    pub(crate) fn push(&mut self, text: &str) {
        let room = N - 1 - self.length;
        for byte in text.bytes().take(room) {
            let shown = byte == b'\n' || (b' '..=b'~').contains(&byte);
            self.bytes[self.length] = if shown { byte } else { b'?' };
            self.length += 1;
        }
    }

    /// Its bytes, without the zero.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The line with its zero.
    pub(crate) fn as_c(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).expect("the last byte is never text")
    }
}

impl<const N: usize> fmt::Write for Line<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_off_and_ends_with_a_zero() {
        let mut line = Line::<8>::new();
        line.push("ab\0c");
        line.push("defgh");
        assert_eq!(line.as_c().to_bytes_with_nul(), b"ab?cdef\0");
        assert_eq!(line.bytes(), b"ab?cdef");
    }
}
