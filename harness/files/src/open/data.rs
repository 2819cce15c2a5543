//! What is done with the bytes of an open file.

use rumpvm::Hold;
use rumpvm_arch::Prot;
use rumpvm_platform::Platform;

use super::{Open, OpenFlags};
use crate::access::Rights;
use crate::errno::Errno;
use crate::node::{Call, FileType, Kind, MAX_SIZE, Memory, Regular};
use crate::transfer::{Exchange, Sink, Source};
use crate::volume::MountFlags;
use crate::wait::Waker;

/// From where lseek(2) counts, with its numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whence {
    /// From the beginning.
    Start = 0,
    /// From where the next byte comes from.
    Here = 1,
    /// From the end.
    End = 2,
    /// The next data from there on.
    Data = 3,
    /// The next hole from there on.
    Hole = 4,
}

impl Whence {
    /// By its number.
    pub fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Start,
            1 => Self::Here,
            2 => Self::End,
            3 => Self::Data,
            4 => Self::Hole,
            _ => return None,
        })
    }
}

impl<P: Platform> Open<P> {
    /// read(2).
    pub fn read(&self, into: &mut dyn Sink, waker: &Hold<Waker<P>, P>) -> Result<usize, Errno> {
        self.may(Rights::READ)?;
        match self.driver() {
            Some(special) if !special.has_position() => special.read(&self.call(waker), 0, into),
            _ => {
                let mut position = self.position.lock();
                let count = self.read_bytes(*position, into, waker)?;
                *position += count as u64;
                Ok(count)
            }
        }
    }

    /// write(2). Of a pipe that nobody reads: [`Errno::EPIPE`], and the signal is the caller's to send.
    pub fn write(&self, from: &mut dyn Source, waker: &Hold<Waker<P>, P>) -> Result<usize, Errno> {
        self.may(Rights::WRITE)?;
        match self.driver() {
            Some(special) if !special.has_position() => special.write(&self.call(waker), 0, from),
            _ => {
                let mut position = self.position.lock();
                let (at, count) = self.write_bytes(Some(*position), from, waker)?;
                *position = at + count as u64;
                Ok(count)
            }
        }
    }

    /// pread(2).
    pub fn read_at(
        &self,
        at: u64,
        into: &mut dyn Sink,
        waker: &Hold<Waker<P>, P>,
    ) -> Result<usize, Errno> {
        self.has_positions(at)?;
        self.may(Rights::READ)?;
        self.read_bytes(at, into, waker)
    }

    /// pwrite(2). Who appends does so here too, as on Linux.
    pub fn write_at(
        &self,
        at: u64,
        from: &mut dyn Source,
        waker: &Hold<Waker<P>, P>,
    ) -> Result<usize, Errno> {
        self.has_positions(at)?;
        self.may(Rights::WRITE)?;
        Ok(self.write_bytes(Some(at), from, waker)?.1)
    }

    /// Whether its bytes have positions, as those of pipes and counters do not.
    pub fn has_position(&self) -> bool {
        self.driver().is_none_or(|special| special.has_position())
    }

    /// lseek(2).
    pub fn seek(&self, offset: i64, whence: Whence) -> Result<u64, Errno> {
        if self.is_path() {
            return Err(Errno::EBADF);
        }
        self.has_positions(0)?;
        let size = self.size();
        let mut position = self.position.lock();
        let from = match whence {
            Whence::Start => 0,
            Whence::Here => *position,
            Whence::End => size,
            // What is in memory has no holes worth telling but the one behind its end.
            Whence::Data | Whence::Hole => {
                let within = u64::try_from(offset).ok().filter(|at| *at < size);
                let at = within.ok_or(Errno::ENXIO)?;
                *position = if whence == Whence::Data { at } else { size };
                return Ok(*position);
            }
        };
        // A disk does not grow, so there is nothing to look for behind its end.
        let is_disk = self.node().file_type() == FileType::Block;
        let most = if is_disk { size } else { MAX_SIZE };
        let to = from.checked_add_signed(offset).filter(|to| *to <= most);
        *position = to.ok_or(Errno::EINVAL)?;
        Ok(*position)
    }

    /// ftruncate(2).
    pub fn truncate(&self, bytes: u64) -> Result<(), Errno> {
        if self.is_path() {
            return Err(Errno::EBADF);
        }
        let regular = self.node().regular().ok_or(Errno::EINVAL)?;
        if !self.rights.contains(Rights::WRITE) {
            return Err(Errno::EINVAL);
        }
        regular.resize(bytes)?;
        self.note_write();
        Ok(())
    }

