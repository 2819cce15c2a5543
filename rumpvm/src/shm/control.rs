//! shmctl(2), one method for each command.

use rumpvm_platform::Platform;

use super::{Caller, DEST, LOCKED, MODE, PRIVATE, Segments, Status, Totals};
use crate::error::CallError;
use crate::map::{Limits, Store};

impl<P: Platform> Segments<P> {
    /// What there is of all segments (`SHM_INFO`). Takes the table's lock.
    pub fn totals(&self, store: &Store<P>) -> Totals {
        let mut table = self.table.lock();
        table.forget_ended();
        let resident = |segment: &super::Segment<P>| segment.object.resident_pages(&store.mmu);
        Totals {
            segments: table.segments.len() as u64,
            pages: table.pages(),
            resident: table.segments.iter().map(|(_, segment)| resident(segment)).sum(),
            highest: table.segments.last().map_or(0, |(place, _)| place.cast_signed()),
        }
    }

    /// What is known of a segment (`IPC_STAT`). Takes the table's lock. Errors: [`CallError::Invalid`],
    /// [`CallError::Denied`].
    pub fn status(&self, caller: &Caller<'_>, id: i32) -> Result<Status, CallError> {
        let mut table = self.table.lock();
        let segment = table.find(id)?;
        if segment.permits(caller, 0o444) { Ok(segment.status()) } else { Err(CallError::Denied) }
    }

    /// The same of the segment at a place in the table (`SHM_STAT`).
    pub fn status_at(&self, caller: &Caller<'_>, place: i32) -> Result<Status, CallError> {
        let status = self.status_of_any(place)?;
        let mut table = self.table.lock();
        let segment = table.find(status.id)?;
        if segment.permits(caller, 0o444) { Ok(segment.status()) } else { Err(CallError::Denied) }
    }

    /// The same, whoever asks (`SHM_STAT_ANY`).
    pub fn status_of_any(&self, place: i32) -> Result<Status, CallError> {
        let place = u32::try_from(place).map_err(|_| CallError::Invalid)?;
        let mut table = self.table.lock();
        table.at(place).map(|segment| segment.status()).ok_or(CallError::Invalid)
    }

    /// Changes owner and permissions (`IPC_SET`). Takes the table's lock. Errors: [`CallError::Invalid`],
    /// [`CallError::NotPermitted`].
    pub fn set(
        &self,
        caller: &Caller<'_>,
        id: i32,
        (uid, gid): (u32, u32),
        mode: u32,
    ) -> Result<(), CallError> {
        let mut table = self.table.lock();
        let segment = table.find(id)?;
        if !segment.is_owned_by(caller) {
            return Err(CallError::NotPermitted);
        }
        let status = &mut segment.status;
        (status.uid, status.gid) = (uid, gid);
        status.mode = (status.mode & !MODE) | (mode & MODE);
        status.changed = caller.now;
        Ok(())
    }

    /// Removes a segment (`IPC_RMID`): nobody finds it by its key any more, and its memory goes with its last
    /// area. Takes the table's lock; sleeps when that is now. Errors: [`CallError::Invalid`],
    /// [`CallError::NotPermitted`].
    pub fn remove(&self, store: &Store<P>, caller: &Caller<'_>, id: i32) -> Result<(), CallError> {
        let mut table = self.table.lock();
        let segment = table.find(id)?;
        if !segment.is_owned_by(caller) {
            return Err(CallError::NotPermitted);
        }
        if segment.is_removed() {
            return Ok(());
        }
        segment.status.mode |= DEST;
        segment.status.key = PRIVATE;
        let object = segment.object.clone();
        drop(table);
        // The table's own use. Whoever looks at the table meanwhile counts it as an area.
        Ok(store.objects.release(&store.mmu, &object)?)
    }

    /// Locks the pages of a segment in memory, which they are anyway, or ends that (`SHM_LOCK`, `SHM_UNLOCK`).
    /// Takes the table's lock. Errors: [`CallError::Invalid`], [`CallError::NotPermitted`] for who does not own it
    /// or may not lock anything.
    pub fn set_locked(
        &self,
        caller: &Caller<'_>,
        limits: &Limits,
        id: i32,
        locked: bool,
    ) -> Result<(), CallError> {
        let mut table = self.table.lock();
        let segment = table.find(id)?;
        if !segment.is_owned_by(caller) || (locked && limits.locked == 0) {
            return Err(CallError::NotPermitted);
        }
        if locked {
            segment.status.mode |= LOCKED;
        } else {
            segment.status.mode &= !LOCKED;
        }
        Ok(())
    }
}
