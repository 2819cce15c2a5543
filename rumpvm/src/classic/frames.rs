//! Frames: what a host asks of one wherever it is mapped, and what is in it.

use rumpvm_arch::{Frame, Prot, Pte};
use rumpvm_platform::Platform;

use super::Pmaps;
use crate::phys::Page;
use crate::pmap::Debt;

/// The host does not have that frame. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotHosts;

impl<P: Platform> Pmaps<P> {
    fn page(&self, frame: Frame) -> Result<&Page<P>, NotHosts> {
        self.phys.host_page(frame).ok_or(NotHosts)
    }

    /// Leaves no more than `prot` of the rights of every mapping of `frame`, wired or not, in every pmap, and in the
    /// kernel's window where that keeps track: pmap_page_protect. With no rights it is mapped nowhere any more, and may be
    /// given back or get other contents.
    pub fn page_protect(&self, frame: Frame, prot: Prot) -> Result<(), NotHosts> {
        self.page(frame)?;
        let mut debt = Debt::new();
        let pin = self.phys.epoch.pin();
        if prot.is_empty() {
            self.revoke(&pin, frame, &mut debt);
        } else {
            self.restrict_frame(&pin, frame, prot, &mut debt);
        }
        drop(pin);
        debt.pay_everywhere(self);
        Ok(())
    }

    /// Whether `frame` was stored to through any mapping since [`Pmaps::clear_modify`]: pmap_is_modified.
    pub fn is_modified(&self, frame: Frame) -> Result<bool, NotHosts> {
        let page = self.page(frame)?;
        // The entries first: what leaves one meanwhile goes to the record.
        Ok(self.noted(frame) & Pte::D != 0 || page.is_dirty())
    }

    /// Whether `frame` was used through any mapping since [`Pmaps::clear_reference`]: pmap_is_referenced.
    pub fn is_referenced(&self, frame: Frame) -> Result<bool, NotHosts> {
        let page = self.page(frame)?;
        Ok(self.noted(frame) & Pte::A != 0 || page.is_referenced())
    }

    /// Forgets that `frame` was stored to; whether it was: pmap_clear_modify. A store after it is noted again.
    pub fn clear_modify(&self, frame: Frame) -> Result<bool, NotHosts> {
        let page = self.page(frame)?;
        let mut debt = Debt::new();
        let pin = self.phys.epoch.pin();
        self.clean(&pin, frame, &mut debt);
        drop(pin);
        debt.pay_everywhere(self);
        Ok(page.take_dirty())
    }

    /// Forgets that `frame` was used; whether it was: pmap_clear_reference. An access after it is noted again, because other
    /// CPUs are flushed: kernels that save that find pages unused that are in constant use.
    pub fn clear_reference(&self, frame: Frame) -> Result<bool, NotHosts> {
        let page = self.page(frame)?;
        let mut debt = Debt::new();
        let pin = self.phys.epoch.pin();
        self.clear_accessed(&pin, frame, &mut debt);
        drop(pin);
        debt.pay_everywhere(self);
        Ok(page.take_referenced())
    }

    /// Fills `frame` with zeros, through the direct map: pmap_zero_page. It is not noted as a store.
    pub fn zero_page_of(&self, frame: Frame) -> Result<(), NotHosts> {
        self.page(frame)?;
        self.phys.zero_tail(frame, 0);
        Ok(())
    }

    /// Copies the contents of `from` to `to`, through the direct map: pmap_copy_page. It is not noted as an access.
    pub fn copy_page(&self, from: Frame, to: Frame) -> Result<(), NotHosts> {
        self.page(from)?;
        self.page(to)?;
        self.phys.copy_frame(to, from);
        Ok(())
    }
}
