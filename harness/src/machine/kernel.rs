//! The component, shared by the machine's handles, its threads, and its CPUs' upcalls.
//!
//! Flow:  CPU -> upcall -> component.
//! Owns:  the component.
//!
//! K1. The component is taken down on a CPU, because its locks ask which one they are on.
//! K2. A component whose machine has stopped is leaked: its records are in the middle of something.

use std::mem;
use std::sync::{Arc, Weak};
use std::thread;

use rumpvm::Vm;
use rumpvm_arch::Format;
use rumpvm_hosted::{Hosted, Upcalls};
use rumpvm_platform::CpuId;

pub(super) struct Kernel<F: Format> {
    shared: Arc<Shared<F>>,
}

struct Shared<F: Format> {
    /// Taken out by `drop` and nobody else.
    vm: Option<Vm<Hosted<F>>>,
}

impl<F: Format> Clone for Kernel<F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<F: Format> Kernel<F> {
    /// Puts `vm` in charge of the machine that it runs on.
    pub(super) fn new(vm: Vm<Hosted<F>>) -> Self {
        let hosted = vm.platform().clone();
        let shared = Arc::new(Shared { vm: Some(vm) });
        let weak: Weak<Shared<F>> = Arc::downgrade(&shared);
        hosted.connect(weak);
        Self { shared }
    }

    pub(super) fn vm(&self) -> &Vm<Hosted<F>> {
        self.shared.vm()
    }

    /// Takes the component down. Called by the last handle, before the power goes.
    pub(super) fn shut_down(self) {
        if self.vm().platform().is_stopped() || Hosted::<F>::is_on_cpu() {
            return;
        }
        // All threads have ended, but an idle CPU may still be in an upcall.
        let mut shared = self.shared;
        while let Err(still_used) = Arc::try_unwrap(shared) {
            shared = still_used;
            thread::yield_now();
        }
    }
}

impl<F: Format> Shared<F> {
    fn vm(&self) -> &Vm<Hosted<F>> {
        self.vm.as_ref().expect("it is there until it is dropped")
    }
}

impl<F: Format> Drop for Shared<F> {
    fn drop(&mut self) {
        let Some(vm) = self.vm.take() else { return };
        let hosted = vm.platform().clone();
        if Hosted::<F>::is_on_cpu() {
            drop(vm);
        } else if hosted.is_stopped() || thread::panicking() {
            mem::forget(vm);
        } else {
            hosted.run(Some(CpuId(0)), move || drop(vm));
        }
    }
}

impl<F: Format> Upcalls for Shared<F> {
    fn tlb_interrupt(&self) {
        self.vm().tlb_interrupt();
    }

    /// An idle CPU leaves its space first: it need not be interrupted for flushes then, and does not
    /// keep a dead space. Whoever goes on there activates its own again (`User::enter`).
    fn idle(&self) -> bool {
        self.vm().deactivate();
        self.vm().idle()
    }
}
