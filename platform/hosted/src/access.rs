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

use rumpvm_arch::{Access, Format, Frame, PAGE_SIZE, PageFault, PhysAddr, VirtAddr};

use crate::copy;
use crate::freed::Generation;
use crate::here::{Here, here};
use crate::hosted::Hosted;
use crate::machine::{Machine, verb};
use crate::tlb::{Tlb, Translation};
use crate::walk::Refused;

/// Where the bytes of one access within a page are.
struct Place {
    bytes: NonNull<u8>,
    /// The frame's position in the arena.
    position: usize,
    generation: Generation,
}

impl<F: Format> Hosted<F> {
    /// Loads `into` from user address `at`. May end the caller's turn.
    pub fn load(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), PageFault> {
        self.by_page(at, into.len(), Access::Read, |place, from, to| {
            // SAFETY: the bytes lie within one frame of the arena (`locate`), which CPUs access by
            // atomics; a component that does otherwise races as it would on hardware.
            unsafe { copy::load(place, &mut into[from..to]) }
        })
    }

    /// Stores `from` to user address `at`. May end the caller's turn. A fault on the second of two
    /// pages leaves the first one written.
    pub fn store(&self, at: VirtAddr, from: &[u8]) -> Result<(), PageFault> {
        self.by_page(at, from.len(), Access::Write, |place, start, end| {
            // SAFETY: as in `load`.
            unsafe { copy::store(place, &from[start..end]) }
        })
    }

    /// Fetches an instruction at user address `at`. May end the caller's turn.
    pub fn fetch(&self, at: VirtAddr) -> Result<(), PageFault> {
        self.by_page(at, 1, Access::Execute, |_, _, _| ())
    }

    /// Translates page by page, and calls `transfer` with each place and its part of the buffer.
    #[inline]
    fn by_page(
        &self,
        at: VirtAddr,
        length: usize,
        access: Access,
        mut transfer: impl FnMut(NonNull<u8>, usize, usize),
    ) -> Result<(), PageFault> {
        here(|here| {
            assert!(self.is_machine(&here.machine), "this CPU belongs to another machine");
            here.scheduler.spend(here, 1);
            let mut done = 0;
            while done < length {
                here.attend();
                let Some(at) = at.0.checked_add(done as u64).map(VirtAddr) else {
                    return Err(PageFault { at: VirtAddr(0), access, present: false, user: true });
                };
                let in_page = (PAGE_SIZE - at.page_offset()) as usize;
                let end = length.min(done + in_page);
                let place = locate::<F>(here, at, access)?;
                transfer(place.bytes, done, end);
                if here.machine.freed.generation(place.position) != place.generation {
                    died_during::<F>(here, at, access, &place);
                }
                done = end;
            }
            Ok(())
        })
    }
}

/// Translates one access of this CPU, or stops the machine.
#[inline]
fn locate<F: Format>(here: &Here, at: VirtAddr, access: Access) -> Result<Place, PageFault> {
    let machine = &*here.machine;
    let mut tlb = here.cpu().tlb.lock();
    let refused = match translate::<F>(machine, &mut tlb, at, access) {
        Ok(place) => return Ok(place),
        Err(refused) => refused,
    };
    if let Refused::Broken(story) = refused {
        drop(tlb);
        panic!("CPU {} {} {at}: {story}", here.id.0, verb(access));
    }
    tlb.forget::<F>(at);
    Err(PageFault { at, access, present: matches!(refused, Refused::Denied), user: true })
}

#[inline]
fn translate<F: Format>(
    machine: &Machine,
    tlb: &mut Tlb,
    at: VirtAddr,
    access: Access,
) -> Result<Place, Refused> {
    tlb.clock += 1;
    let translation = match tlb.page(at) {
        Some(known) if !known.rights.allow::<F>(access) => return Err(Refused::Denied),
        // The first store through a clean translation has to set D in the entry: walk again.
        Some(known) if known.dirty || access != Access::Write => known,
        _ => machine.walker().fill::<F>(tlb, at, access)?,
    };
    let frame = translation.frame;
    let position = machine.arena.position(frame).expect("the walk found it in memory");
    let generation = translation.generation;
    if machine.freed.generation(position) != generation {
        return Err(Refused::Broken(stale::<F>(machine, tlb, at, translation)));
    }
    let bytes = machine.arena.pointer(PhysAddr(frame.start().0 + at.page_offset()));
    Ok(Place { bytes, position, generation })
}

/// The story of a translation that outlived its frame.
#[cold]
fn stale<F: Format>(machine: &Machine, tlb: &Tlb, at: VirtAddr, old: Translation) -> String {
    let now = machine.walker().generation(old.frame).expect("it was in memory");
    format!(
        "stale translation to {:?}, a frame that has been freed since. Filled at access {} of this \
         CPU, now at {}; then {}, now {}. {}",
        old.frame,
        old.filled,
        tlb.clock,
        old.generation,
        now,
        table_now::<F>(machine, tlb, at)
    )
}

/// What the page table says about `at` at the moment.
fn table_now<F: Format>(machine: &Machine, tlb: &Tlb, at: VirtAddr) -> String {
    let root = tlb.root().expect("an access was translated");
    match machine.walker().peek::<F>(root.frame, 1, at) {
        Some(seen) => format!("The page table now says {:?}", seen.entry),
        None => "There is no page table for it any more".to_owned(),
    }
}

#[cold]
fn died_during<F: Format>(here: &Here, at: VirtAddr, access: Access, place: &Place) -> ! {
    let now = here.machine.freed.generation(place.position);
    let frame = Frame(here.machine.arena.start().frame().0 + place.position as u32);
    let table = table_now::<F>(&here.machine, &here.cpu().tlb.lock(), at);
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
