//! A kernel for rumpvm in one file: all that a host in Rust has to bring, and what it gets for it. It is run by
//! `cargo run -p rumpvm --example host`.
//!
//! The machine is pretended, so that it runs anywhere: memory is an array, a CPU is a thread with a TLB, an interrupt is a
//! flag that the CPU looks at between two instructions. The page tables are real ones of x86-64, which rumpvm writes and
//! [`Cpu::translate`] walks as hardware does. A kernel on hardware brings the same functions, shorter: there the CPU walks.
//!
//! Flow: main -> Program::load, Program::store -> Cpu::translate -> (page fault) -> Vm::fault -> again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;

use rumpvm::arch::{
    Access, Format, Frame, PAGE_SIZE, PhysAddr, Prot, Pte, VirtAddr, VirtRange, X86_64, index,
};
use rumpvm::platform::{CpuId, CpuSet, Platform, Seam, ThreadLocal};
use rumpvm::{Backing, FaultError, Hold, MapFlags, Space, Vm};

const MEMORY: usize = 16 << 20;
const CPUS: usize = 2;

/// The kernel's one VM. rumpvm has no state of its own: everything hangs on this.
static VM: OnceLock<Vm<Host>> = OnceLock::new();
/// "Call tlb_interrupt": the interrupt line of each CPU.
static FLUSH: [AtomicBool; CPUS] = [const { AtomicBool::new(false) }; CPUS];

// 1. What rumpvm asks of its host.

/// Memory: page n of the machine lies `n * 4096` bytes into it.
struct Host {
    memory: NonNull<u8>,
}

// SAFETY: nothing but an address; who may touch what behind it is rumpvm's business, frame by frame.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

/// What locks need: who am I, and what to do while I wait. A kernel that is interrupted also masks interrupts here
/// (`intr_save`, `intr_restore`); one with threads that block brings `sleep` and `wakeup`.
impl Seam for Host {
    fn cpu_id() -> CpuId {
        CpuId(CPU.with(|cpu| cpu.id))
    }

    fn relax(_word: usize) {
        serve_flush();
        thread::yield_now();
    }

    fn thread() -> Option<NonNull<ThreadLocal>> {
        Some(CPU.with(|cpu| NonNull::from(&cpu.thread)))
    }
}

impl Platform for Host {
    type Format = X86_64;

    fn phys_to_virt(&self, at: PhysAddr) -> NonNull<u8> {
        // SAFETY: rumpvm asks only for memory that it was given, all of which is inside.
        unsafe { self.memory.add(at.0 as usize) }
    }

    fn virt_to_phys(&self, at: NonNull<u8>) -> PhysAddr {
        PhysAddr((at.addr().get() - self.memory.addr().get()) as u64)
    }

    fn cpu_count(&self) -> usize {
        CPUS
    }

    fn tlb_activate(&self, root: Option<Frame>) {
        CPU.with(|cpu| {
            cpu.root.set(root);
            cpu.tlb.borrow_mut().clear();
        });
    }

    fn tlb_invalidate(&self, range: VirtRange) {
        CPU.with(|cpu| {
            cpu.tlb.borrow_mut().retain(|page, _| !range.contains(VirtAddr::of_page(*page)))
        });
    }

    fn tlb_ipi(&self, targets: &CpuSet) {
        targets.iter().for_each(|cpu| FLUSH[cpu.0 as usize].store(true, Ordering::SeqCst));
    }

    fn panic(&self, story: &str) -> ! {
        panic!("{story}")
    }
}

// 2. What hardware does: a CPU with a TLB.

struct Cpu {
    id: u32,
    /// CR3.
    root: Cell<Option<Frame>>,
    /// By page: the entry that was found.
    tlb: RefCell<HashMap<u64, Pte>>,
    /// rumpvm's part of the thread that runs here; there is one for each CPU.
    thread: ThreadLocal,
}

thread_local! {
    static CPU: Cpu = {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Cpu {
            id,
            root: Cell::new(None),
            tlb: RefCell::default(),
            thread: ThreadLocal::new(u64::from(id) + 1),
        }
    };
}

/// The interrupt, taken between two instructions, or while this CPU waits.
fn serve_flush() {
    if FLUSH[Host::cpu_id().0 as usize].swap(false, Ordering::SeqCst) {
        vm().tlb_interrupt();
    }
}

impl Cpu {
    /// Where `at` is in memory, if the TLB or the page tables allow that access; otherwise it is a page fault.
    fn translate(&self, at: VirtAddr, access: Access) -> Option<NonNull<u8>> {
        let allows = |entry: &Pte| match access {
            // A store through an entry that was not stored through yet looks again, to set its dirty bit.
            Access::Write => entry.is_writable() && entry.is_dirty(),
            _ => true,
        };
        let known = self.tlb.borrow().get(&at.page()).copied().filter(allows);
        let entry = match known {
            Some(entry) => entry,
            None => self.walk(at, access)?,
        };
        self.tlb.borrow_mut().insert(at.page(), entry);
        Some(vm().platform().phys_to_virt(PhysAddr(entry.frame().start().0 + at.page_offset())))
    }

    /// From CR3 down to the page.
    fn walk(&self, at: VirtAddr, access: Access) -> Option<Pte> {
        let mut table = self.root.get()?;
        for level in (1..=X86_64::LEVELS).rev() {
            let word = vm().platform().phys_to_virt(table.start()).cast::<AtomicU64>();
            // SAFETY: tables are pages of memory, and an index is below the 512 entries of one.
            let word = unsafe { word.add(index::<X86_64>(level, at)).as_ref() };
            let mut entry = Pte(word.load(Ordering::SeqCst));
            let store = access == Access::Write;
            let mark = if store && level == 1 { Pte::A | Pte::D } else { Pte::A };
            loop {
                if !entry.is_present() || (store && !entry.is_writable()) {
                    return None;
                }
                // Not if it has changed meanwhile.
                let (old, new) = (entry.0, entry.with(mark));
                match word.compare_exchange(old, new.0, Ordering::SeqCst, Ordering::SeqCst) {
                    Ok(_) if level == 1 => return Some(new),
                    Ok(_) => break,
                    Err(now) => entry = Pte(now),
                }
            }
            table = entry.frame();
        }
        unreachable!("level 1 returns")
    }
}

