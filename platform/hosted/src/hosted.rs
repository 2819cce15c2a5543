//! The machine as the component and its users see it: hypercalls on one side, threads on the other.
//!
//! Flow:  `Seam`/`Platform` calls -> this CPU; `run` and `spawn` -> some CPU's mailbox.
//! Locks: none of its own.
//! Sleep: [`Hosted::run`] blocks a host thread; `Seam::sleep` parks a thread of the machine.
//! Owns:  [`Power`] owns the host threads; handles own a share of the machine.

use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};

use rumpvm_arch::{Format, Frame, PhysAddr, VirtRange, X86_64};
use rumpvm_platform::{
    CpuId, CpuSet, Failures, LockStats, LockStep, LockUse, MAX_CPUS, Platform, Scarce, Seam, Site,
    ThreadLocal,
};

use crate::cpu::{Attention, Mail, lock};
use crate::here::{self, cpu_id, here, is_on_cpu, may_switch};
use crate::machine::{Machine, Upcalls};
use crate::outcome::Group;
use crate::sleepers::Sleeper;
use crate::thread::{Ask, Resume};
use crate::{fences, scheduler, verify};

/// Whether anybody in this process ever asked to order a failure. Most never do, and then no allocation has to look for
/// its machine.
static MAY_FAIL: AtomicBool = AtomicBool::new(false);

/// A handle to a pretend machine whose page tables have format `F`.
///
/// Clones are the same machine. Its CPUs run as long as the [`Power`] that came with it is kept.
pub struct Hosted<F: Format = X86_64> {
    machine: Arc<Machine>,
    format: PhantomData<fn() -> F>,
}

/// Keeps the CPUs of a machine running; dropping it stops them and waits until they have.
///
/// Threads that are left then are abandoned, not unwound.
#[must_use = "dropping it stops the machine"]
pub struct Power {
    machine: Arc<Machine>,
    host_threads: Vec<JoinHandle<()>>,
}

impl<F: Format> Clone for Hosted<F> {
    fn clone(&self) -> Self {
        Self { machine: Arc::clone(&self.machine), format: PhantomData }
    }
}

impl<F: Format> Hosted<F> {
    /// Starts a machine with `memory` bytes of RAM, rounded up to whole frames, and `cpus` CPUs.
    ///
    /// # Panics
    /// If there are no CPUs or more than [`MAX_CPUS`], or the format cannot reach so much memory.
    pub fn power_on(memory: u64, cpus: usize) -> io::Result<(Self, Power)> {
        assert!((1..=MAX_CPUS).contains(&cpus), "a machine has 1 to {MAX_CPUS} CPUs, not {cpus}");
        fences::prepare();
        let machine = Machine::new(memory, cpus)?;
        let last = PhysAddr(machine.hardware.arena.end().0 - 1);
        assert!(
            u64::from(last.frame().0) < F::FRAME_END,
            "{} cannot reach memory up to {last:?}",
            F::NAME
        );
        let mut power = Power { machine: Arc::clone(&machine), host_threads: Vec::new() };
        for number in 0..cpus {
            let machine = Arc::clone(&machine);
            let cpu = thread::Builder::new()
                .name(format!("cpu {number}"))
                .spawn(move || scheduler::play(machine, CpuId(number as u32)))?;
            power.host_threads.push(cpu);
        }
        Ok((Self { machine, format: PhantomData }, power))
    }

    /// Names the component that serves flush requests and uses idle time. Once per machine.
    pub fn connect(&self, component: Weak<dyn Upcalls>) {
        let fresh = self.machine.upcalls.set(component).is_ok();
        assert!(fresh, "a machine serves one component");
    }

    /// First byte of RAM, and one past the last.
    pub fn memory(&self) -> (PhysAddr, PhysAddr) {
        (self.machine.hardware.arena.start(), self.machine.hardware.arena.end())
    }

