//! Settings of a machine, and the order in which it is put together.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use rumpvm::Vm;
use rumpvm_arch::{Format, PAGE_SIZE, PhysAddr, X86_64};
use rumpvm_hosted::Hosted;
use rumpvm_platform::CpuId;

use super::kernel::Kernel;
use super::{Machine, Whole};

/// Enough for a test, and every host has it.
const MEMORY: u64 = 64 << 20;
/// Two find most races, and every host has them.
const CPUS: usize = 2;

/// Settings of a [`Machine`] to be.
#[derive(Clone, Copy)]
pub struct Builder<F: Format = X86_64> {
    memory: u64,
    held_back: u64,
    cpus: usize,
    format: PhantomData<fn() -> F>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { memory: MEMORY, held_back: 0, cpus: CPUS, format: PhantomData }
    }
}

impl<F: Format> Builder<F> {
    /// Bytes of RAM, rounded up to whole frames.
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: bytes.next_multiple_of(PAGE_SIZE), ..self }
    }

    /// Bytes at the end of RAM that the component gets later, by [`Machine::add_held_back`].
    pub fn held_back(self, bytes: u64) -> Self {
        Self { held_back: bytes.next_multiple_of(PAGE_SIZE), ..self }
    }

    /// Number of CPUs.
    pub fn cpus(self, cpus: usize) -> Self {
        Self { cpus, ..self }
    }

    /// Another page-table format.
    pub fn format<G: Format>(self) -> Builder<G> {
        let Self { memory, held_back, cpus, .. } = self;
        Builder { memory, held_back, cpus, format: PhantomData }
    }

    /// Builds the machine.
    ///
    /// # Panics
    /// As [`Builder::try_build`], and if the host has no memory or threads left.
    pub fn build(self) -> Machine<F> {
        self.try_build().expect("a host with resources")
    }

    /// Builds the machine; an error says what the host is short of.
    ///
    /// # Panics
    /// If the settings make no sense, or the memory is too small for the component's own records.
    pub fn try_build(self) -> io::Result<Machine<F>> {
        assert!(self.held_back < self.memory, "no memory is left to start with");
        let (hosted, power) = Hosted::power_on(self.memory, self.cpus)?;
        let (start, end) = hosted.memory();
        let begin = PhysAddr(end.0 - self.held_back);
        let home = hosted.clone();
        let vm = hosted.run(Some(CpuId(0)), move || {
            let vm = Vm::new(home).expect("memory for the component's records");
            vm.add_memory(start, begin).expect("memory that the component can use");
            vm
        });
        let kernel = Some(Kernel::new(vm));
        Ok(Machine { whole: Arc::new(Whole { kernel, held_back: (begin, end), _power: power }) })
    }
}
