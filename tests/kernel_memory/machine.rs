//! A machine on which nothing runs but the test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Weak};
use std::thread;

use rumpvm::Vm;
use rumpvm::phys::Phys;
use rumpvm_arch::X86_64;
use rumpvm_hosted::{Hosted, Power, Upcalls};
use rumpvm_platform::CpuId;

pub(crate) type Home = Hosted<X86_64>;

struct Component(Vm<Home>);

impl Upcalls for Component {
    fn tlb_interrupt(&self) {
        self.0.tlb_interrupt();
    }

    /// Frames are counted here, so nobody may be zeroing one.
    fn idle(&self) -> bool {
        false
    }
}

pub(crate) struct Machine {
    hosted: Home,
    component: Arc<Component>,
    _power: Power,
}

impl Machine {
    pub(crate) fn new(memory: u64, cpus: usize) -> Self {
        let (hosted, power) = Hosted::power_on(memory, cpus).unwrap();
        let (home, (start, end)) = (hosted.clone(), hosted.memory());
        let component = hosted.run(Some(CpuId(0)), move || {
            let vm = Vm::new(home).unwrap();
            vm.add_memory(start, end).unwrap();
            Arc::new(Component(vm))
        });
        let weak: Weak<Component> = Arc::downgrade(&component);
        hosted.connect(weak);
        Self { hosted, component, _power: power }
    }

    /// Runs `work` on `cpu`.
    pub(crate) fn on<R: Send + 'static>(
        &self,
        cpu: u32,
        work: impl FnOnce(&Vm<Home>) -> R + Send + 'static,
    ) -> R {
        let component = Arc::clone(&self.component);
        self.hosted.run(Some(CpuId(cpu)), move || work(&component.0))
    }

    /// Runs `work` on each of the first `cpus` CPUs at once, with the CPU's number.
    pub(crate) fn on_each(
        &self,
        cpus: u32,
        work: impl Fn(&Phys<Home>, u32) + Clone + Send + 'static,
    ) {
        let start = Arc::new(Barrier::new(cpus as usize));
        thread::scope(|scope| {
            for cpu in 0..cpus {
                let (start, work) = (Arc::clone(&start), work.clone());
                scope.spawn(move || {
                    self.on(cpu, move |vm| {
                        start.wait();
                        work(&vm.mmu.phys, cpu);
                    })
                });
            }
        });
    }

    /// Frames that are free, wherever they are.
    pub(crate) fn free_frames(&self) -> u64 {
        self.on(0, |vm| vm.mmu.phys.free_frames())
    }

    pub(crate) fn check(&self) {
        self.on(0, |vm| vm.check().unwrap());
    }
}

/// Runs `work` on a machine of 32 MiB; what it takes must have come back.
pub(crate) fn alone(work: impl FnOnce(&Vm<Home>) + Send + 'static) {
    let machine = Machine::new(32 << 20, 1);
    let before = machine.free_frames();
    machine.on(0, work);
    assert_eq!(machine.free_frames(), before, "every frame is back");
    machine.check();
}

/// What the machine says when `work` stops it.
pub(crate) fn story_of(work: impl FnOnce(&Phys<Home>) + Send + 'static) -> String {
    let machine = Machine::new(8 << 20, 1);
    let stopped = catch_unwind(AssertUnwindSafe(|| machine.on(0, |vm| work(&vm.mmu.phys))));
    let payload = stopped.expect_err("the machine goes on");
    match payload.downcast::<String>() {
        Ok(story) => *story,
        Err(other) => (*other.downcast::<&str>().expect("a panic says something")).to_string(),
    }
}

/// Numbers that look random, the same for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}
