//! A pretend machine with page tables and memory alone.

use std::sync::{Arc, OnceLock};

use rumpvm::check::check_pmaps;
use rumpvm::classic::Pmaps;
use rumpvm::phys::Contents;
use rumpvm_arch::{Format, Frame, PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_hosted::{Hosted, Power, Upcalls};
use rumpvm_platform::CpuId;

pub(crate) struct Machine<F: Format> {
    pub(crate) hosted: Hosted<F>,
    pub(crate) pmaps: Arc<Whole<F>>,
    _power: Power,
}

/// The component, and its side of interrupts.
pub(crate) struct Whole<F: Format>(Pmaps<Hosted<F>>);

impl<F: Format> std::ops::Deref for Whole<F> {
    type Target = Pmaps<Hosted<F>>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<F: Format> Upcalls for Whole<F> {
    fn tlb_interrupt(&self) {
        self.0.tlb_interrupt();
    }

    /// Nothing is done behind the back of a test that counts frames.
    fn idle(&self) -> bool {
        false
    }
}

pub(crate) const BASE: VirtAddr = VirtAddr(0x40_0000);

pub(crate) fn page(number: u64) -> VirtAddr {
    BASE + number * PAGE_SIZE
}

pub(crate) fn pages(first: u64, count: u64) -> VirtRange {
    VirtRange::new(page(first), page(first + count))
}

impl<F: Format> Machine<F> {
    pub(crate) fn new(cpus: usize) -> Self {
        let (hosted, power) = Hosted::power_on(8 << 20, cpus).expect("a host with memory");
        let home = hosted.clone();
        let made = Arc::new(OnceLock::new());
        let place = Arc::clone(&made);
        hosted.run(Some(CpuId(0)), move || {
            let (start, end) = home.memory();
            let pmaps = Pmaps::try_new(home).expect("memory for records");
            pmaps.phys.add_memory(start, end).expect("memory for frames");
            place.set(Arc::new(Whole(pmaps))).ok().expect("once");
        });
        let pmaps = Arc::clone(made.get().expect("it was made"));
        let weak = Arc::downgrade(&pmaps);
        hosted.connect(weak);
        Self { hosted, pmaps, _power: power }
    }

    /// Runs `body` on a CPU.
    pub(crate) fn on<R: Send + 'static>(
        &self,
        cpu: u32,
        body: impl FnOnce(&Pmaps<Hosted<F>>, &Hosted<F>) -> R + Send + 'static,
    ) -> R {
        let (pmaps, hosted) = (Arc::clone(&self.pmaps), self.hosted.clone());
        self.hosted.run(Some(CpuId(cpu)), move || body(&pmaps, &hosted))
    }

    /// Everything agrees, TLBs too.
    pub(crate) fn check(&self) {
        self.on(0, |pmaps, _| check_pmaps(pmaps).unwrap_or_else(|broken| panic!("{broken}")));
        self.hosted.verify_tlbs().unwrap_or_else(|story| panic!("{story}"));
    }
}

pub(crate) fn frame<F: Format>(pmaps: &Pmaps<Hosted<F>>) -> Frame {
    pmaps.phys.take_frame(Contents::Zeros).expect("there is memory")
}

pub(crate) fn store<F: Format>(hosted: &Hosted<F>, at: VirtAddr, value: u64) -> bool {
    hosted.store(at, &value.to_ne_bytes()).is_ok()
}

pub(crate) fn load<F: Format>(hosted: &Hosted<F>, at: VirtAddr) -> Option<u64> {
    let mut bytes = [0; 8];
    hosted.load(at, &mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// Runs one promise in every format.
macro_rules! in_every_format {
    ($($name:ident)*) => { $(
        mod $name {
            #[test]
            fn i386() { super::promises::$name::<rumpvm_arch::I386>() }
            #[test]
            fn pae() { super::promises::$name::<rumpvm_arch::Pae>() }
            #[test]
            fn x86_64() { super::promises::$name::<rumpvm_arch::X86_64>() }
            #[test]
            fn x86_64_la57() { super::promises::$name::<rumpvm_arch::X86_64La57>() }
        }
    )* };
}
pub(crate) use in_every_format;
