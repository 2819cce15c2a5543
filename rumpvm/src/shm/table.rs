//! The table of segments, and shmget(2).
//!
//! A number is the place in the table with a count of rounds in its upper bits; places are given out one after the
//! other, as Linux does (`ipc_addid`), so that a number is not used again soon.

use alloc::vec::Vec;

use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::Platform;

use super::{Caller, DEST, MODE, PRIVATE, Segment, SegmentFlags, SegmentLimits, Status};
use crate::error::CallError;
use crate::map::Store;
use crate::object::{Object, Purpose, Seals};
use crate::promise::{Asker, Overcommit};
use crate::sync::{Hold, Mutex, class, try_reserve};

/// All segments of a machine.
pub struct Segments<P: Platform> {
    pub(super) table: Mutex<Table<P>, P>,
}

pub(super) struct Table<P: Platform> {
    /// By place.
    pub(super) segments: Vec<(u32, Segment<P>)>,
    pub(super) limits: SegmentLimits,
    /// The place that was given out last.
    last: Option<u32>,
    /// How often places began again.
    round: u32,
}

/// Places in a table, as Linux has them in a number.
const PLACE_BITS: u32 = 15;

/// Places that are used before the first one is used again, if there are no more segments.
const CYCLE: u32 = 64;

impl<P: Platform> Default for Segments<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Segments<P> {
    /// No segments.
    pub fn new() -> Self {
        let limits = SegmentLimits::default();
        let table = Table { segments: Vec::new(), limits, last: None, round: 0 };
        Self { table: Mutex::new(&class::SEGMENTS, table) }
    }

    /// The limits of all segments (`IPC_INFO`).
    pub fn limits(&self) -> SegmentLimits {
        self.table.lock().limits
    }

    /// Changes them. What there is stays.
    pub fn set_limits(&self, limits: SegmentLimits) {
        self.table.lock().limits = limits;
    }

    /// shmget(2): the number of the segment with `key`, or of a new one of `bytes` bytes. `mode` has the
    /// permissions of a new one, and those that are asked for of one that there is.
    ///
    /// Takes the table's lock. Errors, and then nothing has changed: [`CallError::NotFound`],
    /// [`CallError::Exists`], [`CallError::Invalid`] for a size that it does not have or cannot have,
    /// [`CallError::Denied`], [`CallError::NoSpace`] at the limits, [`CallError::NoMemory`].
    pub fn get(
        &self,
        store: &Store<P>,
        caller: &Caller<'_>,
        key: i32,
        bytes: u64,
        flags: SegmentFlags,
        mode: u32,
    ) -> Result<i32, CallError> {
        let mut table = self.table.lock();
        table.forget_ended();
        let found = table.segments.iter().find(|(_, segment)| segment.status.key == key);
        match found.filter(|_| key != PRIVATE) {
            Some(_) if flags.contains(SegmentFlags::CREATE | SegmentFlags::EXCLUSIVE) => {
                Err(CallError::Exists)
            }
            Some((_, segment)) if segment.status.bytes < bytes => Err(CallError::Invalid),
            Some((_, segment)) if !segment.permits(caller, mode & MODE) => Err(CallError::Denied),
            Some((_, segment)) => Ok(segment.status.id),
            None if key != PRIVATE && !flags.contains(SegmentFlags::CREATE) => {
                Err(CallError::NotFound)
            }
            None => table.make(store, caller, key, bytes, (flags, mode & MODE)),
        }
    }
}

impl<P: Platform> Table<P> {
    /// Forgets what was removed and has lost its last area (G2).
    pub(super) fn forget_ended(&mut self) {
        self.segments.retain(|(_, segment)| !segment.is_removed() || segment.object.users() > 0);
    }

    /// The segment of that number.
    pub(super) fn find(&mut self, id: i32) -> Result<&mut Segment<P>, CallError> {
        let place = u32::try_from(id).map_err(|_| CallError::Invalid)? & ((1 << PLACE_BITS) - 1);
        let segment = self.at(place).ok_or(CallError::Invalid)?;
        if segment.status.id == id { Ok(segment) } else { Err(CallError::Invalid) }
    }

