//! Signals that have been sent and not been delivered yet, of one thread or of one process.

use alloc::vec::Vec;

use rumpvm::sync::try_push;
use rumpvm_bare::Bare;

use super::{Info, Set, Signal};

/// Most that are kept with what they carry: `RLIMIT_SIGPENDING` is of this order on small machines.
const MOST: usize = 1024;

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

    /// One more; false if a queued signal finds no room. Others are noted once, and then there is always room.
    pub(crate) fn add(&mut self, info: Info) -> bool {
        let signal = info.signal;
        if !signal.is_queued() && self.set & signal.bit() != 0 {
            return true;
        }
        let kept = self.infos.len() < MOST && try_push::<_, Bare>(&mut self.infos, info).is_ok();
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
