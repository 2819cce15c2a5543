//! Processes whose every step comes from outside: one thread of the host acts for all of them, in any order.
//!
//! Flow:  [`Stage`] -> [`Puppet`]s -> the space's calls; loads and stores through the CPU, with page faults.
//! Owns:  the processes, until they exit.
//!
//! To be used on a CPU, as [`crate::machine::Machine::on_cpu`] gives it.

use rumpvm::{CallError, FaultError, Hold, Process, Space, Vm, WaitFor};
use rumpvm_arch::{Format, PageFault, VirtAddr, X86_64};
use rumpvm_hosted::Hosted;

/// Repaired faults in a row after which an access makes no progress for sure: a stack that grows, a table that is
/// shared, a page that is read-only first.
const PATIENCE: u32 = 8;

/// The processes of one program. The first one is there at once.
pub struct Stage<'v, F: Format = X86_64> {
    vm: &'v Vm<Hosted<F>>,
    puppets: Vec<Option<Puppet<F>>>,
}

/// One of the processes.
pub struct Puppet<F: Format = X86_64> {
    process: Hold<Process<Hosted<F>>, Hosted<F>>,
    /// Its space, with all calls.
    pub space: Hold<Space<Hosted<F>>, Hosted<F>>,
}

impl<'v, F: Format> Stage<'v, F> {
    /// A first process, number 0.
    pub fn new(vm: &'v Vm<Hosted<F>>) -> Result<Self, CallError> {
        let process = vm.first_process()?;
        let space = process.space().expect("a process that has not ended has a space");
        Ok(Self { vm, puppets: vec![Some(Puppet { process, space })] })
    }

    /// The component.
    pub fn vm(&self) -> &'v Vm<Hosted<F>> {
        self.vm
    }

    /// Process `number`.
    ///
    /// # Panics
    /// If it is not there.
    pub fn at(&self, number: u8) -> &Puppet<F> {
        let puppet = self.puppets.get(usize::from(number)).and_then(Option::as_ref);
        puppet.unwrap_or_else(|| panic!("there is no process {number}"))
    }

    /// fork(2): `child` is a copy of `parent`.
    pub fn fork(&mut self, parent: u8, child: u8) -> Result<(), CallError> {
        let process = self.at(parent).process.fork(self.vm)?;
        let space = process.space().expect("a process that has not ended has a space");
        if self.puppets.len() <= usize::from(child) {
            self.puppets.resize_with(usize::from(child) + 1, || None);
        }
        self.puppets[usize::from(child)] = Some(Puppet { process, space });
        Ok(())
    }

    /// exit(2), and the parent, or the first process if that is gone, waits for it.
    pub fn exit(&mut self, number: u8) {
        let Some(puppet) = self.puppets[usize::from(number)].take() else { return };
        let parent = puppet.process.parent();
        puppet.process.exit(self.vm, 0);
        drop(puppet.space);
        self.vm.deactivate();
        let others = || self.puppets.iter().flatten();
        let parent = others().find(|other| Some(other.process.pid()) == parent).or(others().next());
        if let Some(parent) = parent {
            let waited = parent.process.wait(self.vm, WaitFor::Pid(puppet.process.pid()), true);
            assert!(
                matches!(waited, Ok(Some(_))),
                "a process that ended is waited for: {waited:?}"
            );
        }
    }

    /// An access of the CPU in the space of process `number`.
    fn access(
        &self,
        number: u8,
        mut access: impl FnMut(&Hosted<F>) -> Result<(), PageFault>,
    ) -> Result<(), FaultError> {
        let space = &self.at(number).space;
        self.vm.activate(space);
        let mut last = None;
        for _ in 0..PATIENCE {
            let Err(fault) = access(self.vm.platform()) else { return Ok(()) };
            self.vm.fault(space, fault.at, fault.access)?;
            last = Some(fault);
        }
        panic!("page faults were repaired, and the access still fails: {last:?}");
    }

    /// Loads `into` from `at` in process `number`.
    pub fn load(&self, number: u8, at: VirtAddr, into: &mut [u8]) -> Result<(), FaultError> {
        self.access(number, |hosted| hosted.load(at, into))
    }

    /// Loads a word.
    pub fn load_u64(&self, number: u8, at: VirtAddr) -> Result<u64, FaultError> {
        let mut bytes = [0; 8];
        self.load(number, at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Stores a word.
    pub fn store_u64(&self, number: u8, at: VirtAddr, value: u64) -> Result<(), FaultError> {
        self.access(number, |hosted| hosted.store(at, &value.to_le_bytes()))
    }

    /// Fetches an instruction.
    pub fn fetch(&self, number: u8, at: VirtAddr) -> Result<(), FaultError> {
        self.access(number, |hosted| hosted.fetch(at))
    }

    /// Ends every process, the last ones first.
    pub fn end(mut self) {
        for number in (0..self.puppets.len()).rev() {
            self.exit(number as u8);
        }
        self.vm.deactivate();
    }
}
