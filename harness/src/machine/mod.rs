//! The machine as tests, workloads and the replay see it: a hosted home with rumpvm on it.
//!
//! Flow:  `Builder` -> [`Machine`] -> `run` a closure as a process -> [`User`] loads, stores, calls.
//! Locks: none; the component has its own.
//! Sleep: [`Machine::run`] blocks its caller, a thread of the host, until every process has ended.
//! Owns:  the CPUs and the component. The last handle switches the machine off.

mod builder;
mod calls;
mod crew;
mod kernel;
#[cfg(test)]
mod tests;
mod user;

use std::sync::Arc;

use rumpvm::Vm;
use rumpvm_arch::{Format, PAGE_SIZE, PhysAddr, X86_64};
use rumpvm_hosted::{Hosted, Power};
use rumpvm_platform::CpuId;

pub use builder::Builder;
pub use user::User;

use crew::Crew;
use kernel::Kernel;

/// A pretend machine that runs rumpvm. Clones are the same machine.
pub struct Machine<F: Format = X86_64> {
    whole: Arc<Whole<F>>,
}

struct Whole<F: Format> {
    /// Taken out by `drop` and nobody else.
    kernel: Option<Kernel<F>>,
    /// Memory that the component has not been given yet.
    held_back: (PhysAddr, PhysAddr),
    _power: Power,
}

/// The component is taken down while the CPUs still run; the power goes after it.
impl<F: Format> Drop for Whole<F> {
    fn drop(&mut self) {
        if let Some(kernel) = self.kernel.take() {
            kernel.shut_down();
        }
    }
}

impl<F: Format> Clone for Machine<F> {
    fn clone(&self) -> Self {
        Self { whole: Arc::clone(&self.whole) }
    }
}

impl Machine {
    /// Settings of a machine to be; 64-bit unless [`Builder::format`] says otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A machine with one CPU and `frames` frames, of which the component takes some for its records.
    pub fn with_frames(frames: u64) -> Self {
        Self::builder().memory(frames * PAGE_SIZE).cpus(1).build()
    }
}

impl<F: Format> Machine<F> {
    fn kernel(&self) -> &Kernel<F> {
        self.whole.kernel.as_ref().expect("it is there until it is dropped")
    }

    /// The component.
    pub fn vm(&self) -> &Vm<Hosted<F>> {
        self.kernel().vm()
    }

    /// The machine below the component.
    pub fn hosted(&self) -> &Hosted<F> {
        self.vm().platform()
    }

    /// Runs `body` as the first thread of a new process, and returns its result when that process and
    /// everything that descends from it has ended. A panic anywhere in the machine comes out here.
    ///
    /// # Panics
    /// Also if there is not even memory for a process.
    pub fn run<R: Send + 'static>(&self, body: impl FnOnce(&User<F>) -> R + Send + 'static) -> R {
        let kernel = self.kernel().clone();
        self.hosted().run(None, move || {
            let process = kernel.vm().first_process().expect("memory for the first process");
            let user = User::begin(kernel, Crew::new(process));
            let result = body(&user);
            user.end(Some(0));
            result
        })
    }

    /// Runs `body` on CPU 0 as the kernel would: in no process.
    pub fn on_cpu<R: Send + 'static>(
        &self,
        body: impl FnOnce(&Vm<Hosted<F>>) -> R + Send + 'static,
    ) -> R {
        let kernel = self.kernel().clone();
        self.hosted().run(Some(CpuId(0)), move || body(kernel.vm()))
    }

    /// Gives the component the memory that [`Builder::held_back`] kept from it. Once.
    pub fn add_held_back(&self) -> Result<(), rumpvm::AddMemoryError> {
        let (start, end) = self.whole.held_back;
        if Hosted::<F>::is_on_cpu() {
            return self.vm().add_memory(start, end);
        }
        self.on_cpu(move |vm| vm.add_memory(start, end))
    }

    /// Checks every invariant, and every TLB; the error is the story. Only at a quiet moment: no other
    /// thread is in the middle of anything.
    pub fn try_check(&self) -> Result<(), String> {
        let told = |broken: rumpvm::Broken| broken.to_string();
        if Hosted::<F>::is_on_cpu() {
            self.vm().check().map_err(told)?;
        } else {
            self.on_cpu(move |vm| vm.check().map_err(told))?;
        }
        self.hosted().verify_tlbs()
    }

    /// As [`Machine::try_check`].
    ///
    /// # Panics
    /// With the story, if anything is broken.
    #[track_caller]
    pub fn check(&self) {
        if let Err(story) = self.try_check() {
            panic!("{story}");
        }
    }
}