    /// Runs `body` as a thread on `cpu`, or where the fewest are, and returns its result when it and
    /// all threads that descend from it have ended. If the machine stops, its panic goes on here.
    ///
    /// # Panics
    /// When called on a CPU, which would wait for itself; and if the machine has stopped.
    pub fn run<R: Send + 'static>(
        &self,
        cpu: Option<CpuId>,
        body: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        assert!(!is_on_cpu(), "a CPU cannot wait for the machine: spawn a thread instead");
        self.machine.outcome.assert_alive();
        let result = Arc::new(Mutex::new(None));
        let group = Group::default();
        let place = Arc::clone(&result);
        let body = move || *lock(&place) = Some(body());
        self.machine.spawn(cpu, group.clone(), Box::new(body));
        self.machine.outcome.wait(&group);
        let result = lock(&result).take();
        result.expect("a thread that ended well has a result")
    }

    /// Starts `body` as a thread on `cpu`, or where the fewest are. It stays there, and counts as a
    /// descendant of the thread that calls.
    pub fn spawn(&self, cpu: Option<CpuId>, body: impl FnOnce() + Send + 'static) {
        let parent = if is_on_cpu() { here(|here| here.scheduler.current()) } else { None };
        let group = parent.map(|parent| parent.group.clone()).unwrap_or_default();
        self.machine.spawn(cpu, group, Box::new(body));
    }

    /// Ends the caller's turn: the other threads of its CPU run first.
    pub fn yield_now(&self) {
        may_switch("a thread yields");
        here(|here| {
            here.attend();
            if !here.scheduler.yield_now(here) {
                // Whoever yields waits for something; if not on this CPU, then on another one.
                thread::yield_now();
            }
        });
    }

    /// Counts `accesses` against the caller's turn, for work that is done without any; may end it.
    pub fn spend(&self, accesses: u32) {
        here(|here| {
            here.attend();
            here.scheduler.spend(here, accesses);
        });
    }

    /// Has `hook` called in the calling thread, now and whenever it goes on after its CPU did something else, so that
    /// its address space is the active one.
    pub fn set_on_resume(&self, hook: impl Fn() + 'static) {
        let current = here(|here| here.scheduler.current());
        let hook: Resume = Rc::new(hook);
        let thread = current.expect("only a thread has a resume hook");
        thread.set_on_resume(Rc::clone(&hook));
        hook();
    }

    /// Compares every cached translation with the page tables; the error is the story. Only at a quiet
    /// moment: no access and no flush under way.
    pub fn verify_tlbs(&self) -> Result<(), String> {
        let (hardware, cpus) = (&self.machine.hardware, &self.machine.cpus);
        verify::verify::<F>(hardware, cpus.iter().map(|cpu| cpu.tlb.lock()))?;
        verify::verify::<F>(hardware, cpus.iter().map(|cpu| cpu.kernel_tlb.lock()))
    }

    /// Whether the caller runs on a CPU, of this machine or another.
    pub fn is_on_cpu() -> bool {
        is_on_cpu()
    }

    /// Whether the CPUs have stopped: a thread panicked, or the power is off.
    pub fn is_stopped(&self) -> bool {
        self.machine.outcome.has_stopped()
    }

    /// What is to fail on this machine.
    pub fn failures(&self) -> &Failures {
        MAY_FAIL.store(true, Ordering::SeqCst);
        &self.machine.failures
    }

    /// What was counted of each class of locks; nothing without the feature `lock-counters`.
    pub fn lock_stats(&self) -> Option<&LockStats> {
        cfg!(feature = "lock-counters").then_some(&self.machine.lock_stats)
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        self.machine.stop_for(Box::new("it was switched off"));
        let own = thread::current().id();
        for cpu in self.host_threads.drain(..) {
            // A CPU that drops the last handle to its own machine ends when it comes to it.
            if cpu.thread().id() != own {
                cpu.join().ok();
            }
        }
    }
}

impl<F: Format> Seam for Hosted<F> {
    #[inline]
    fn cpu_id() -> CpuId {
        cpu_id()
    }

    /// Works off the machine too: a thread of the host that only reads statistics may meet a lock.
    fn relax(_word: usize) {
        if is_on_cpu() {
            here(|here| here.relax());
        } else {
            thread::yield_now();
        }
    }

    fn pause(_word: usize) {
        if is_on_cpu() {
            here(|here| here.pause());
        } else {
            thread::yield_now();
        }
    }

