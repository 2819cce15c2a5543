//! Failures on demand: the n-th allocation, read or write from now fails, so that a test can try every n.
//!
//! Flow:  the component asks [`Seam::fails`] before it allocates, a [`FailingFile`] before it reads or writes;
//!        a home that wants to be able to fail keeps a [`Failures`] and asks it.
//! Locks: none; a countdown is one word.
//! Owns:  a countdown for each kind of failure.

use core::marker::PhantomData;
use core::panic::Location;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{File, FileId, IoError, Scarce, Seam};

/// What a failure that was ordered says: `EIO`.
const EIO: IoError = IoError(5);

/// The failures that were ordered and are still to come.
#[derive(Debug, Default)]
pub struct Failures {
    frame: Countdown,
    heap: Countdown,
    io: Countdown,
}

/// Steps until one fails, in the lower bits; zero when none will. With [`LASTING`], zero when all do.
#[derive(Debug, Default)]
struct Countdown(AtomicU64);

/// What fails does so from then on.
const LASTING: u64 = 1 << 63;

impl Failures {
    /// Makes the `nth` next step on `what` fail, and no other; zero calls it off.
    pub fn fail_nth(&self, what: Scarce, nth: u64) {
        self.countdown(what).0.store(nth, Ordering::SeqCst);
    }

    /// Makes the `nth` next step on `what`, which is not the zeroth, fail, and all that follow until it is called
    /// off.
    pub fn fail_from(&self, what: Scarce, nth: u64) {
        self.countdown(what).0.store(nth | LASTING, Ordering::SeqCst);
    }

    /// Whether a failure was ordered of which none has come yet.
    pub fn is_pending(&self, what: Scarce) -> bool {
        self.countdown(what).0.load(Ordering::SeqCst) & !LASTING != 0
    }

    /// Counts one step on `what`, and says whether it fails.
    #[inline]
    pub fn fails(&self, what: Scarce) -> bool {
        self.countdown(what).steps()
    }

    fn countdown(&self, what: Scarce) -> &Countdown {
        match what {
            Scarce::Frame => &self.frame,
            Scarce::Heap => &self.heap,
            Scarce::Io => &self.io,
        }
    }
}

impl Countdown {
    #[inline]
    fn steps(&self) -> bool {
        if self.0.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let step = |left: u64| (left & !LASTING != 0).then(|| left - 1);
        match self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) {
            Ok(before) => before & !LASTING == 1,
            Err(left) => left == LASTING,
        }
    }
}

/// A file each of whose reads, writes, holes, syncs and changes of length asks the home `S` whether it fails.
pub struct FailingFile<T, S> {
    file: T,
    home: PhantomData<fn() -> S>,
}

impl<T: File, S: Seam> FailingFile<T, S> {
    /// `file`, which fails when `S` says so.
    pub fn new(file: T) -> Self {
        Self { file, home: PhantomData }
    }

    #[track_caller]
    fn admit(&self) -> Result<(), IoError> {
        if S::fails(Scarce::Io, Location::caller()) { Err(EIO) } else { Ok(()) }
    }
}

impl<T: File, S: Seam> File for FailingFile<T, S> {
    fn id(&self) -> FileId {
        self.file.id()
    }

    fn length(&self) -> u64 {
        self.file.length()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        self.admit()?;
        self.file.read(offset, into)
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result<(), IoError> {
        self.admit()?;
        self.file.write(offset, from)
    }

    fn set_length(&self, bytes: u64) -> Result<(), IoError> {
        self.admit()?;
        self.file.set_length(bytes)
    }

    fn sync(&self) -> Result<(), IoError> {
        self.admit()?;
        self.file.sync()
    }

    fn can_punch(&self) -> bool {
        self.file.can_punch()
    }

    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.admit()?;
        self.file.punch(offset, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_nth_step_of_its_kind_fails() {
        let failures = Failures::default();
        assert!(!failures.fails(Scarce::Frame));

        failures.fail_nth(Scarce::Frame, 3);

        assert!(failures.is_pending(Scarce::Frame));
        let outcomes = [(); 5].map(|()| failures.fails(Scarce::Frame));
        assert_eq!(outcomes, [false, false, true, false, false]);
        assert!(!failures.fails(Scarce::Heap) && !failures.fails(Scarce::Io));
        assert!(!failures.is_pending(Scarce::Frame));
    }

    #[test]
    fn a_lasting_failure_ends_when_it_is_called_off() {
        let failures = Failures::default();
        failures.fail_from(Scarce::Io, 2);
        assert!(failures.is_pending(Scarce::Io));
        assert_eq!([(); 4].map(|()| failures.fails(Scarce::Io)), [false, true, true, true]);
        assert!(!failures.is_pending(Scarce::Io));
        failures.fail_nth(Scarce::Io, 0);
        assert!(!failures.fails(Scarce::Io));
    }
}
