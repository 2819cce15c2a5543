//! The home of the models: threads of loom, one for each CPU.

use core::cell::Cell;
use core::ptr::NonNull;

use loom::cell::UnsafeCell;
use loom::thread::{self, JoinHandle};
use rumpvm_arch::{Frame, PhysAddr, VirtRange, X86_64};
use rumpvm_platform::{CpuId, LockClass, LockKind, Platform, Seam};

/// Preemptions in one run: a bound, so that each test ends within seconds.
const PREEMPTIONS: usize = 3;

/// The class of the models' locks.
pub(crate) static LOCK: LockClass =
    LockClass { name: "model lock", rank: 0, kind: LockKind::Spin, nests: false };

pub(crate) struct Home;

loom::thread_local! {
    static CPU: Cell<u32> = Cell::new(0);
}

impl Seam for Home {
    fn cpu_id() -> CpuId {
        CpuId(CPU.with(Cell::get))
    }

    // One CPU of a model may spin at a time, or two that wait for each other: loom would let two take turns for
    // ever while the one they wait for stands.
    fn relax(_: usize) {
        thread::yield_now();
    }

    fn pause(_: usize) {
        thread::yield_now();
    }
}

/// No model has frames or page tables; the record of a page asks for the trait alone.
impl Platform for Home {
    type Format = X86_64;

    fn phys_to_virt(&self, _: PhysAddr) -> NonNull<u8> {
        unreachable!("no model has memory")
    }

    fn virt_to_phys(&self, _: NonNull<u8>) -> PhysAddr {
        unreachable!("no model has memory")
    }

    fn tlb_activate(&self, _: Option<Frame>) {}

    fn tlb_invalidate(&self, _: VirtRange) {}

    fn panic(&self, story: &str) -> ! {
        panic!("{story}")
    }
}

/// Runs `body` in every way. It runs on CPU 0.
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(body);
}

/// Runs `body` on `cpu`.
pub(crate) fn on(cpu: u32, body: impl FnOnce() + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        CPU.with(|own| own.set(cpu));
        body();
    })
}

/// Data that somebody guards. A look and a change, or two changes, with no order between them end the model.
pub(crate) struct Watched(UnsafeCell<()>);

// SAFETY: there is nothing in it; loom watches the accesses.
unsafe impl Send for Watched {}
// SAFETY: as above.
unsafe impl Sync for Watched {}

impl Watched {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(()))
    }

    pub(crate) fn look(&self) {
        self.0.with(|_| ());
    }

    pub(crate) fn change(&self) {
        self.0.with_mut(|_| ());
    }
}
