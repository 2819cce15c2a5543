//! shmat(2) and shmdt(2).

use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};
use rumpvm_platform::Platform;

use super::{AttachFlags, Caller, Segments};
use crate::error::CallError;
use crate::map::{Backing, MapFlags, Store};
use crate::object::Object;
use crate::space::Space;
use crate::sync::Hold;

impl<P: Platform> Segments<P> {
    /// shmat(2): maps the segment `id` in `space`, at `at` or, if that is 0, anywhere; returns where.
    ///
    /// Takes the table's lock, then the map's. Errors, and then nothing has changed: [`CallError::Invalid`] for a
    /// number or an address that does not fit, or where something is mapped already; [`CallError::Denied`];
    /// what [`Space::mmap`] says.
    pub fn attach(
        &self,
        store: &Store<P>,
        caller: &Caller<'_>,
        space: &Space<P>,
        id: i32,
        at: VirtAddr,
        flags: AttachFlags,
    ) -> Result<VirtAddr, CallError> {
        if id < 0 {
            return Err(CallError::Invalid);
        }
        let (place, fixed) = place(at, flags)?;
        let (mut prot, mut mode) = (Prot::READ, 0o444);
        if !flags.contains(AttachFlags::RDONLY) {
            (prot, mode) = (Prot::RW, 0o666);
        }
        let mut rights = prot | Prot::EXEC;
        if flags.contains(AttachFlags::EXEC) {
            (prot, mode) = (prot | Prot::EXEC, mode | 0o111);
        }
        rights |= prot;
        let (object, bytes) = self.enter(caller, id, mode)?;
        let mut how = MapFlags::SHARED;
        if fixed && flags.contains(AttachFlags::REMAP) {
            how |= MapFlags::FIXED;
        } else if fixed {
            how |= MapFlags::FIXED_NOREPLACE;
        }
        let backing = Backing::Opened(&object, rights);
        let attached = space.mmap(store, place, bytes, prot, how, backing, 0);
        // The area is a user now, if it was made.
        store.objects.release(&store.mmu, &object)?;
        let attached = attached.map_err(|error| match error {
            CallError::Exists => CallError::Invalid,
            error => error,
        })?;
        if let Ok(segment) = self.table.lock().find(id) {
            (segment.status.attached, segment.status.last) = (caller.now, caller.pid);
        }
        Ok(attached)
    }

    /// The object of a segment, with one more user, and its size in bytes.
    fn enter(
        &self,
        caller: &Caller<'_>,
        id: i32,
        mode: u32,
    ) -> Result<(Hold<Object<P>, P>, u64), CallError> {
        let mut table = self.table.lock();
        let segment = table.find(id)?;
        if !segment.permits(caller, mode) {
            return Err(CallError::Denied);
        }
        // One that was removed may be losing its last area.
        if !segment.object.try_add_user() {
            return Err(CallError::Invalid);
        }
        Ok((segment.object.clone(), segment.status.bytes))
    }

    /// shmdt(2): unmaps what is left of the segment that was attached at `at`, all pieces of it that are where
    /// they were.
    ///
    /// Takes the map's lock, then the table's. Sleeps when that was the last area of a removed segment. Errors:
    /// [`CallError::Invalid`] if there is none; [`CallError::NoMemory`], and then the pieces before are gone.
    pub fn detach(
        &self,
        store: &Store<P>,
        caller: &Caller<'_>,
        space: &Space<P>,
        at: VirtAddr,
    ) -> Result<(), CallError> {
        let object = space.detach_segment(store, at)?;
        let mut table = self.table.lock();
        table.forget_ended();
        let segment = table.segments.iter_mut().find(|(_, segment)| segment.object.is(&object));
        if let Some((_, segment)) = segment {
            (segment.status.detached, segment.status.last) = (caller.now, caller.pid);
        }
        Ok(())
    }
}

/// Where `at` says, and whether it says it.
fn place(at: VirtAddr, flags: AttachFlags) -> Result<(VirtAddr, bool), CallError> {
    let replaces = flags.contains(AttachFlags::REMAP);
    if at.0 == 0 {
        return if replaces { Err(CallError::Invalid) } else { Ok((at, false)) };
    }
    if at.0.is_multiple_of(PAGE_SIZE) {
        return Ok((at, true));
    }
    let down = at.page_down();
    if !flags.contains(AttachFlags::RND) || (down.0 == 0 && replaces) {
        return Err(CallError::Invalid);
    }
    Ok((down, true))
}
