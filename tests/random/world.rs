//! Random programs against a flat model of memory: every call, every access, every byte. Their decisions come from
//! a seed or from a fuzzer; in some, everything that can fail does so first.
//!
//! A few processes, which fork and exit, share a file and a memory object. All run on one CPU, in one
//! thread, so a seed is one sequence of operations; loads and stores go through the CPU's TLB.

mod calls;
mod choices;
mod refused;

use std::collections::VecDeque;
use std::sync::Arc;

use rumpvm::{FaultError, Hold, Object, Process, Space, Vm};
use rumpvm_arch::{Format, PAGE_SIZE, PageFault, Prot, VirtAddr};
use rumpvm_harness::machine::Machine;
use rumpvm_hosted::{Hosted, MemoryFile};
use rumpvm_platform::{FailingFile, Scarce};

use crate::model::{Computer, Contents, Memory, PAGE};
pub use choices::{Choices, Number};
use refused::Leaves;

/// Half of the window is served by one leaf table, half by the next, in every format.
const BASE: VirtAddr = VirtAddr(0x4000_0000 - 32 * PAGE_SIZE);
/// Pages that a program uses.
const WINDOW: usize = 64;
/// Objects that all processes can map, by their place in the model.
const FILE: usize = 0;
const MEMORY: usize = 1;
/// Most pages of them. Less than the window, so that mappings reach beyond the end.
const OBJECT_PAGES: usize = 16;
const PROCESSES: usize = 3;
/// Operations that a failure shows.
const TAIL: usize = 30;
const SWEEP: u64 = 100;

fn address(page: usize) -> VirtAddr {
    BASE + page as u64 * PAGE_SIZE
}

struct Running<F: Format> {
    process: Hold<Process<Hosted<F>>, Hosted<F>>,
    space: Hold<Space<Hosted<F>>, Hosted<F>>,
    memory: Memory,
}

/// The last operations, printed if the test fails wherever that is noticed.
struct Tail {
    name: String,
    done: u64,
    last: VecDeque<String>,
}

impl Drop for Tail {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (name, done) = (&self.name, self.done);
            eprintln!("{name}, after {done} operations, the last of which were");
            self.last.iter().for_each(|line| eprintln!("    {line}"));
        }
    }
}

struct World<F: Format> {
    tail: Tail,
    machine: Machine<F>,
    random: Choices,
    /// Calls are first made with everything failing that they need.
    fails: bool,
    /// How many were refused so.
    refused: u64,
    /// Pages may be missing that the last call would have brought in.
    behind: bool,
    file: Arc<MemoryFile>,
    shared: [Hold<Object<Hosted<F>>, Hosted<F>>; 2],
    objects: Vec<Contents>,
    /// The first one stays to the end.
    processes: Vec<Running<F>>,
    /// Who runs.
    now: usize,
    /// Where the last range began: half of the time there is more to be done there.
    hot: usize,
}

/// What a program is to be like.
pub struct Plan {
    /// What failures of the test say of it.
    pub name: String,
    /// Its decisions.
    pub choices: Choices,
    /// Most operations; fewer if the decisions end before.
    pub operations: u64,
    /// Whether calls are first made with everything failing that they need.
    pub fails: bool,
}

/// Runs a program on a machine of its own; how many calls were refused.
pub fn run<F: Format>(plan: Plan) -> u64 {
    let machine = Machine::builder().format::<F>().cpus(1).memory(MEMORY_SIZE).build();
    let inside = machine.clone();
    let refused = machine.on_cpu(move |_| {
        let operations = plan.operations;
        let mut world = World::new(inside, plan);
        while world.tail.done < operations && !world.random.is_over() {
            world.step();
        }
        world.end()
    });
    machine.check();
    let made = machine.vm().statistics();
    assert_eq!(made.tables_made, made.tables_freed, "tables are left");
    assert_eq!(made.nodes_made, made.nodes_freed, "nodes are left");
    refused
}

/// Enough for the programs, little enough to check often.
const MEMORY_SIZE: u64 = 8 << 20;

type File<F> = FailingFile<Arc<MemoryFile>, Hosted<F>>;

