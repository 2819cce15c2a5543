//! eventfd(2): a counter that can be waited for.
//!
//! Locks: `count`, for a few instructions.
//! Sleep: readers while it is zero, writers while it would run over.

use alloc::boxed::Box;
use core::any::Any;

use rumpvm::Hold;
use rumpvm::sync::{Mutex, try_box};
use rumpvm_platform::Platform;

use crate::access::{Credentials, Rights};
use crate::class;
use crate::errno::Errno;
use crate::node::{Call, FileType, Ready, Special};
use crate::open::{Open, OpenFlags};
use crate::transfer::{Sink, Source};
use crate::tree::Tree;
use crate::wait::Queue;

/// How much a read takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// All.
    All,
    /// One at a time (`EFD_SEMAPHORE`).
    One,
}

/// The counter.
pub struct Counter<P: Platform> {
    count: Mutex<u64, P>,
    takes: Takes,
    readers: Queue<P>,
    writers: Queue<P>,
}

/// It never gets beyond.
const MOST: u64 = u64::MAX - 1;
/// What is read and written at a time.
const BYTES: usize = 8;

impl<P: Platform> Special<P> for Counter<P> {
    /// It is opened once, when it is made.
    fn opened(&self, _: &Call<'_, P>, _: Rights) -> Result<Option<Box<dyn Special<P>>>, Errno> {
        Err(Errno::ENXIO)
    }

    fn read(&self, call: &Call<'_, P>, _: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        if into.room() < BYTES {
            return Err(Errno::EINVAL);
        }
        let taken = call.wait(&self.readers, || {
            let mut count = self.count.lock();
            let taken = if self.takes == Takes::One { 1.min(*count) } else { *count };
            *count -= taken;
            (taken > 0).then_some(taken)
        })?;
        self.writers.wake();
        into.put(&taken.to_le_bytes())
    }

    fn write(&self, call: &Call<'_, P>, _: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let mut bytes = [0; BYTES];
        if from.left() < BYTES || from.take(&mut bytes)? < BYTES {
            return Err(Errno::EINVAL);
        }
        let more = u64::from_le_bytes(bytes);
        if more > MOST {
            return Err(Errno::EINVAL);
        }
        call.wait(&self.writers, || {
            let mut count = self.count.lock();
            let sum = count.checked_add(more).filter(|sum| *sum <= MOST)?;
            *count = sum;
            Some(())
        })?;
        self.readers.wake();
        Ok(BYTES)
    }

    fn ready(&self, _: Rights) -> Ready {
        let count = *self.count.lock();
        let reads = if count > 0 { Ready::IN | Ready::READ_NORMAL } else { Ready::empty() };
        let writes = if count < MOST { Ready::OUT | Ready::WRITE_NORMAL } else { Ready::empty() };
        reads | writes
    }

    fn queues(&self) -> [Option<&Queue<P>>; 2] {
        [Some(&self.readers), Some(&self.writers)]
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl<P: Platform> Tree<P> {
    /// eventfd2(2).
    pub fn counter(
        &self,
        count: u32,
        takes: Takes,
        flags: OpenFlags,
        who: &Credentials,
    ) -> Result<Hold<Open<P>, P>, Errno> {
        let special: Box<dyn Special<P>> = try_box::<_, P>(Counter {
            count: Mutex::new(&class::STREAM, u64::from(count)),
            takes,
            readers: Queue::new(),
            writers: Queue::new(),
        })?;
        let (label, flags) = (b"anon_inode:[eventfd]", flags | OpenFlags::READ_WRITE);
        Open::unnamed(self.unnamed(), FileType::Regular, special, label, flags, who)
    }
}
