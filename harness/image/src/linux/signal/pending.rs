//! Signals that have been sent and not been delivered yet, of one thread or of one process.

use alloc::vec::Vec;

use rumpvm::sync::try_push;
use rumpvm_bare::Bare;

use super::{Info, Set, Signal, code};

/// What is pending.
#[derive(Default)]
pub(crate) struct Pending {
    set: Set,
    /// In the order in which they came. A signal in the set that has none here carries nothing.
    infos: Vec<Info>,
}

impl Pending {
    /// Which signals are.
    pub(crate) fn set(&self) -> Set {
        self.set
    }

    /// How many are kept with what they carry.
    pub(crate) fn count(&self) -> usize {
        self.infos.len()
    }

    /// One more, where `most` are kept with what they carry; false if a queued signal finds no room. Others are noted
    /// once, and then there is always room; a timer's is noted once, whatever it is, and says how often that went off
    /// besides.
    pub(crate) fn add(&mut self, info: Info, most: u64) -> bool {
        let signal = info.signal;
        if info.code == code::TIMER
            && let Some(first) = self.infos.iter_mut().find(|first| first.is_of_timer(&info))
        {
            let (id, before) = (first.fields[0] as u32, first.fields[0] >> 32);
            let overrun = (before + 1 + (info.fields[0] >> 32)).min(i32::MAX as u64);
            first.fields[0] = u64::from(id) | overrun << 32;
            return true;
        }
        if !signal.is_queued() && self.set & signal.bit() != 0 {
            return true;
        }
        let has_room = (self.infos.len() as u64) < most;
        let kept = has_room && try_push::<_, Bare>(&mut self.infos, info).is_ok();
        if kept || !signal.is_queued() {
            self.set |= signal.bit();
        }
        kept || !signal.is_queued()
    }

    /// The next one that is in `wanted`.
    pub(crate) fn take(&mut self, wanted: Set) -> Option<Info> {
        let signal = Signal::first_of(self.set & wanted)?;
        let at = self.infos.iter().position(|info| info.signal == signal);
        let info = at.map_or(Info::from(signal, 0, 0, 0), |at| self.infos.remove(at));
        if !self.infos.iter().any(|info| info.signal == signal) {
            self.set &= !signal.bit();
        }
        Some(info)
    }

    /// Forgets those in `set`.
    pub(crate) fn forget(&mut self, set: Set) {
        self.set &= !set;
        self.infos.retain(|info| info.signal.bit() & set == 0);
    }
}
