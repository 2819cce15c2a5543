//! The explored machine as the component sees it.
//!
//! Every hook tells the [`State`](super::state::State) what is about to happen, lets others go first if they were
//! chosen, and then does it.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use rumpvm_arch::{
    Access, Format, Frame, PAGE_SIZE, PageFault, PhysAddr, VirtAddr, VirtRange, X86_64,
};
use rumpvm_platform::{
    CpuId, CpuSet, LockStep, LockUse, Op, Platform, Scarce, Seam, Site, Step, ThreadLocal,
};

use super::choice::{Chance, Next};
use super::outcome::FailureKind;
use super::run::{halt, is_inside, is_solo, park, reach, stop_if_failed, with};
use super::settings::Flaw;
use super::state::State;
use super::story;
use crate::copy;
use crate::hardware::{Hardware, Place, verb};
use crate::machine::Upcalls;
use crate::tlb::Tlb;
use crate::verify;
use crate::walk::Refused;

/// The machine of the run that this host thread is in. Clones are the same machine.
pub struct Explored<F: Format = X86_64> {
    hardware: Arc<Hardware>,
    cpus: usize,
    format: PhantomData<fn() -> F>,
}

impl<F: Format> Clone for Explored<F> {
    fn clone(&self) -> Self {
        Self { hardware: Arc::clone(&self.hardware), cpus: self.cpus, format: PhantomData }
    }
}

impl<F: Format> Explored<F> {
    /// The machine of this run.
    pub fn here() -> Self {
        with(|state| state.walk = Some(look_ahead::<F>));
        with(|state| Self {
            hardware: Arc::clone(&state.hardware),
            cpus: state.settings.cpus,
            format: PhantomData,
        })
    }

    /// Names the component that serves flush requests.
    pub fn connect(&self, component: Weak<dyn Upcalls>) {
        with(|state| state.upcalls = Some(component));
    }

    /// First byte of memory, and one past the last.
    pub fn memory(&self) -> (PhysAddr, PhysAddr) {
        (self.hardware.arena.start(), self.hardware.arena.end())
    }

    /// Loads `into` from user address `at`. `restore` makes the thread's space the active one again; it is called
    /// when another thread has used the CPU.
    pub fn load(&self, restore: &dyn Fn(), at: VirtAddr, into: &mut [u8]) -> Result<(), PageFault> {
        self.by_page(restore, at, into.len(), Access::Read, |place, from, to| {
            // SAFETY: the bytes lie within one frame of the arena (`translate`), and one thread of the host
            // plays all CPUs.
            unsafe { copy::load(place, &mut into[from..to]) }
        })
    }

    /// Stores `from` to user address `at`. A fault on the second of two pages leaves the first one written.
    pub fn store(&self, restore: &dyn Fn(), at: VirtAddr, from: &[u8]) -> Result<(), PageFault> {
        self.by_page(restore, at, from.len(), Access::Write, |place, start, end| {
            // SAFETY: as in `load`.
            unsafe { copy::store(place, &from[start..end]) }
        })
    }

    /// Fetches an instruction at user address `at`.
    pub fn fetch(&self, restore: &dyn Fn(), at: VirtAddr) -> Result<(), PageFault> {
        self.by_page(restore, at, 1, Access::Execute, |_, _, _| ())
    }

    fn by_page(
        &self,
        restore: &dyn Fn(),
        at: VirtAddr,
        length: usize,
        access: Access,
        mut transfer: impl FnMut(NonNull<u8>, usize, usize),
    ) -> Result<(), PageFault> {
        let mut done = 0;
        while done < length {
            let Some(at) = at.0.checked_add(done as u64).map(VirtAddr) else {
                return Err(PageFault { at: VirtAddr(0), access, present: false, user: true });
            };
            let end = length.min(done + (PAGE_SIZE - at.page_offset()) as usize);
            let place = self.access(restore, at, access)?;
            transfer(place.bytes, done, end);
            done = end;
        }
        Ok(())
    }

