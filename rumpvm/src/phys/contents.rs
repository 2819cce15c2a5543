//! The contents of frames, through the direct map.
//!
//! User code may store to a mapped page at any moment, so bytes are copied, never borrowed, except where
//! the page is busy or fresh and its bytes are handed to a pager.

use core::ptr;

use rumpvm_arch::{Frame, PAGE_SIZE};
use rumpvm_platform::Platform;

use super::{Busy, Fresh, Phys};
use crate::sync::Atomic;

/// What freed memory is filled with in debug builds: no valid pointer, no small number.
const JUNK: u8 = 0xd5;
const BYTES: usize = PAGE_SIZE as usize;

impl<P: Platform> Phys<P> {
    #[inline]
    fn start(&self, frame: Frame) -> *mut u8 {
        self.platform.phys_to_virt(frame.start()).as_ptr()
    }

    /// Fills a fresh frame with zeros.
    #[inline]
    pub fn zero(&self, fresh: &Fresh) {
        // SAFETY: nobody else knows the frame, and the direct map covers every added frame.
        unsafe { ptr::write_bytes(self.start(fresh.frame()), 0, BYTES) };
    }

    /// Fills a fresh frame with junk.
    pub(super) fn junk(&self, fresh: &Fresh) {
        // SAFETY: as in `zero`.
        unsafe { ptr::write_bytes(self.start(fresh.frame()), JUNK, BYTES) };
    }

    /// Copies the contents of `from` to a fresh frame.
    #[inline]
    pub fn copy(&self, to: &Fresh, from: Frame) {
        // SAFETY: `to` is known to nobody else, so the two differ; the direct map covers both. A store of
        // user code to `from` meanwhile is the program's own race, as on hardware.
        unsafe { ptr::copy_nonoverlapping(self.start(from), self.start(to.frame()), BYTES) };
    }

    /// Copies the contents of one frame to another, which a host has both.
    pub(crate) fn copy_frame(&self, to: Frame, from: Frame) {
        // SAFETY: the direct map covers both; they may be the same. Whoever stores to either meanwhile races with the host.
        unsafe { ptr::copy(self.start(from), self.start(to), BYTES) };
    }

    /// Copies bytes out of `frame`, from byte `offset` on; they must lie inside it.
    pub fn read(&self, frame: Frame, offset: u64, into: &mut [u8]) {
        assert!(offset as usize + into.len() <= BYTES);
        // SAFETY: the bytes lie inside the frame, which the direct map covers; `into` is borrowed mutably
        // and is no frame.
        unsafe {
            let from = self.start(frame).add(offset as usize);
            ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len());
        }
    }

    /// Copies bytes into `frame`, from byte `offset` on; they must lie inside it.
    pub fn write(&self, frame: Frame, offset: u64, from: &[u8]) {
        assert!(offset as usize + from.len() <= BYTES);
        // SAFETY: as in `read`, the other way.
        unsafe {
            let to = self.start(frame).add(offset as usize);
            ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
        }
    }

    /// Fills `frame` with zeros from byte `offset` on.
    pub fn zero_tail(&self, frame: Frame, offset: u64) {
        let offset = offset.min(PAGE_SIZE) as usize;
        // SAFETY: the bytes lie inside the frame, which the direct map covers.
        unsafe { ptr::write_bytes(self.start(frame).add(offset), 0, BYTES - offset) };
    }

    /// Lets `work` use the bytes of a page that the caller has busy, to fill it or to write it out.
    pub fn fill_busy<R>(
        &self,
        frame: Frame,
        _busy: &Busy<'_, P>,
        work: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        // SAFETY: a busy page is in transit: the component leaves its contents to the caller. If it is
        // mapped, user code may store to it meanwhile, and sees or makes what a disk would: torn data.
        work(unsafe { core::slice::from_raw_parts_mut(self.start(frame), BYTES) })
    }

    /// The slots of a node, or the entries of a table that stores them in 8 bytes.
    #[inline]
    pub(crate) fn words(&self, frame: Frame) -> &[Atomic<u64, P>; 512] {
        // SAFETY: the direct map covers the frame for good; `Atomic` is a transparent atomic, for which
        // any bits are valid; nodes and tables are reached through atomics only, while they are such.
        unsafe { &*self.start(frame).cast() }
    }

    /// The entries of a table that stores them in 4 bytes; or a program's words, for atomic steps alone.
    #[inline]
    pub(crate) fn words32(&self, frame: Frame) -> &[Atomic<u32, P>; 1024] {
        // SAFETY: as in `words`; what a program does with its own words, hardware makes atomic or leaves to it.
        unsafe { &*self.start(frame).cast() }
    }
}
