//! Structures as Linux lays them out: numbers put at places of a row of bytes.

/// A structure of `N` bytes, zeros where nothing was put.
pub(crate) struct Layout<const N: usize>([u8; N]);

impl<const N: usize> Layout<N> {
    pub(crate) const fn new() -> Self {
        Self([0; N])
    }

    pub(crate) fn u16(&mut self, at: usize, value: u16) -> &mut Self {
        self.bytes(at, &value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, at: usize, value: u32) -> &mut Self {
        self.bytes(at, &value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, at: usize, value: u64) -> &mut Self {
        self.bytes(at, &value.to_le_bytes())
    }

    pub(crate) fn bytes(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn done(&self) -> [u8; N] {
        self.0
    }
}