    #[inline]
    fn intr_save() -> usize {
        here::intr_save()
    }

    #[inline]
    fn intr_restore(_state: usize) {
        here::intr_restore();
    }

    fn sleep(word: &AtomicU32, expected: u32, until: Option<u64>, _site: Site) {
        may_switch("a thread sleeps");
        here(|here| {
            here.count_wait();
            here.attend();
            let current = here.scheduler.current();
            let current = current.expect("only a thread can sleep, and the idle loop is none");
            if thread::panicking() {
                // A second panic would abort the process, and a sleep might never end.
                here.machine.stop_for(Box::new("a thread slept while it unwound from a panic"));
                here.halt();
            }
            if until.is_some() {
                // The turn goes round; the caller looks again, at the word and at the clock.
                here.scheduler.yield_now(here);
                return;
            }
            let sleeper = Sleeper { cpu: here.id, slot: current.slot };
            if here.machine.sleepers.enter(word, expected, sleeper) {
                current.suspend(Ask::Sleep);
            }
        });
    }

    fn wakeup(word: &AtomicU32, _site: Site) {
        here(|here| {
            for sleeper in here.machine.sleepers.leave(word) {
                if sleeper.cpu == here.id {
                    here.scheduler.make_runnable(sleeper.slot);
                } else {
                    let cpu = here.machine.cpu(sleeper.cpu);
                    let put = |mail: &mut Mail| mail.woken.push(sleeper.slot);
                    cpu.ring(&here.machine.census, Attention::MAIL, put);
                }
            }
        });
    }

    fn thread() -> Option<NonNull<ThreadLocal>> {
        is_on_cpu().then(|| here(|here| here.local()))
    }

    fn clock() -> u64 {
        here::clock()
    }

    #[inline(always)]
    fn fences_everywhere() -> bool {
        fences::work_everywhere()
    }

    fn fence_everywhere(_site: Site) {
        fences::everywhere();
    }

    #[inline]
    fn lock_step(step: LockStep, lock: &LockUse) {
        if cfg!(feature = "lock-counters") && is_on_cpu() {
            here(|here| here.count_lock(step, lock));
        }
        if cfg!(debug_assertions) && is_on_cpu() {
            here(|here| here.lock_step(step, lock));
        }
    }

    #[inline]
    fn fails(what: Scarce, _site: Site) -> bool {
        MAY_FAIL.load(Ordering::Relaxed)
            && is_on_cpu()
            && here(|here| here.machine.failures.fails(what))
    }
}

impl<F: Format> Platform for Hosted<F> {
    type Format = F;

    #[inline]
    fn phys_to_virt(&self, at: PhysAddr) -> NonNull<u8> {
        self.machine.hardware.arena.pointer(at)
    }

    #[inline]
    fn virt_to_phys(&self, at: NonNull<u8>) -> PhysAddr {
        self.machine.hardware.arena.address(at)
    }

    fn cpu_count(&self) -> usize {
        self.machine.cpus.len()
    }

    fn tlb_activate(&self, root: Option<Frame>) {
        let root = root.map(|root| self.machine.hardware.walker().root(root));
        self.machine.cpu(cpu_id()).tlb.lock().activate(root);
    }

    fn tlb_invalidate(&self, range: VirtRange) {
        let cpu = self.machine.cpu(cpu_id());
        cpu.tlb.lock().invalidate::<F>(range);
        if range.end > F::USER_END {
            cpu.kernel_tlb.lock().invalidate::<F>(range);
        }
    }

    fn tlb_ipi(&self, targets: &CpuSet) {
        for target in targets.iter() {
            self.machine.cpu(target).ring(&self.machine.census, Attention::FLUSH, |_| ());
        }
    }

    fn frame_freed(&self, frame: Frame) {
        let position = self.machine.hardware.arena.position(frame);
        let position = position.unwrap_or_else(|| panic!("{frame:?} was freed but is no memory"));
        self.machine.hardware.freed.record(position, cpu_id());
    }

    fn panic(&self, story: &str) -> ! {
        panic!("{story}");
    }
}