    /// The segment at that place.
    pub(super) fn at(&mut self, place: u32) -> Option<&mut Segment<P>> {
        self.forget_ended();
        let at = self.segments.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some(&mut self.segments[at].1)
    }

    /// Pages of all.
    pub(super) fn pages(&self) -> u64 {
        self.segments.iter().map(|(_, segment)| segment.pages()).sum()
    }

    fn make(
        &mut self,
        store: &Store<P>,
        caller: &Caller<'_>,
        key: i32,
        bytes: u64,
        (flags, mode): (SegmentFlags, u32),
    ) -> Result<i32, CallError> {
        let limits = self.limits;
        if bytes == 0 || bytes > limits.bytes {
            return Err(CallError::Invalid);
        }
        let all = self.pages().checked_add(bytes.div_ceil(PAGE_SIZE));
        if all.is_none_or(|all| all > limits.pages) {
            return Err(CallError::NoSpace);
        }
        if flags.contains(SegmentFlags::HUGETLB) {
            return Err(CallError::NoMemory);
        }
        let (place, round) = self.number(limits.segments)?;
        try_reserve::<_, P>(&mut self.segments, 1)?;
        // Last of all, because an object must not end while the table is held.
        let object = Self::memory(store, caller, bytes, flags)?;
        (self.last, self.round) = (Some(place), round);
        let id = (round << PLACE_BITS | place).cast_signed();
        let status = Status {
            id,
            key,
            uid: caller.uid,
            gid: caller.gid,
            creator_uid: caller.uid,
            creator_gid: caller.gid,
            mode: mode & !DEST,
            bytes,
            attached: 0,
            detached: 0,
            changed: caller.now,
            creator: caller.pid,
            last: 0,
            attachments: 0,
        };
        let at = self.segments.partition_point(|(other, _)| *other < place);
        self.segments.insert(at, (place, Segment { object, status }));
        Ok(id)
    }

    /// The memory of a new segment, promised as a whole.
    fn memory(
        store: &Store<P>,
        caller: &Caller<'_>,
        bytes: u64,
        flags: SegmentFlags,
    ) -> Result<Hold<Object<P>, P>, CallError> {
        // What an offset cannot tell.
        if bytes > i64::MAX as u64 {
            return Err(CallError::Invalid);
        }
        let promises = store.objects.promises();
        let reserved =
            !flags.contains(SegmentFlags::NORESERVE) || promises.mode() == Overcommit::Never;
        let promise = if reserved {
            let admin = caller.rank == super::Rank::Administrator;
            let memory = store.mmu.phys.total_frames();
            let asker = Asker { admin, mapped: 0 };
            Some(promises.take(bytes.div_ceil(PAGE_SIZE), memory, asker)?)
        } else {
            None
        };
        Ok(store.objects.memory(Purpose::Segment, bytes, Seals::empty(), promise)?)
    }

    /// The next free place, and its round.
    fn number(&self, most: u64) -> Result<(u32, u32), CallError> {
        let used = self.segments.len() as u64;
        if used >= most.min(1 << PLACE_BITS) {
            return Err(CallError::NoSpace);
        }
        let cycle = CYCLE.max((used * 3 / 2) as u32).min(1 << PLACE_BITS).min(most as u32);
        let first = self.last.map_or(0, |last| last + 1);
        let free =
            |place: &u32| self.segments.binary_search_by_key(place, |(place, _)| *place).is_err();
        if let Some(place) = (first..cycle).find(free) {
            return Ok((place, self.round));
        }
        let place = (0..cycle).find(free).ok_or(CallError::NoSpace)?;
        // 16 bits are left for rounds in a number that is not negative.
        Ok((place, (self.round + 1) & 0xffff))
    }
}
