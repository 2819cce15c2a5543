//! Random programs against a flat model of memory: every call, every access, every byte.
//!
//! A few processes, which fork and exit, share a file and a memory object. All run on one CPU, in one
//! thread, so a seed is one sequence of operations; loads and stores go through the CPU's TLB.

#[path = "random/calls.rs"]
mod calls;

use std::collections::VecDeque;
use std::sync::Arc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rumpvm::{FaultError, Hold, Object, Process, Space, Vm};
use rumpvm_arch::{Format, I386, PAGE_SIZE, Pae, PageFault, Prot, VirtAddr, X86_64};
use rumpvm_harness::machine::Machine;
use rumpvm_hosted::{Hosted, MemoryFile};

use rumpvm_tests::is_short;
use rumpvm_tests::model::{Computer, Contents, Memory, PAGE};

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
    seed: u64,
    done: u64,
    last: VecDeque<String>,
}

impl Drop for Tail {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, done) = (self.seed, self.done);
            eprintln!("seed {seed}, after {done} operations, the last of which were");
            self.last.iter().for_each(|line| eprintln!("    {line}"));
        }
    }
}

struct World<F: Format> {
    tail: Tail,
    machine: Machine<F>,
    random: Xoshiro256PlusPlus,
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

fn run<F: Format>(seeds: u64, operations: u64) {
    let seeds = if is_short() { 1 } else { seeds };
    for seed in 0..seeds {
        let machine = Machine::builder().format::<F>().cpus(1).build();
        let inside = machine.clone();
        machine.on_cpu(move |_| {
            let mut world = World::new(inside, seed);
            for _ in 0..operations {
                world.step();
            }
            world.end();
        });
        machine.check();
    }
}

impl<F: Format> World<F> {
    fn new(machine: Machine<F>, seed: u64) -> Self {
        let vm = machine.vm();
        let bytes: Vec<u8> = (0..OBJECT_PAGES * PAGE).map(|at| (at / 7 % 251) as u8).collect();
        let file = Arc::new(MemoryFile::new(bytes.clone()));
        let object = vm.open_file(Arc::clone(&file)).unwrap();
        let shared = vm.shared_memory(bytes.len() as u64).unwrap();
        let objects = vec![Contents::file(&bytes), Contents::memory(bytes.len())];
        let process = vm.first_process().unwrap();
        let space = process.space().unwrap();
        let frames = vm.mmu.phys.total_frames();
        let computer = Computer { has_nx: F::HAS_NX, end: F::USER_END, frames };
        let first = Running { process, space, memory: Memory::new(computer) };
        Self {
            tail: Tail { seed, done: 0, last: VecDeque::new() },
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
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
            50..66 => self.load(),
            66..70 => self.execute(),
            _ => self.store(),
        }
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

    fn load(&mut self) {
        let (at, length) = self.place();
        let copied = self.chance(4);
        self.log(format!("load {at} +{length}, copied {copied}"));
        self.compare(at, length, copied);
    }

    fn compare(&mut self, at: VirtAddr, length: usize, copied: bool) {
        let (mut seen, mut expected) = (vec![0; length], vec![0; length]);
        let result = if copied {
            self.space().copy_in(self.vm(), at, &mut seen)
        } else {
            self.access(|hosted| hosted.load(at, &mut seen))
        };
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
        let result = if copied {
            self.space().copy_out(self.vm(), at, &bytes)
        } else {
            self.access(|hosted| hosted.store(at, &bytes))
        };
        let (memory, objects) = self.model();
        assert_eq!(result, memory.store(objects, at, &bytes), "store at {at}");
    }

    fn execute(&mut self) {
        let (at, _) = self.place();
        self.log(format!("execute {at}"));
        let result = self.access(|hosted| hosted.fetch(at));
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

    /// Ends everything: what was stored must be in the file.
    fn end(mut self) {
        self.sweep();
        while self.processes.len() > 1 {
            self.now = self.processes.len() - 1;
            self.exit();
        }
        self.processes[0].process.exit(self.vm(), 0);
        self.vm().deactivate();
        for object in &self.shared {
            assert_eq!(self.vm().close(object), Ok(()));
        }
        let Contents { size, bytes, .. } = &self.objects[FILE];
        assert!(self.file.contents() == bytes[..*size], "the file is not what was stored");
    }
}

#[test]
fn random_programs_see_what_a_flat_model_says_on_x86_64() {
    run::<X86_64>(8, 3000);
}

#[test]
fn random_programs_see_what_a_flat_model_says_on_i386() {
    run::<I386>(8, 3000);
}

#[test]
fn random_programs_see_what_a_flat_model_says_with_pae() {
    run::<Pae>(4, 3000);
}