// 3. What the kernel makes of it: programs that load and store, and whose page faults go to rumpvm.

fn vm() -> &'static Vm<Host> {
    VM.get().expect("main makes it")
}

/// A program is a space, here. It must be active on the CPU that runs it.
struct Program {
    space: Hold<Space<Host>, Host>,
}

impl Program {
    /// Makes this CPU run it.
    fn switch_to(&self) -> &Self {
        vm().activate(&self.space);
        self
    }

    /// An instruction that uses one byte, with as many page faults as it takes. What cannot be made good is a signal.
    fn access<T>(
        &self,
        at: VirtAddr,
        access: Access,
        act: impl Fn(NonNull<u8>) -> T,
    ) -> Result<T, FaultError> {
        loop {
            serve_flush();
            match CPU.with(|cpu| cpu.translate(at, access)) {
                Some(byte) => return Ok(act(byte)),
                None => vm().fault(&self.space, at, access)?,
            }
        }
    }

    fn load(&self, at: VirtAddr) -> Result<u8, FaultError> {
        // SAFETY: `translate` found it in memory, and the frame stays there until this CPU has served the flush.
        self.access(at, Access::Read, |byte| unsafe { byte.read_volatile() })
    }

    fn store(&self, at: VirtAddr, value: u8) -> Result<(), FaultError> {
        // SAFETY: as in `load`.
        self.access(at, Access::Write, |byte| unsafe { byte.write_volatile(value) })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // The machine: memory that is given to rumpvm for good, but for its first page, which is this kernel's.
    let memory = vec![0u128; (MEMORY + PAGE_SIZE as usize) / 16].leak().as_mut_ptr().cast::<u8>();
    let memory = memory.map_addr(|at| at.next_multiple_of(PAGE_SIZE as usize));
    let host = Host { memory: NonNull::new(memory).ok_or("memory at address 0")? };
    let vm = VM.get_or_init(|| Vm::new(host).expect("memory for the first records"));
    vm.add_memory(PhysAddr(PAGE_SIZE), PhysAddr(MEMORY as u64))?;

    // A program with a mebibyte of zeros, and its child by fork. Each sees its own stores alone.
    let (rw, private) = (Prot::RW, MapFlags::PRIVATE | MapFlags::ANONYMOUS);
    let parent = Program { space: vm.new_space()? };
    let at = parent.space.mmap(vm, VirtAddr(0), 1 << 20, rw, private, Backing::Anonymous, 0)?;
    parent.switch_to().store(at, 42)?;
    let child = Program { space: vm.fork_space(&parent.space)? };
    child.switch_to().store(at + 1, 7)?;
    assert_eq!((child.load(at)?, child.load(at + 1)?), (42, 7));
    assert_eq!(parent.switch_to().load(at + 1)?, 0);
    println!("fork: {} page copied", vm.statistics().faults_copy);

    // An object, mapped shared: stores and calls see the same. A file is one too, made by `Vm::open_file` of what the
    // kernel's file system implements: `rumpvm::platform::File`.
    let object = vm.shared_memory(PAGE_SIZE)?;
    vm.write_object(&object, 0, b"abc")?;
    let backing = Backing::Object(&object);
    let page = parent.space.mmap(vm, VirtAddr(0), PAGE_SIZE, rw, MapFlags::SHARED, backing, 0)?;
    parent.store(page, parent.load(page)?.to_ascii_uppercase())?;
    let mut bytes = [0; 3];
    vm.read_object(&object, 0, &mut bytes)?;
    assert_eq!(&bytes, b"Abc");
    vm.close(&object)?;
    println!("object: {}", String::from_utf8_lossy(&bytes));

    // Where nothing is mapped, the kernel is told which signal the program gets.
    let error = parent.load(VirtAddr(8)).expect_err("nothing is mapped there");
    println!("wild: {error}, signal {}", error.signal().number());

    // A second CPU runs the parent too, until this one takes the memory away and its TLB is flushed.
    let is_up = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let second = scope.spawn(|| {
            parent.switch_to();
            let end = loop {
                match parent.load(at) {
                    Ok(value) => assert_eq!(value, 42),
                    Err(error) => break error,
                }
                is_up.store(true, Ordering::Release);
            };
            vm.deactivate();
            end
        });
        while !is_up.load(Ordering::Acquire) {
            thread::yield_now();
        }
        parent.space.munmap(vm, at, 1 << 20).map(|()| second.join())
    })?;
    println!(
        "two CPUs: {}; {} flush from CPU to CPU",
        seen.unwrap(),
        vm.statistics().flushes_remote
    );
    assert_eq!(vm.statistics().flushes_remote, 1);

    // Everything goes, and everything is recounted.
    vm.deactivate();
    [parent, child].iter().for_each(|program| vm.leave_space(&program.space));
    vm.check().map_err(|broken| broken.to_string())?;
    let now = vm.statistics();
    assert_eq!((now.tables_made, now.nodes_made), (now.tables_freed, now.nodes_freed));
    println!("check: passed; {} of {} pages free", now.frames_free, now.frames_total);
    Ok(())
}

#[test]
fn the_example_finds_everything_as_it_says() {
    main().unwrap();
}
