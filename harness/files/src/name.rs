//! Names: parts of paths, kept on the heap.

use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::marker::PhantomData;
use core::ops::Deref;

use rumpvm::NoMemory;
use rumpvm::sync::try_reserve;
use rumpvm_platform::Seam;

use crate::errno::Errno;

/// Longest name.
pub(crate) const NAME_MAX: usize = 255;
/// Longest path, its end included.
pub(crate) const PATH_MAX: usize = 4096;

/// A name, or other bytes that are kept and never changed.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// A copy of `bytes`.
    pub fn try_new<S: Seam>(bytes: &[u8]) -> Result<Self, NoMemory> {
        let mut own = Vec::new();
        try_reserve::<_, S>(&mut own, bytes.len())?;
        own.extend_from_slice(bytes);
        Ok(Self(own))
    }

    /// What `text` says.
    pub fn try_format<S: Seam>(text: fmt::Arguments<'_>) -> Result<Self, NoMemory> {
        let mut own = Text::<S>::default();
        own.write_fmt(text).map_err(|_| NoMemory)?;
        Ok(Self(own.bytes))
    }

    /// Nothing.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// A copy of the name of a file, if it is not too long for one.
    pub(crate) fn of_file<S: Seam>(bytes: &[u8]) -> Result<Self, Errno> {
        if bytes.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        Ok(Self::try_new::<S>(bytes)?)
    }
}

/// Text that is being written. Writing fails when there is no memory.
pub struct Text<S> {
    bytes: Vec<u8>,
    seam: PhantomData<fn() -> S>,
}

impl<S> Default for Text<S> {
    fn default() -> Self {
        Self { bytes: Vec::new(), seam: PhantomData }
    }
}

impl<S: Seam> Text<S> {
    /// Appends bytes that need not be text.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), NoMemory> {
        try_reserve::<_, S>(&mut self.bytes, bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes that were written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl<S: Seam> Write for Text<S> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|NoMemory| fmt::Error)
    }
}

impl Deref for Name {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}