    /// fallocate(2).
    pub fn allocate(&self, mode: u32, at: u64, length: u64) -> Result<(), Errno> {
        self.may(Rights::WRITE)?;
        match self.node().kind() {
            Kind::File(regular) => regular.allocate(mode, at, length)?,
            Kind::Special(special) if !special.has_position() => return Err(Errno::ESPIPE),
            _ => return Err(Errno::ENODEV),
        }
        self.note_write();
        Ok(())
    }

    /// fsync(2): what has no driver is in memory, and durable as it is.
    pub fn sync(&self) -> Result<(), Errno> {
        match self.driver() {
            Some(special) => special.sync(),
            None if self.is_path() => Err(Errno::EBADF),
            None => Ok(()),
        }
    }

    /// ioctl(2), for what belongs to the file; what belongs to the descriptor is the caller's.
    pub fn control(&self, request: u32, argument: &mut dyn Exchange) -> Result<u64, Errno> {
        match self.driver() {
            Some(special) => special.control(request, argument),
            None if self.is_path() => Err(Errno::EBADF),
            None => Err(Errno::ENOTTY),
        }
    }

    /// What mmap(2) maps.
    pub fn memory(&self) -> Result<Memory<P>, Errno> {
        match self.driver() {
            Some(special) => special.memory(),
            None if self.is_path() => Err(Errno::EBADF),
            None => self.regular().map(|regular| Memory::Object(regular.object().clone())),
        }
    }

    /// The most that its pages may be mapped for, for [`rumpvm::Backing::Opened`].
    pub fn mappable(&self) -> Prot {
        let mut rights = Prot::empty();
        rights.set(Prot::READ, self.rights.contains(Rights::READ));
        rights.set(Prot::WRITE, self.rights.contains(Rights::WRITE));
        let no_execute = self.node().volume().flags().contains(MountFlags::NO_EXECUTE);
        rights.set(Prot::EXEC, !no_execute);
        rights
    }

    /// Bytes that it has.
    pub fn size(&self) -> u64 {
        match (self.driver(), self.node().regular()) {
            (Some(special), _) => special.length(),
            (None, Some(regular)) => regular.size(),
            _ => 0,
        }
    }

    fn regular(&self) -> Result<&Regular<P>, Errno> {
        match self.node().kind() {
            Kind::File(regular) => Ok(regular),
            _ => Err(Errno::ENODEV),
        }
    }

    fn call<'a>(&self, waker: &'a Hold<Waker<P>, P>) -> Call<'a, P> {
        Call { waker, nonblocking: self.flags().contains(OpenFlags::NONBLOCK) }
    }

    fn may(&self, wanted: Rights) -> Result<(), Errno> {
        if self.rights.contains(wanted) { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Whether it is something with positions, and `at` can be one.
    fn has_positions(&self, at: u64) -> Result<(), Errno> {
        if i64::try_from(at).is_err() {
            return Err(Errno::EINVAL);
        }
        if self.has_position() { Ok(()) } else { Err(Errno::ESPIPE) }
    }

    fn read_bytes(
        &self,
        at: u64,
        into: &mut dyn Sink,
        waker: &Hold<Waker<P>, P>,
    ) -> Result<usize, Errno> {
        match (self.driver(), self.node().kind()) {
            (Some(special), _) => special.read(&self.call(waker), at, into),
            (None, Kind::File(regular)) => {
                let count = regular.read(at, into)?;
                if !self.flags().contains(OpenFlags::NO_ACCESS_TIME) {
                    self.node().note_access();
                }
                Ok(count)
            }
            _ => Err(Errno::EISDIR),
        }
    }

    /// Writes at `at`, or at the end; the result begins with where that was.
    fn write_bytes(
        &self,
        at: Option<u64>,
        from: &mut dyn Source,
        waker: &Hold<Waker<P>, P>,
    ) -> Result<(u64, usize), Errno> {
        let at = if self.flags().contains(OpenFlags::APPEND) { None } else { at };
        match (self.driver(), self.node().kind()) {
            (Some(special), _) => {
                let at = at.unwrap_or_else(|| special.length());
                Ok((at, special.write(&self.call(waker), at, from)?))
            }
            (None, Kind::File(regular)) => {
                let appending = at.is_none().then(|| regular.appending());
                let at = at.unwrap_or_else(|| regular.size());
                let count = regular.write(at, from)?;
                drop(appending);
                if count > 0 {
                    self.note_write();
                }
                Ok((at, count))
            }
            _ => Err(Errno::EISDIR),
        }
    }

    fn note_write(&self) {
        self.node().note_change();
        if !self.keeps_privileges {
            self.node().change(|attributes| attributes.drop_privileges());
        }
    }
}
