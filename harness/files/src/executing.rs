//! Programs that run from a file: while one does, nobody opens the file for writing, and the other way round.
//!
//! One word in each regular file counts either those who write or those who execute.

use rumpvm::Hold;
use rumpvm::sync::{Atomic, Ordering};
use rumpvm_platform::Platform;

use crate::entry::Entry;
use crate::errno::Errno;

/// Who uses a file's bytes in a way that others may mind.
pub(crate) struct Users<P: Platform> {
    /// Number of writers; or, with [`EXECUTING`], of programs.
    count: Atomic<u32, P>,
}

const EXECUTING: u32 = 1 << 31;

impl<P: Platform> Users<P> {
    pub(crate) fn new() -> Self {
        Self { count: Atomic::new(0) }
    }

    /// One more writer; [`Errno::ETXTBSY`] if it is being executed.
    pub(crate) fn begin_writing(&self) -> Result<(), Errno> {
        self.begin(|count| count & EXECUTING == 0, 0)
    }

    /// One less.
    pub(crate) fn end_writing(&self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }

    fn begin_executing(&self) -> Result<(), Errno> {
        self.begin(|count| count == 0 || count & EXECUTING != 0, EXECUTING)
    }

    fn end_executing(&self) {
        // The mark goes with the last one, and only that one finds it so.
        let mut count = self.count.load(Ordering::Acquire);
        loop {
            let less = if count == EXECUTING | 1 { 0 } else { count - 1 };
            match self.count.compare_exchange(count, less, Ordering::AcqRel) {
                Ok(_) => return,
                Err(now) => count = now,
            }
        }
    }

    fn begin(&self, may: impl Fn(u32) -> bool, mark: u32) -> Result<(), Errno> {
        let mut count = self.count.load(Ordering::Acquire);
        while may(count) {
            match self.count.compare_exchange(count, (count + 1) | mark, Ordering::AcqRel) {
                Ok(_) => return Ok(()),
                Err(now) => count = now,
            }
        }
        Err(Errno::ETXTBSY)
    }
}

/// A file that a program runs from, until this is dropped.
pub struct Executing<P: Platform> {
    entry: Hold<Entry<P>, P>,
}

impl<P: Platform> Executing<P> {
    /// Keeps writers off the file; [`Errno::ETXTBSY`] if there is one, [`Errno::EACCES`] if it is no regular file.
    /// Whether it may be executed at all is the caller's to check.
    pub fn begin(entry: &Hold<Entry<P>, P>) -> Result<Self, Errno> {
        let regular = entry.node().regular().ok_or(Errno::EACCES)?;
        regular.users().begin_executing()?;
        Ok(Self { entry: entry.clone() })
    }

    /// The file.
    pub fn entry(&self) -> &Hold<Entry<P>, P> {
        &self.entry
    }
}

impl<P: Platform> Drop for Executing<P> {
    fn drop(&mut self) {
        if let Some(regular) = self.entry.node().regular() {
            regular.users().end_executing();
        }
    }
}