    /// One access within a page. The thread may be displaced before it, as user code may.
    fn access(&self, restore: &dyn Fn(), at: VirtAddr, access: Access) -> Result<Place, PageFault> {
        let fault = |present| PageFault { at, access, present, user: true };
        loop {
            let goes_on = with(|state| {
                state.set_in_user(true);
                // It touches every word of the way to its page: no name for that.
                state.arrive(Next::default())
            });
            if !goes_on {
                park();
            }
            if !self.take_displaced() {
                break;
            }
            with(|state| state.set_in_user(false));
            restore();
        }
        let found = with(|state| {
            state.set_in_user(false);
            let cpu = state.cpu();
            // The way out of the kernel is a full fence.
            state.drain(cpu);
            let for_nothing =
                |_: &State| format!("{} {at} and {}", verb(access), Chance::Fault.says());
            if state.takes_and_tells(Chance::Fault, None, for_nothing) {
                return Err(fault(true));
            }
            state.notes_access(at.page());
            let hardware = Arc::clone(&state.hardware);
            let tlb = &mut state.cpus[cpu].tlb;
            let found = hardware.translate::<F>(tlb, at, access).map_err(|refused| {
                if let Refused::Broken(story) = refused {
                    return Err(format!("CPU {cpu} {} {at}: {story}", verb(access)));
                }
                tlb.forget::<F>(at);
                Ok(fault(matches!(refused, Refused::Denied)))
            });
            let agent = state.running;
            state.tell(agent, None, |_| match &found {
                Ok(_) => format!("{} {at}", verb(access)),
                Err(_) => format!("{} {at} and faults", verb(access)),
            });
            found.map_err(|refused| match refused {
                Ok(fault) => fault,
                Err(story) => {
                    state.fail(FailureKind::Broken, story, None);
                    fault(false)
                }
            })
        });
        stop_if_failed();
        found
    }

    /// Whether other threads have used the calling thread's CPU since it asked last.
    fn take_displaced(&self) -> bool {
        with(|state| {
            let number = state.running.number();
            std::mem::take(&mut state.actors[number].displaced)
        })
    }

    /// Whether `what` goes wrong now, by the explorer's choice.
    pub fn takes(&self, what: Chance) -> bool {
        with(|state| state.takes(what, None))
    }

    /// A point at which the calling thread has given its CPU up, as for I/O.
    pub fn pause_for_io(&self) {
        with(|state| state.may_sleep("a thread waits for I/O"));
        stop_if_failed();
        with(|state| {
            let agent = state.running;
            state.tell(agent, None, |_| "waits for I/O".to_owned());
        });
        if !with(|state| state.gives_up()) {
            park();
        }
    }

    /// Compares every cached translation with the page tables; the error is the story.
    pub fn verify_tlbs(&self) -> Result<(), String> {
        with(|state| verify::verify::<F>(&self.hardware, state.cpus.iter().map(|cpu| &cpu.tlb)))
    }
}

/// Fills the TLB for a page that nobody has asked for yet, as hardware may at any time.
fn look_ahead<F: Format>(hardware: &Hardware, tlb: &mut Tlb, page: u64) -> Result<(), String> {
    match hardware.translate::<F>(tlb, VirtAddr::of_page(page), Access::Read) {
        Err(Refused::Broken(story)) => Err(story),
        _ => Ok(()),
    }
}

impl<F: Format> Seam for Explored<F> {
    const OWNS_MEMORY: bool = true;

    #[inline]
    fn cpu_id() -> CpuId {
        CpuId(with(|state| state.cpu()) as u32)
    }

    unsafe fn carry_out(step: Step) -> u64 {
        let Step { cell, op, order, site } = step;
        if is_solo() {
            // SAFETY: the caller's promise.
            return unsafe { super::memory::perform(cell, op) };
        }
        let turn = with(|state| {
            let at = state.name(cell.address);
            if !state.arrive(Next { at, writes: op.writes() }) {
                Turn::Later
            } else if op.is_rmw() && state.has(Flaw::SplitRmw, site) {
                Turn::Now
            } else {
                Turn::Over(state.execute(cell, op, order, site))
            }
        });
        let old = match turn {
            Turn::Over(old) => old,
            Turn::Now => split(step),
            Turn::Later => {
                park();
                if op.is_rmw() && with(|state| state.has(Flaw::SplitRmw, site)) {
                    split(step)
                } else {
                    with(|state| state.execute(cell, op, order, site))
                }
            }
        };
        stop_if_failed();
        old
    }