impl<F: Format> World<F> {
    fn new(machine: Machine<F>, plan: Plan) -> Self {
        let vm = machine.vm();
        let bytes: Vec<u8> = (0..OBJECT_PAGES * PAGE).map(|at| (at / 7 % 251) as u8).collect();
        let file = Arc::new(MemoryFile::new(bytes.clone()));
        let object = vm.open_file(File::<F>::new(Arc::clone(&file))).unwrap();
        let shared = vm.shared_memory(bytes.len() as u64).unwrap();
        let objects = vec![Contents::file(&bytes), Contents::memory(bytes.len())];
        let process = vm.first_process().unwrap();
        let space = process.space().unwrap();
        let frames = vm.mmu.phys.total_frames();
        let computer = Computer { has_nx: F::HAS_NX, end: F::USER_END, frames };
        let first = Running { process, space, memory: Memory::new(computer) };
        Self {
            tail: Tail { name: plan.name, done: 0, last: VecDeque::new() },
            random: plan.choices,
            fails: plan.fails,
            refused: 0,
            behind: false,
            file,
            shared: [object, shared],
            objects,
            processes: vec![first],
            machine,
            now: 0,
            hot: 0,
        }
    }

    fn vm(&self) -> &Vm<Hosted<F>> {
        self.machine.vm()
    }

    fn space(&self) -> &Hold<Space<Hosted<F>>, Hosted<F>> {
        &self.processes[self.now].space
    }

    /// What the model is changed with.
    fn model(&mut self) -> (&mut Memory, &mut Vec<Contents>) {
        (&mut self.processes[self.now].memory, &mut self.objects)
    }

    fn log(&mut self, line: String) {
        if self.tail.last.len() == TAIL {
            self.tail.last.pop_front();
        }
        self.tail.last.push_back(format!("{}: {line}", self.now));
    }

