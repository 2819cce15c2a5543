//! A home that notes which CPU touches which cache line.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use rumpvm_arch::{Frame, PAGE_SIZE, PhysAddr, VirtRange, X86_64};
use rumpvm_platform::{CpuId, Op, Platform, Seam, Site, Step};

const LINE: usize = 64;
/// First byte of memory: not 0, which some code might take for none.
const START: u64 = 1 << 20;
const CPUS: usize = 2;

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    static TOUCHED: RefCell<[Touched; CPUS]> = const { RefCell::new([Touched::NONE, Touched::NONE]) };
}

/// The lines that one CPU touched, each with the first place in the source that did.
struct Touched {
    written: BTreeMap<usize, Site>,
    read: BTreeMap<usize, Site>,
}

impl Touched {
    const NONE: Self = Self { written: BTreeMap::new(), read: BTreeMap::new() };
}

/// A line that two CPUs touched.
#[derive(Debug)]
#[expect(dead_code, reason = "it is for who reads the failure")]
pub(crate) struct Line {
    address: usize,
    sites: [Site; CPUS],
}

/// The caller is `cpu` from now on.
pub(crate) fn be(cpu: usize) {
    CPU.set(cpu);
}

/// Forgets what was touched so far.
pub(crate) fn record() {
    TOUCHED.with_borrow_mut(|all| *all = [Touched::NONE, Touched::NONE]);
}

/// Lines that both CPUs wrote since [`record`].
pub(crate) fn written_by_both() -> Vec<Line> {
    TOUCHED.with_borrow(|[one, two]| common(&one.written, &two.written))
}

/// Lines that one CPU wrote and the other read since [`record`].
pub(crate) fn written_by_one_and_read_by_the_other() -> Vec<Line> {
    TOUCHED.with_borrow(|[one, two]| {
        let mut lines = common(&one.written, &two.read);
        lines.extend(common(&one.read, &two.written));
        lines
    })
}

fn common(one: &BTreeMap<usize, Site>, two: &BTreeMap<usize, Site>) -> Vec<Line> {
    let lines: BTreeSet<_> = one.keys().filter(|line| two.contains_key(line)).collect();
    lines
        .into_iter()
        .map(|line| Line { address: line * LINE, sites: [one[line], two[line]] })
        .collect()
}

fn note(step: &Step) {
    let line = step.cell.address / LINE;
    TOUCHED.with_borrow_mut(|all| {
        let touched = &mut all[CPU.get()];
        let lines = match step.op {
            Op::Load | Op::Get => &mut touched.read,
            _ => &mut touched.written,
        };
        lines.entry(line).or_insert(step.site);
    });
}

/// Memory of this process, and two CPUs that one thread plays.
pub(crate) struct Recorded {
    memory: Vec<AtomicU64>,
}

impl Recorded {
    /// One with `bytes` bytes of memory.
    pub(crate) fn new(bytes: u64) -> Self {
        // A page more than that, so that a whole number of pages is aligned.
        let words = (bytes + PAGE_SIZE) as usize / 8;
        Self { memory: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    fn first_byte(&self) -> usize {
        (self.memory.as_ptr() as usize).next_multiple_of(PAGE_SIZE as usize)
    }

    /// First byte of memory, and one past the last.
    pub(crate) fn memory(&self) -> (PhysAddr, PhysAddr) {
        let bytes = (self.memory.len() * 8) as u64 - PAGE_SIZE;
        (PhysAddr(START), PhysAddr(START + bytes))
    }
}

macro_rules! carried_out {
    ($cell:ty, $int:ty, $step:expr) => {{
        // SAFETY: `Seam::carry_out` is called with a live atomic of this width.
        let cell = unsafe { <$cell>::from_ptr($step.cell.address as *mut $int) };
        let order = Ordering::SeqCst;
        u64::from(match $step.op {
            Op::Load | Op::Get => cell.load(order),
            Op::Store(value) | Op::Set(value) | Op::Swap(value) => cell.swap(value as $int, order),
            Op::CompareExchange { old, new } => {
                let done = cell.compare_exchange(old as $int, new as $int, order, order);
                done.unwrap_or_else(|seen| seen)
            }
            Op::Add(value) => cell.fetch_add(value as $int, order),
            Op::Sub(value) => cell.fetch_sub(value as $int, order),
            Op::Or(value) => cell.fetch_or(value as $int, order),
            Op::And(value) => cell.fetch_and(value as $int, order),
        })
    }};
}

impl Seam for Recorded {
    const OWNS_MEMORY: bool = true;

    fn cpu_id() -> CpuId {
        CpuId(CPU.get() as u32)
    }

    unsafe fn carry_out(step: Step) -> u64 {
        note(&step);
        match step.cell.bytes {
            2 => carried_out!(AtomicU16, u16, step),
            4 => carried_out!(AtomicU32, u32, step),
            _ => carried_out!(AtomicU64, u64, step),
        }
    }
}

impl Platform for Recorded {
    type Format = X86_64;

    fn phys_to_virt(&self, at: PhysAddr) -> NonNull<u8> {
        let address = self.first_byte() + (at.0 - START) as usize;
        NonNull::new(std::ptr::with_exposed_provenance_mut(address)).expect("memory begins above 0")
    }

    fn virt_to_phys(&self, at: NonNull<u8>) -> PhysAddr {
        PhysAddr((at.as_ptr() as usize - self.first_byte()) as u64 + START)
    }

    fn cpu_count(&self) -> usize {
        CPUS
    }

    fn tlb_activate(&self, _: Option<Frame>) {}

    fn tlb_invalidate(&self, _: VirtRange) {}

    fn panic(&self, story: &str) -> ! {
        panic!("{story}")
    }
}
