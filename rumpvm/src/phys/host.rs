//! Frames that the kernel around us takes for itself: all that it needs of this component if it has the rest.
//!
//! Such a frame is [`PageKind::Host`]: a host may map it by `classic`, or use it through the direct map.

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::{PageKind, Phys};
use crate::NoMemory;

/// Why a frame is not taken back. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GiveBackError {
    /// The host does not have it.
    NotHosts,
    /// It is still mapped.
    Mapped,
}

/// What a frame holds when it is handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// Whatever was there.
    Unknown,
    /// Zeros.
    Zeros,
}

impl<P: Platform> Phys<P> {
    /// A frame for the host. Takes spin locks.
    pub fn take_frame(&self, contents: Contents) -> Result<Frame, NoMemory> {
        let fresh = match contents {
            Contents::Unknown => self.alloc()?,
            Contents::Zeros => self.alloc_zeroed()?,
        };
        Ok(self.give(fresh, PageKind::Host))
    }

    /// 2^`order` frames in a row for the host, aligned to their length, with unknown contents; the first of them. Each is
    /// given back by itself. Takes spin locks.
    pub fn take_frames(&self, order: u32) -> Result<Frame, NoMemory> {
        let run = self.alloc_run(order)?;
        let first = run.first();
        for fresh in self.split_run(run) {
            self.give(fresh, PageKind::Host);
        }
        Ok(first)
    }

    /// Takes a frame back from the host. Takes spin locks.
    pub fn give_back(&self, frame: Frame) -> Result<(), GiveBackError> {
        let page = self.host_page(frame).ok_or(GiveBackError::NotHosts)?;
        if !page.is_unused() {
            return Err(GiveBackError::Mapped);
        }
        self.free(self.take(frame));
        Ok(())
    }

    /// Whether the host may say what becomes of `frames` frames from `first` on: none of them is the component's. Those
    /// that were added are of the host's ([`PageKind::Host`]).
    pub(crate) fn is_hosts(&self, first: Frame, frames: u32) -> bool {
        let end = first.0.saturating_add(frames);
        self.records.extents().all(|(start, many)| {
            let common = start.max(first.0)..(start + many).min(end);
            common.into_iter().all(|at| self.host_page(Frame(at)).is_some())
        })
    }

    /// The record of `frame`, if the host has it.
    pub(crate) fn host_page(&self, frame: Frame) -> Option<&super::Page<P>> {
        self.known(frame).filter(|page| page.kind() == PageKind::Host)
    }
}
