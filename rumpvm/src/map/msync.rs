//! msync(2): write what was stored through shared file mappings.

use core::ops::ControlFlow;

use bitflags::bitflags;

use rumpvm_arch::VirtAddr;
use rumpvm_platform::Platform;

use super::{AreaFlags, Map, Store};
use crate::error::CallError;
use rumpvm_arch::{PAGE_SIZE, VirtRange};

bitflags! {
    /// Flags of msync(2), with Linux's values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SyncFlags: u32 {
        /// Begin to write and return. As on Linux since 2.6.19 nothing is begun: dirty pages are written
        /// anyway, later.
        const ASYNC = 1;
        /// Other mappings must see the file's contents. They always do: one file is one object.
        const INVALIDATE = 2;
        /// Write, and return when it is done.
        const SYNC = 4;
    }
}

impl<P: Platform> Map<P> {
    /// With `SYNC`, writes every dirty page of the shared file mappings in `length` bytes from `at`, and
    /// makes the files durable. Holes do not stop it, but the answer is [`CallError::Unmapped`].
    ///
    /// Sleeps. Takes no lock across a write.
    pub fn msync(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        flags: SyncFlags,
    ) -> Result<(), CallError> {
        if flags.bits() & !SyncFlags::all().bits() != 0
            || flags.contains(SyncFlags::ASYNC | SyncFlags::SYNC)
            || !at.is_page_aligned()
        {
            return Err(CallError::Invalid);
        }
        // Rounding wraps to nothing at the very top, as it does on Linux.
        let length = length.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        let range = VirtRange::of_length(at, length).ok_or(CallError::Unmapped)?;
        let mut from = range.start;
        let mut complete = true;
        while from < range.end {
            // One area at a time: it is looked up again after each write.
            let found = {
                let pin = store.mmu.phys.epoch.pin();
                let walked = self.areas.visit(&pin, from.0, range.end.0, |area| {
                    ControlFlow::Break(area.part(area.range.clip(range)))
                });
                walked.break_value()
            };
            let Some(area) = found else {
                complete = false;
                break;
            };
            complete &= area.range.start <= from;
            from = area.range.end;
            if flags.contains(SyncFlags::INVALIDATE) && area.flags.contains(AreaFlags::LOCKED) {
                return Err(CallError::Busy);
            }
            if flags.contains(SyncFlags::SYNC)
                && area.is_shared()
                && let Some(object) = &area.object
            {
                let first = area.offset / PAGE_SIZE;
                object.write_back(&store.mmu, (first, first + area.range.pages()))?;
                if let Some(file) = object.file() {
                    file.sync()?;
                }
            }
        }
        if complete { Ok(()) } else { Err(CallError::Unmapped) }
    }
}
