//! Regular files: the bytes are a memory file of the component, so that mappings and calls see the same pages.
//!
//! Locks: `appending`, by whoever writes at the end.
//! Sleep: as the component's faults do.
//! Owns:  a use of the object, which is given up with the node; mappings keep it beyond that.

use rumpvm::sync::Mutex;
use rumpvm::sync::mutex::MutexGuard;
use rumpvm::{CallError, Hold, MemoryFlags, Object, Seals};
use rumpvm_platform::Platform;

use crate::class;
use crate::errno::Errno;
use crate::executing::Users;
use crate::services::Services;
use crate::transfer::{Sink, Source};

/// A regular file's bytes.
pub struct Regular<P: Platform> {
    object: Hold<Object<P>, P>,
    services: Services<P>,
    appending: Mutex<(), P>,
    users: Users<P>,
}

/// Most bytes of a file, and largest offset.
pub(crate) const MAX_SIZE: u64 = i64::MAX as u64;

impl<P: Platform> Regular<P> {
    /// An empty file.
    pub fn try_new(services: &Services<P>) -> Result<Self, Errno> {
        Self::sealable(services, MemoryFlags::empty())
    }

    /// An empty file as memfd_create(2) makes it.
    pub fn sealable(services: &Services<P>, flags: MemoryFlags) -> Result<Self, Errno> {
        let object = services.vm.memory_file(flags)?;
        let appending = Mutex::new(&class::APPENDING, ());
        Ok(Self { object, services: *services, appending, users: Users::new() })
    }

    /// What mmap(2) maps.
    pub fn object(&self) -> &Hold<Object<P>, P> {
        &self.object
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.object.size()
    }

    /// Who writes or executes it.
    pub(crate) fn users(&self) -> &Users<P> {
        &self.users
    }

    /// Keeps others from writing at the end.
    pub(crate) fn appending(&self) -> MutexGuard<'_, (), P> {
        self.appending.lock()
    }

    /// Reads from byte `at` on: pread(2).
    pub fn read(&self, at: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        let vm = self.services.vm;
        let mut done = 0;
        while into.room() > 0 {
            let offset = at.saturating_add(done as u64);
            let left = self.size().saturating_sub(offset);
            let limit = usize::try_from(left).unwrap_or(usize::MAX);
            if limit == 0 {
                break;
            }
            let piece = into
                .put_with(limit, &mut |bytes| Ok(vm.read_object(&self.object, offset, bytes)?));
            match piece {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) => return partly(done, error),
            }
        }
        Ok(done)
    }

    /// Writes from byte `at` on: pwrite(2). No room is [`Errno::ENOSPC`].
    pub fn write(&self, at: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let vm = self.services.vm;
        let mut done = 0;
        while from.left() > 0 {
            let offset = at.saturating_add(done as u64);
            if offset >= MAX_SIZE {
                return partly(done, Errno::EFBIG);
            }
            let limit = usize::try_from(MAX_SIZE - offset).unwrap_or(usize::MAX);
            let piece = from.take_with(limit, &mut |bytes| {
                let grows = offset + bytes.len() as u64 > self.size();
                if grows && !self.services.has_room(bytes.len() as u64) {
                    return Err(Errno::ENOSPC);
                }
                loop {
                    match vm.write_object(&self.object, offset, bytes) {
                        Err(CallError::NoMemory) if (self.services.more_memory)() => {}
                        Err(CallError::NoMemory) => return Err(Errno::ENOSPC),
                        outcome => return Ok(outcome?),
                    }
                }
            });
            match piece {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) => return partly(done, error),
            }
        }
        Ok(done)
    }

    /// Makes it `bytes` bytes long: ftruncate(2).
    pub fn resize(&self, bytes: u64) -> Result<(), Errno> {
        if bytes > MAX_SIZE {
            return Err(Errno::EINVAL);
        }
        let _appending = self.appending();
        self.may_resize(bytes)?;
        Ok(self.services.vm.resize(&self.object, bytes)?)
    }

    /// Seals forbid it with [`Errno::EPERM`].
    fn may_resize(&self, bytes: u64) -> Result<(), Errno> {
        let seals = self.object.seals().unwrap_or_default();
        let size = self.size();
        let forbidden = (bytes < size && seals.contains(Seals::SHRINK))
            || (bytes > size && seals.contains(Seals::GROW));
        if forbidden { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// fallocate(2), with Linux's bits of `mode`: 1 keeps the size, 2 makes a hole, 16 makes zeros.
    pub fn allocate(&self, mode: u32, at: u64, length: u64) -> Result<(), Errno> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        const ZERO_RANGE: u32 = 16;
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        let end = at.checked_add(length).filter(|end| *end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let grows = mode & KEEP_SIZE == 0 && end > self.size();
        match mode & !KEEP_SIZE {
            0 if !self.services.has_room(length) => return Err(Errno::ENOSPC),
            0 => {}
            PUNCH_HOLE if mode & KEEP_SIZE == 0 => return Err(Errno::EOPNOTSUPP),
            PUNCH_HOLE | ZERO_RANGE => self.services.vm.punch_hole(&self.object, at, length)?,
            _ => return Err(Errno::EOPNOTSUPP),
        }
        if grows { self.resize(end) } else { Ok(()) }
    }
}

impl<P: Platform> Drop for Regular<P> {
    fn drop(&mut self) {
        // A memory file is written nowhere, so nothing can fail.
        self.services.vm.close(&self.object).ok();
    }
}

/// What was done counts for more than what stopped it.
pub fn partly(done: usize, error: Errno) -> Result<usize, Errno> {
    if done > 0 { Ok(done) } else { Err(error) }
}