    fn fence(site: Site) {
        if !is_inside() || is_solo() {
            return;
        }
        with(|state| {
            state.survey(Flaw::DropFence, site, None);
            if !state.has(Flaw::DropFence, site) {
                let cpu = state.cpu();
                state.fence(cpu);
            }
        });
    }

    fn fences_everywhere() -> bool {
        true
    }

    fn fence_everywhere(site: Site) {
        with(|state| {
            state.survey(Flaw::DropFence, site, None);
            if state.has(Flaw::DropFence, site) {
                return;
            }
            for cpu in 0..state.cpus.len() {
                state.fence(cpu);
            }
        });
    }

    fn relax(word: usize) {
        wait(word, true);
    }

    fn pause(word: usize) {
        wait(word, false);
    }

    #[inline]
    fn intr_save() -> usize {
        if is_solo() {
            return 0;
        }
        with(|state| {
            let cpu = state.cpu();
            state.cpus[cpu].masked += 1;
            0
        })
    }

    #[inline]
    fn intr_restore(_state: usize) {
        if is_solo() {
            return;
        }
        let opens = with(|state| {
            let cpu = state.cpu();
            state.cpus[cpu].masked -= 1;
            state.cpus[cpu].masked == 0 && state.settings.ticks
        });
        // What was kept waiting comes in at once.
        if opens {
            reach(Next::default());
            stop_if_failed();
        }
    }

    fn sleep(word: &AtomicU32, expected: u32, until: Option<u64>, site: Site) {
        let address = std::ptr::from_ref(word) as usize;
        if with(|state| state.unwinding) {
            halt();
        }
        with(|state| state.may_sleep("a thread sleeps"));
        stop_if_failed();
        let key = with(|state| state.name(address));
        let goes_on = with(|state| {
            if state.has(Flaw::LateInterlock, site) {
                // Also within a lock, whose own steps are no points.
                return state.arrive_between(address);
            }
            state.arrive(Next { at: key, writes: false })
        });
        if !goes_on {
            park();
        }
        let parked = with(|state| {
            let cpu = state.cpu();
            state.drain(cpu);
            state.survey(Flaw::LateInterlock, site, None);
            let late = state.has(Flaw::LateInterlock, site);
            if state.takes(Chance::Wake, Some(site))
                || (!late && word.load(Ordering::SeqCst) != expected)
            {
                return false;
            }
            let agent = state.running;
            state.tell(agent, Some(site), |state| story::sleep(state, key));
            state.sleep(key, until.is_some());
            true
        });
        if parked {
            park();
        }
        stop_if_failed();
    }

    fn wakeup(word: &AtomicU32, site: Site) {
        let address = std::ptr::from_ref(word) as usize;
        let key = with(|state| state.name(address));
        reach(Next { at: key, writes: true });
        with(|state| {
            let cpu = state.cpu();
            state.drain(cpu);
            state.survey(Flaw::DropWake, site, None);
            if state.has(Flaw::DropWake, site) {
                return;
            }
            let agent = state.running;
            let what = |state: &State| format!("wakes the sleepers on {}", story::word(state, key));
            state.tell_step(agent, Some(site), Next { at: key, writes: true }, what);
            state.wake(key);
        });
    }

    fn clock() -> u64 {
        // Time passes when somebody's deadline does: the explorer decides.
        with(|state| {
            let number = state.running.number();
            let late = state.actors.get(number).is_some_and(|actor| actor.timed_out);
            if late { u64::MAX } else { state.steps }
        })
    }

    fn thread() -> Option<NonNull<ThreadLocal>> {
        if is_inside() { with(|state| state.local()) } else { None }
    }

    fn name(address: usize) -> usize {
        with(|state| state.name(address)) as usize
    }

