//! The bytes of an object, for read(2) and write(2): what mappings see, and what they have stored.
//!
//! Locks: a leaf while bytes of its page are copied; `resizing` for whoever writes, so that writers see one size.
//! Sleep: for pages in transit, and in the file.

use rumpvm_arch::{Frame, PAGE_SIZE};
use rumpvm_platform::Platform;

use super::{Object, PagerError, Resident, Seals};
use crate::NoMemory;
use crate::error::CallError;
use crate::pmap::Mmu;
use crate::radix::Slot;

/// What an access found.
enum Found<T> {
    /// A page, of which `work` made this.
    Page(T),
    /// Nothing in memory, where it was not to be made.
    Hole,
    /// The object ends before it.
    End,
}

impl<P: Platform> Object<P> {
    /// Copies bytes from `offset` on and returns how many there were: fewer than asked for only at the end.
    pub(crate) fn read(
        &self,
        mmu: &Mmu<P>,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, CallError> {
        let mut done = 0;
        while done < into.len() {
            let (at, length) = piece(offset, done, into.len())?;
            // As wide as the size: the rest of an object may be longer than an address space.
            let length = self.size().saturating_sub(at).min(length as u64) as usize;
            if length == 0 {
                break;
            }
            let part = &mut into[done..done + length];
            let copied = self.with_page(mmu, at / PAGE_SIZE, self.is_memory(), |frame| {
                mmu.phys.read(frame, at % PAGE_SIZE, part);
            });
            match copied {
                Ok(Found::Page(())) => done += length,
                Ok(Found::Hole) => {
                    part.fill(0);
                    done += length;
                }
                Ok(Found::End) => break,
                Err(error) => return partly(done, error),
            }
        }
        Ok(done)
    }

    /// Stores `from` at `offset` and returns how many bytes were: the object becomes longer if need be. Fewer
    /// than asked for if seals or a failure stop it in the middle.
    pub(crate) fn write(&self, mmu: &Mmu<P>, offset: u64, from: &[u8]) -> Result<usize, CallError> {
        if self.device().is_some() {
            return Err(CallError::Invalid);
        }
        let resizing = self.resizing(mmu);
        let seals = self.sealed();
        let mut done = 0;
        while done < from.len() {
            let (at, length) = piece(offset, done, from.len())?;
            let end = at + length as u64;
            let grows = end > self.size();
            if seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE)
                || (grows && seals.contains(Seals::GROW))
            {
                return partly(done, CallError::NotPermitted);
            }
            if grows && let Err(error) = resizing.set(mmu, end) {
                return partly(done, error);
            }
            let part = &from[done..done + length];
            let copied = self.with_page(mmu, at / PAGE_SIZE, false, |frame| {
                mmu.phys.write(frame, at % PAGE_SIZE, part);
                if self.file().is_some() {
                    mmu.phys.page(frame).set_dirty();
                }
            });
            match copied {
                Ok(Found::Page(())) => done += length,
                Ok(Found::Hole | Found::End) => return partly(done, CallError::Invalid),
                Err(error) => return partly(done, error),
            }
        }
        Ok(done)
    }

