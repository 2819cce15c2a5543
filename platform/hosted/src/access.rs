//! Loads, stores and fetches of user code, as the CPU carries them out.
//!
//! Flow:  pending flushes -> TLB -> else page walk -> rights -> is the frame still alive -> bytes.
//! Locks: the CPU's TLB while translating, nothing while copying.
//! Sleep: an access may end the thread's turn, so user code may make one and the component may not.
//! Owns:  nothing.
//!
//! X1. Flush requests are served only between accesses. A component that waits for its flushes before
//!     it frees a frame can therefore never free one between the check and the end of the copy, so a
//!     frame that is found dead before *or after* the copy is a missing flush, not bad luck (H3).

use std::ptr::NonNull;
use std::sync::Arc;

use rumpvm_arch::{Access, Format, Frame, PAGE_SIZE, PageFault, VirtAddr};

use crate::copy;
use crate::hardware::{Place, verb};
use crate::here::{Here, here};
use crate::hosted::Hosted;
use crate::machine::Machine;
use crate::tlb::Mode;
use crate::walk::Refused;

impl<F: Format> Hosted<F> {
    /// Loads `into` from user address `at`. May end the caller's turn.
    pub fn load(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), PageFault> {
        self.by_page(at, into.len(), (Access::Read, Mode::User), |place, from, to| {
            // SAFETY: the bytes lie within one frame of the arena (`locate`), which CPUs access by
            // atomics; a component that does otherwise races as it would on hardware.
            unsafe { copy::load(place, &mut into[from..to]) }
        })
    }

    /// Stores `from` to user address `at`. May end the caller's turn. A fault on the second of two
    /// pages leaves the first one written.
    pub fn store(&self, at: VirtAddr, from: &[u8]) -> Result<(), PageFault> {
        self.by_page(at, from.len(), (Access::Write, Mode::User), |place, start, end| {
            // SAFETY: as in `load`.
            unsafe { copy::store(place, &from[start..end]) }
        })
    }

    /// Fetches an instruction at user address `at`. May end the caller's turn.
    pub fn fetch(&self, at: VirtAddr) -> Result<(), PageFault> {
        self.by_page(at, 1, (Access::Execute, Mode::User), |_, _, _| ())
    }

    /// As [`Hosted::load`], from an address of the kernel's; see [`Hosted::link_kernel`].
    pub fn load_kernel(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), PageFault> {
        self.by_page(at, into.len(), (Access::Read, Mode::Kernel), |place, from, to| {
            // SAFETY: as in `load`.
            unsafe { copy::load(place, &mut into[from..to]) }
        })
    }

    /// As [`Hosted::store`], to an address of the kernel's.
    pub fn store_kernel(&self, at: VirtAddr, from: &[u8]) -> Result<(), PageFault> {
        self.by_page(at, from.len(), (Access::Write, Mode::Kernel), |place, start, end| {
            // SAFETY: as in `load`.
            unsafe { copy::store(place, &from[start..end]) }
        })
    }

    /// Translates page by page, and calls `transfer` with each place and its part of the buffer.
    #[inline]
    fn by_page(
        &self,
        at: VirtAddr,
        length: usize,
        (access, mode): (Access, Mode),
        mut transfer: impl FnMut(NonNull<u8>, usize, usize),
    ) -> Result<(), PageFault> {
        here(|here| {
            assert!(self.is_machine(&here.machine), "this CPU belongs to another machine");
            here.scheduler.spend(here, 1);
            let mut done = 0;
            while done < length {
                here.attend();
                let Some(at) = at.0.checked_add(done as u64).map(VirtAddr) else {
                    let user = mode == Mode::User;
                    return Err(PageFault { at: VirtAddr(0), access, present: false, user });
                };
                let in_page = (PAGE_SIZE - at.page_offset()) as usize;
                let end = length.min(done + in_page);
                let place = locate::<F>(here, at, access, mode)?;
                transfer(place.bytes, done, end);
                if here.machine.hardware.freed.generation(place.position) != place.generation {
                    died_during::<F>(here, at, (access, mode), &place);
                }
                done = end;
            }
            Ok(())
        })
    }
}

/// Translates one access of this CPU, or stops the machine.
#[inline]
fn locate<F: Format>(
    here: &Here,
    at: VirtAddr,
    access: Access,
    mode: Mode,
) -> Result<Place, PageFault> {
    let machine = &*here.machine;
    let mut tlb = here.cpu().tlb_of(mode).lock();
    if mode == Mode::Kernel {
        machine.hardware.prepare_kernel::<F>(&mut tlb, at);
    }
    let refused = match machine.hardware.translate::<F>(&mut tlb, at, access) {
        Ok(place) => return Ok(place),
        Err(refused) => refused,
    };
    if let Refused::Broken(story) = refused {
        drop(tlb);
        panic!("CPU {} {} {at}: {story}", here.id.0, verb(access));
    }
    tlb.forget::<F>(at);
    let present = matches!(refused, Refused::Denied);
    Err(PageFault { at, access, present, user: mode == Mode::User })
}

#[cold]
fn died_during<F: Format>(
    here: &Here,
    at: VirtAddr,
    (access, mode): (Access, Mode),
    place: &Place,
) -> ! {
    let now = here.machine.hardware.freed.generation(place.position);
    let frame = Frame(here.machine.hardware.arena.start().frame().0 + place.position as u32);
    let table = here.machine.hardware.table_now::<F>(&here.cpu().tlb_of(mode).lock(), at);
    panic!(
        "CPU {} {} {at}: {frame:?} was freed during the access, without waiting for this CPU's \
         flush; then {}, now {now}. {table}",
        here.id.0,
        verb(access),
        place.generation
    );
}

impl<F: Format> Hosted<F> {
    fn is_machine(&self, other: &Arc<Machine>) -> bool {
        std::ptr::eq(self.machine(), &raw const **other)
    }
}