    fn lock_step(step: LockStep, lock: &LockUse) {
        if !is_inside() || is_solo() {
            return;
        }
        match step {
            LockStep::Want | LockStep::Try => {
                let key = with(|state| state.name(lock.address));
                reach(Next { at: key, writes: true });
                with(|state| state.lock_begins(lock, step == LockStep::Want));
            }
            LockStep::Taken | LockStep::Failed | LockStep::Freed => {
                with(|state| state.lock_ends(step, lock));
            }
            LockStep::Free => {
                // What a lock guards is one step for others, unless the lock does not keep them out.
                if with(|state| state.is_flawed(lock.site) && !state.arrive_between(lock.address)) {
                    park();
                }
                with(|state| state.unlock_begins(lock));
            }
        }
        stop_if_failed();
    }

    fn fails(what: Scarce, site: Site) -> bool {
        let chance = match what {
            Scarce::Frame => Chance::NoFrame,
            Scarce::Heap => Chance::NoHeap,
            Scarce::Io => Chance::Io,
        };
        is_inside() && with(|state| state.takes(chance, Some(site)))
    }
}

/// How far a step has come when it has announced itself.
enum Turn {
    /// It is done; this is what was there.
    Over(u64),
    /// It is to be done.
    Now,
    /// Others go first.
    Later,
}

/// Carries out a read-modify-write as a load, and later a store.
fn split(step: Step) -> u64 {
    let Step { cell, op, order, site } = step;
    let seen = with(|state| state.execute(cell, Op::Load, order, site));
    stop_if_failed();
    if let Some(value) = super::memory::after(op, seen) {
        if !with(|state| state.rest_between(cell.address)) {
            park();
        }
        with(|state| state.goes_on());
        with(|state| state.execute(cell, Op::Store(value), order, site));
    }
    seen
}

fn wait(word: usize, serves: bool) {
    if !is_inside() {
        return;
    }
    if with(|state| state.unwinding) {
        halt();
    }
    let parked = with(|state| {
        let cpu = state.cpu();
        state.drain(cpu);
        let key = if word == 0 { 0 } else { state.name(word) };
        state.wait(key, serves)
    });
    if parked {
        park();
    }
    stop_if_failed();
}

impl<F: Format> Platform for Explored<F> {
    type Format = F;

    #[inline]
    fn phys_to_virt(&self, at: PhysAddr) -> NonNull<u8> {
        self.hardware.arena.pointer(at)
    }

    #[inline]
    fn virt_to_phys(&self, at: NonNull<u8>) -> PhysAddr {
        self.hardware.arena.address(at)
    }

    fn cpu_count(&self) -> usize {
        self.cpus
    }

    fn tlb_activate(&self, root: Option<Frame>) {
        let root = root.map(|root| self.hardware.walker().root(root));
        with(|state| {
            let cpu = state.cpu();
            state.drain(cpu);
            state.cpus[cpu].tlb.activate(root);
        });
    }

    fn tlb_invalidate(&self, range: VirtRange) {
        with(|state| {
            let cpu = state.cpu();
            state.drain(cpu);
            state.cpus[cpu].tlb.invalidate::<F>(range);
            let agent = state.running;
            state.tell(agent, None, |_| format!("flushes {range:?}"));
        });
    }

    fn tlb_ipi(&self, targets: &CpuSet) {
        with(|state| {
            let cpu = state.cpu();
            state.drain(cpu);
            for target in targets.iter() {
                state.cpus[target.0 as usize].flush = true;
            }
            let agent = state.running;
            state.tell(agent, None, |_| format!("asks {} to flush", story::cpus(targets)));
        });
        reach(Next::default());
    }

    fn frame_freed(&self, frame: Frame) {
        let position = self.hardware.arena.position(frame);
        let position = position.unwrap_or_else(|| panic!("{frame:?} was freed but is no memory"));
        let cpu = with(|state| {
            let cpu = state.cpu();
            state.drain(cpu);
            let agent = state.running;
            state.tell(agent, None, |_| format!("frees {frame:?}"));
            cpu
        });
        self.hardware.freed.record(position, CpuId(cpu as u32));
    }

    fn panic(&self, story: &str) -> ! {
        panic!("{story}");
    }
}