    /// Gives the pages that `length` bytes from `offset` touch back: they read as zeros then. Private copies stay.
    pub(crate) fn punch_hole(
        &self,
        mmu: &Mmu<P>,
        offset: u64,
        length: u64,
    ) -> Result<(), CallError> {
        if !self.is_memory() {
            return Err(CallError::Unsupported);
        }
        let end = allocation_end(offset, length)?;
        let _resizing = self.resizing(mmu);
        if self.sealed().intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
            return Err(CallError::NotPermitted);
        }
        let (first, last) = (offset.div_ceil(PAGE_SIZE), end / PAGE_SIZE);
        if first > last {
            // Inside one page.
            self.zero_part(mmu, offset, end);
        } else {
            self.zero_part(mmu, offset, first * PAGE_SIZE);
            self.zero_part(mmu, last * PAGE_SIZE, end);
        }
        if first < last {
            self.drop_pages(mmu, (first, last));
        }
        Ok(())
    }

    /// Brings in the pages `first..last`, as far as the object has them. What came in before memory ended stays.
    pub(crate) fn bring_in(
        &self,
        mmu: &Mmu<P>,
        (first, last): (u64, u64),
    ) -> Result<(), CallError> {
        (first..last).try_for_each(|index| self.with_page(mmu, index, false, |_| ()).map(drop))
    }

    /// Zeroes `from..to`, which lies in one page, if that is in memory.
    fn zero_part(&self, mmu: &Mmu<P>, from: u64, to: u64) {
        const ZEROS: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
        if from < to
            && let Some((frame, _busy)) = self.busy(mmu, from / PAGE_SIZE)
        {
            mmu.phys.write(frame, from % PAGE_SIZE, &ZEROS[..(to - from) as usize]);
        }
    }

    /// Calls `work` with the frame of page `index` while it stays in the object.
    fn with_page<T>(
        &self,
        mmu: &Mmu<P>,
        index: u64,
        leave_holes: bool,
        mut work: impl FnMut(Frame) -> T,
    ) -> Result<Found<T>, CallError> {
        let mut squeezed = false;
        loop {
            let missing = {
                let pin = mmu.phys.epoch.pin();
                if leave_holes && self.pages.get(&mmu.phys, &pin, index) == Slot::Empty {
                    return Ok(Found::Hole);
                }
                match self.resident(mmu, &pin, index) {
                    Ok(Resident::Page(frame, _leaf)) if mmu.phys.has(frame) => {
                        return Ok(Found::Page(work(frame)));
                    }
                    // The direct map need not cover the memory of a device.
                    Ok(Resident::Page(..)) => return Err(CallError::Invalid),
                    Ok(Resident::BeyondEnd) => return Ok(Found::End),
                    Ok(Resident::Busy(frame)) => Missing::Busy(frame),
                    Ok(Resident::Absent) => Missing::Absent,
                    Err(NoMemory) => Missing::Memory,
                }
            };
            let outcome = match missing {
                Missing::Busy(frame) => {
                    mmu.phys.page(frame).sleep_while_busy();
                    continue;
                }
                Missing::Absent => self.page_in(mmu, index),
                Missing::Memory => Err(PagerError::NoMemory),
            };
            match outcome {
                Ok(()) => {}
                Err(PagerError::NoMemory) if !squeezed => {
                    squeezed = true;
                    mmu.squeeze();
                }
                Err(PagerError::NoMemory) => return Err(CallError::NoMemory),
                Err(PagerError::Io(error)) => return Err(error.into()),
            }
        }
    }
}

/// Why a page is not there.
enum Missing {
    Busy(Frame),
    Absent,
    Memory,
}

/// Where `length` bytes from `offset` end, for fallocate(2).
pub(crate) fn allocation_end(offset: u64, length: u64) -> Result<u64, CallError> {
    const MOST: u64 = i64::MAX as u64;
    if length == 0 || offset > MOST || length > MOST {
        return Err(CallError::Invalid);
    }
    let end = offset.checked_add(length).filter(|end| *end <= MOST);
    end.ok_or(CallError::TooLarge)
}

/// Where the next piece begins that lies in one page, and how long it is.
fn piece(offset: u64, done: usize, all: usize) -> Result<(u64, usize), CallError> {
    let at = offset.checked_add(done as u64).ok_or(CallError::Invalid)?;
    Ok((at, (PAGE_SIZE - at % PAGE_SIZE).min((all - done) as u64) as usize))
}

/// What was done counts for more than what stopped it.
fn partly(done: usize, error: CallError) -> Result<usize, CallError> {
    if done > 0 { Ok(done) } else { Err(error) }
}
