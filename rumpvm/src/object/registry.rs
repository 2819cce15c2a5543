//! The registry: which objects there are, and that one file is one object.
//!
//! Locks: its own sleep lock, held for a search; not while an object is written out.
//! Sleep: `open_file` waits for an object that is just leaving; `release` writes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rumpvm_arch::{Frame, PAGE_SIZE};
use rumpvm_platform::{File, FileId, IoError, Platform};

use super::{LEAVING, LIVE, Object, Pager, Purpose, Seals};
use crate::NoMemory;
use crate::pmap::Mmu;
use crate::promise::{Promises, Taken};
use crate::sync::{Hold, Mutex, Ordering, class, try_reserve};

/// All objects of a machine.
pub struct Registry<P: Platform> {
    list: Mutex<List<P>, P>,
    promises: Promises<P>,
}

struct List<P: Platform> {
    /// In order of the file's identity; objects without a file by number, behind all files.
    objects: Vec<Hold<Object<P>, P>>,
    next_id: u64,
}

/// Where an object stands in the list: files first, by identity; others by number.
fn key<P: Platform>(object: &Object<P>) -> (bool, FileId) {
    match object.file_id() {
        Some(file) => (false, file),
        None => (true, FileId { device: 0, inode: object.id() }),
    }
}

impl<P: Platform> Registry<P> {
    /// No objects, on a machine of so many CPUs.
    pub(crate) fn try_new(cpus: usize) -> Result<Self, NoMemory> {
        let list = Mutex::new(&class::REGISTRY, List { objects: Vec::new(), next_id: 1 });
        Ok(Self { list, promises: Promises::try_new(cpus)? })
    }

    /// What was promised, to areas and objects.
    pub(crate) fn promises(&self) -> &Promises<P> {
        &self.promises
    }

    /// The object of `file`, with one more user. Every open of one file gives the same object.
    pub fn open_file(&self, file: Box<dyn File>) -> Result<Hold<Object<P>, P>, NoMemory> {
        let (id, size) = ((false, file.id()), file.length());
        loop {
            let mut list = self.list.lock();
            let at = match list.objects.binary_search_by_key(&id, |object| key(object)) {
                Err(at) => {
                    return list.insert(at, Pager::File(file), size);
                }
                Ok(at) => at,
            };
            let object = list.objects[at].clone();
            if object.state.load(Ordering::Acquire) == LIVE {
                object.add_user();
                return Ok(object);
            }
            drop(list);
            object.state.sleep_while(LEAVING);
        }
    }

    /// New anonymous memory of `bytes` bytes that spaces can share, which keeps what was promised for it.
    pub(crate) fn memory(
        &self,
        purpose: Purpose,
        bytes: u64,
        seals: Seals,
        promise: Option<Taken<'_, P>>,
    ) -> Result<Hold<Object<P>, P>, NoMemory> {
        let mut list = self.list.lock();
        let at = list.objects.len();
        let object = list.insert(at, Pager::Memory(purpose), bytes)?;
        object.seals.store(seals.bits(), Ordering::Release);
        object.promised.store(promise.map_or(0, Taken::keep), Ordering::Release);
        Ok(object)
    }

    /// The `frames` frames of a device from `first` on, which were not given to the component as memory.
    pub fn device(&self, first: Frame, frames: u32) -> Result<Hold<Object<P>, P>, NoMemory> {
        let mut list = self.list.lock();
        let at = list.objects.len();
        list.insert(at, Pager::Device { first }, u64::from(frames) * PAGE_SIZE)
    }

    /// As [`Registry::release`], for a user who has no way to report an error, such as munmap(2): a file that could not
    /// be written keeps its pages, and the log says so.
    pub fn let_go(&self, mmu: &Mmu<P>, object: &Hold<Object<P>, P>) {
        if let Err(_error) = self.release(mmu, object) {
            #[cfg(feature = "log")]
            log::warn!("object {} stays in memory: {_error:?}", object.id());
        }
    }

    /// One user of `object` leaves. The last one has dirty pages written and all pages freed; if writing
    /// fails the object stays, with its pages, for the next `open_file` of that file. Sleeps.
    pub fn release(&self, mmu: &Mmu<P>, object: &Hold<Object<P>, P>) -> Result<(), IoError> {
        let users = &object.users;
        loop {
            let before = users.load(Ordering::Acquire);
            if before > 1 {
                if users.compare_exchange(before, before - 1, Ordering::AcqRel).is_ok() {
                    return Ok(());
                }
                continue;
            }
            if before == 0 {
                mmu.phys.broken(format_args!("object {} is released once too often", object.id));
            }
            // The last one leaves under the lock, so that `open_file` cannot come in between.
            let list = self.list.lock();
            if users.compare_exchange(1, 0, Ordering::AcqRel).is_ok() {
                object.state.store(LEAVING, Ordering::Release);
                drop(list);
                break;
            }
        }
        let written = object.write_back(mmu, (0, u64::MAX));
        if written.is_ok() {
            object.end(mmu);
            self.promises.give_back(object.promised.load(Ordering::Acquire));
            let mut list = self.list.lock();
            if let Ok(at) = list.objects.binary_search_by_key(&key(object), |object| key(object)) {
                list.objects.remove(at);
            }
        }
        object.state.store(LIVE, Ordering::Release);
        object.state.wake_sleepers();
        written
    }

    /// Calls `f` with every object.
    pub fn for_each(&self, mut f: impl FnMut(&Hold<Object<P>, P>)) {
        for object in &self.list.lock().objects {
            f(object);
        }
    }
}

impl<P: Platform> List<P> {
    fn insert(
        &mut self,
        at: usize,
        pager: Pager,
        size: u64,
    ) -> Result<Hold<Object<P>, P>, NoMemory> {
        try_reserve::<_, P>(&mut self.objects, 1)?;
        let object = Object::try_new(self.next_id, pager, size);
        let object = object?;
        self.next_id += 1;
        self.objects.insert(at, object.clone());
        Ok(object)
    }
}
