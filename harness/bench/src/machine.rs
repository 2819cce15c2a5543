//! A hosted machine with the component on it, for measuring: its CPUs do nothing of their own accord.
//!
//! Owns:  the component, which is taken down on a CPU before the power goes.

use std::sync::{Arc, Weak};
use std::thread;

use rumpvm::Vm;
use rumpvm_arch::X86_64;
use rumpvm_hosted::{Hosted, Power, Upcalls};
use rumpvm_platform::CpuId;

/// The home of all cases.
pub(crate) type Home = Hosted<X86_64>;

/// A machine.
pub(crate) struct Machine {
    hosted: Home,
    /// Taken out by `drop` and nobody else.
    component: Option<Arc<Component>>,
    _power: Power,
}

struct Component(Vm<Home>);

impl Upcalls for Component {
    fn tlb_interrupt(&self) {
        self.0.tlb_interrupt();
    }

    /// Zeroing frames beside what is measured would be measured too.
    fn idle(&self) -> bool {
        false
    }
}

impl Machine {
    /// One with `memory` bytes and `cpus` CPUs.
    pub(crate) fn new(memory: u64, cpus: usize) -> Self {
        let (hosted, power) = Hosted::power_on(memory, cpus).expect("a host with resources");
        let (home, (start, end)) = (hosted.clone(), hosted.memory());
        let vm = hosted.run(Some(CpuId(0)), move || {
            let vm = Vm::new(home).expect("memory for the component's records");
            vm.add_memory(start, end).expect("memory that the component can use");
            vm
        });
        let component = Arc::new(Component(vm));
        let weak: Weak<Component> = Arc::downgrade(&component);
        hosted.connect(weak);
        Self { hosted, component: Some(component), _power: power }
    }

    /// Runs `work` in kernel mode on `cpu`.
    pub(crate) fn on_cpu<R: Send + 'static>(
        &self,
        cpu: CpuId,
        work: impl FnOnce(&Vm<Home>) -> R + Send + 'static,
    ) -> R {
        let component = self.component.clone().expect("it is there until it is dropped");
        self.hosted.run(Some(cpu), move || work(&component.0))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Some(mut component) = self.component.take() else { return };
        // The last thread may not have let go of it yet.
        let vm = loop {
            match Arc::try_unwrap(component) {
                Ok(Component(vm)) => break vm,
                Err(used) => component = used,
            }
            thread::yield_now();
        };
        if !thread::panicking() {
            self.hosted.run(Some(CpuId(0)), move || drop(vm));
        }
    }
}