    fn step(&mut self) {
        // Rarely somebody else, so that what the TLB knows is used after calls.
        if self.chance(8) {
            self.now = self.random.random_range(0..self.processes.len());
        }
        match self.random.random_range(0..100) {
            0..12 => self.map(),
            12..14 => self.map_anywhere(),
            14..18 => self.unmap(),
            18..26 => self.protect(),
            26..34 => self.advise(),
            34..42 => self.remap(),
            42..44 => self.sync(),
            44..46 => self.resize_object(),
            46..48 if self.processes.len() < PROCESSES => self.fork(),
            48..50 if self.now > 0 => self.exit(),
            50..52 => self.advise_list(),
            // What these leave when they fail half-way is no promise.
            52..54 if !self.fails => self.lock(),
            54 => self.remap_file(),
            55 if !self.fails => self.inherit(),
            56 if self.chance(4) => self.reserve(),
            52..66 => self.load(),
            66..70 => self.execute(),
            _ => self.store(),
        }
        self.catch_up();
        self.tail.done += 1;
        if self.tail.done.is_multiple_of(SWEEP) {
            self.sweep();
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.random.random_range(0..one_in) == 0
    }

    /// Pages of the window: the first, and how many.
    fn range(&mut self) -> (usize, usize) {
        if self.chance(2) {
            self.hot = self.random.random_range(0..WINDOW);
        }
        let most = if self.chance(10) { WINDOW } else { 8 };
        (self.hot, self.random.random_range(1..=most.min(WINDOW - self.hot)))
    }

    fn prot(&mut self) -> Prot {
        if self.chance(2) {
            return Prot::RW;
        }
        Prot::from_bits_truncate(self.random.random_range(0..8))
    }

    /// An access of the CPU in the space of the process that runs, with page faults.
    fn access(
        &self,
        mut access: impl FnMut(&Hosted<F>) -> Result<(), PageFault>,
    ) -> Result<(), FaultError> {
        let vm = self.vm();
        vm.activate(self.space());
        let mut last = None;
        // Two pages, each read-only first at worst.
        for _ in 0..5 {
            match access(vm.platform()) {
                Ok(()) => return Ok(()),
                Err(fault) => {
                    vm.fault(self.space(), fault.at, fault.access)?;
                    last = Some(fault);
                }
            }
        }
        panic!("page faults were repaired, and the access still fails: {last:?}");
    }

    /// Any place in the window, and a few bytes or very many.
    fn place(&mut self) -> (VirtAddr, usize) {
        let (first, pages) = self.range();
        let page = self.random.random_range(first..first + pages);
        let at = address(page) + self.random.random_range(0..PAGE_SIZE);
        let most = if self.chance(4) { PAGE } else { 16 };
        (at, self.random.random_range(1..=most))
    }

    /// What an access there may leave when it is refused.
    fn leaves(&self, at: VirtAddr) -> Leaves {
        let mapped = self.processes[self.now].memory.pages.contains_key(&at.page());
        if mapped { Leaves::Pages } else { Leaves::Stack }
    }

    fn load(&mut self) {
        let (at, length) = self.place();
        let copied = self.chance(4);
        self.log(format!("load {at} +{length}, copied {copied}"));
        self.compare(at, length, copied);
    }

    fn compare(&mut self, at: VirtAddr, length: usize, copied: bool) {
        let (mut seen, mut expected) = (vec![0; length], vec![0; length]);
        let loaded = self.call(self.leaves(at), |world| {
            let mut seen = vec![0; length];
            let done = if copied {
                world.space().copy_in(world.vm(), at, &mut seen)
            } else {
                world.access(|hosted| hosted.load(at, &mut seen))
            };
            done.map(|()| seen)
        });
        let result = loaded.map(|bytes| seen = bytes);
        let (memory, objects) = self.model();
        assert_eq!(result, memory.load(objects, at, &mut expected), "load at {at}");
        let differs = (0..length).find(|&byte| seen[byte] != expected[byte]);
        if let (Ok(()), Some(byte)) = (result, differs) {
            let (is, should) = (seen[byte], expected[byte]);
            panic!("{} has {is} instead of {should}", at + byte as u64);
        }
    }

    fn store(&mut self) {
        let (at, length) = self.place();
        let (copied, value) = (self.chance(4), self.random.random_range(1..=255));
        self.log(format!("store {value} {at} +{length}, copied {copied}"));
        let (memory, objects) = self.model();
        if memory.overhangs(objects, at, length) {
            return;
        }
        let bytes = vec![value; length];
        let store = |world: &Self| {
            if copied {
                world.space().copy_out(world.vm(), at, &bytes)
            } else {
                world.access(|hosted| hosted.store(at, &bytes))
            }
        };
        let result = self.call_with(self.leaves(at), store, |world, error| {
            // The pages before have been stored to.
            let stored = error.at().page_down().0.saturating_sub(at.0) as usize;
            let (memory, objects) = world.model();
            assert_eq!(memory.store(objects, at, &bytes[..stored.min(length)]), Ok(()));
        });
        let (memory, objects) = self.model();
        assert_eq!(result, memory.store(objects, at, &bytes), "store at {at}");
    }

    fn execute(&mut self) {
        let (at, _) = self.place();
        self.log(format!("execute {at}"));
        let fetch = |world: &Self| world.access(|hosted| hosted.fetch(at));
        let result = self.call(self.leaves(at), fetch);
        let (memory, objects) = self.model();
        assert_eq!(result, memory.execute(objects, at), "fetch at {at}");
    }

    /// Compares every byte of every process, and checks the invariants twice: as the operations left it
    /// all, and with everything mapped that can be.
    fn sweep(&mut self) {
        self.machine.check();
        let now = self.now;
        for process in 0..self.processes.len() {
            self.now = process;
            for page in 0..WINDOW {
                self.compare(address(page), PAGE, false);
            }
        }
        self.now = now;
        self.machine.check();
    }

    /// Ends everything: what was stored must be in the file, whatever went wrong before. Returns how many calls were
    /// refused.
    fn end(mut self) -> u64 {
        self.sweep();
        while self.processes.len() > 1 {
            self.now = self.processes.len() - 1;
            self.exit();
        }
        self.processes[0].process.exit(self.vm(), 0);
        self.vm().deactivate();
        if self.fails {
            self.fail_to_close();
        }
        for object in &self.shared {
            assert_eq!(self.vm().close(object), Ok(()));
        }
        let Contents { size, bytes, .. } = &self.objects[FILE];
        assert!(self.file.contents() == bytes[..*size], "the file is not what was stored");
        self.refused
    }

    /// Closes the file with each write failing in turn, and opens it again: its pages are kept.
    fn fail_to_close(&mut self) {
        let machine = self.machine.clone();
        let failures = machine.hosted().failures();
        for nth in 1.. {
            failures.fail_nth(Scarce::Io, nth);
            let closed = self.vm().close(&self.shared[FILE]);
            let met = !failures.is_pending(Scarce::Io);
            failures.fail_nth(Scarce::Io, 0);
            assert_eq!(closed.is_err(), met, "{closed:?}");
            self.shared[FILE] =
                self.vm().open_file(File::<F>::new(Arc::clone(&self.file))).unwrap();
            if !met {
                return;
            }
        }
    }
}
