//! A VM for your kernel in seven steps, for a host in Rust. (For one in C: `platform/foreign/GUIDE.md`.)
//!
//! You need: page tables of x86 (what [`Format`](crate::arch::Format) says: four or five levels, or i386's two forms); all RAM
//! that you give mapped readable and writable at one distance from its physical address, a *direct map*; an allocator for
//! small records; and 16 KiB of stack wherever you call, interrupts that come meanwhile not counted (calls have been seen to
//! take 5 in a release build). The whole of what follows, in a pretend machine that runs anywhere, is
//! `examples/host.rs`: `cargo run -p rumpvm --example host`.
//!
//! # 1. Depend
//!
//! ```toml
//! [dependencies]
//! rumpvm = { path = "../rumpvm/rumpvm" }  # a clone, beside your kernel;
//!                         # re-exports the hypercalls (rumpvm::platform) and x86's tables (rumpvm::arch)
//!
//! [profile.release]
//! panic = "abort"         # a panic of rumpvm is a broken invariant: there is nothing to unwind to
//! ```
//!
//! The crate is `no_std` and needs `alloc`. Want of memory is an error value everywhere, so the allocator may well return null.
//! If your kernel has no `#[global_allocator]`, begin with `phys::BootHeap` (feature `boot-heap`), over any bytes that you have.
//! Once there is memory (step 3), [`kmem::HostHeap`](crate::kmem::HostHeap) is faster, and on frames. What the first had
//! handed out until then goes back to it; addresses tell which is which:
//!
//! ```standalone_crate
//! use core::alloc::{GlobalAlloc, Layout};
//! use core::ptr::{NonNull, addr_of_mut};
//! use core::sync::atomic::{AtomicBool, Ordering};
//! use std::sync::OnceLock; // or any cell of yours that is filled once, such as `spin::Once`
//!
//! use rumpvm::{Vm, arch::PhysAddr, kmem::HostHeap, phys::BootHeap};
//! # use rumpvm::arch::{Frame, VirtRange, X86_64Lower};
//! # use rumpvm::platform::{CpuId, Platform, Seam, ThreadLocal};
//! # thread_local! {
//! #     static THREAD: ThreadLocal = const { ThreadLocal::new(1) };
//! # }
//! # #[repr(C, align(4096))]
//! # struct Ram([u8; 16 << 20]);
//! # static mut RAM: Ram = Ram([0; 16 << 20]);
//! # struct Kernel;
//! # impl Seam for Kernel {
//! #     fn cpu_id() -> CpuId {
//! #         CpuId(0)
//! #     }
//! #     fn thread() -> Option<NonNull<ThreadLocal>> {
//! #         Some(THREAD.with(|thread| NonNull::from(thread)))
//! #     }
//! # }
//! # impl Platform for Kernel {
//! #     type Format = X86_64Lower;
//! #     fn phys_to_virt(&self, at: PhysAddr) -> NonNull<u8> {
//! #         NonNull::new(addr_of_mut!(RAM).cast::<u8>().wrapping_add(at.0 as usize)).unwrap()
//! #     }
//! #     fn virt_to_phys(&self, at: NonNull<u8>) -> PhysAddr {
//! #         PhysAddr((at.as_ptr().addr() - addr_of_mut!(RAM).addr()) as u64)
//! #     }
//! #     fn tlb_activate(&self, _: Option<Frame>) {}
//! #     fn tlb_invalidate(&self, _: VirtRange) {}
//! #     fn panic(&self, story: &str) -> ! {
//! #         panic!("{story}")
//! #     }
//! # }
//!
//! const BYTES: usize = 1 << 20;
//! static mut MEMORY: [u8; BYTES] = [0; BYTES];
//!
//! static BOOT: BootHeap<Kernel> = BootHeap::new(); // `Kernel` is of step 2
//! static VM: OnceLock<Vm<Kernel>> = OnceLock::new();
//! static HOST: OnceLock<HostHeap<Kernel>> = OnceLock::new();
//! static CHECKING: AtomicBool = AtomicBool::new(false);
//!
//! #[global_allocator]
//! static HEAP: Heap = Heap;
//! struct Heap;
//!
//! // SAFETY: both hand out disjoint blocks, and each gets back its own.
//! unsafe impl GlobalAlloc for Heap {
//!     unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
//! #       begin();
//!         match HOST.get() {
//!             Some(host) if !CHECKING.load(Ordering::Relaxed) => unsafe { host.alloc(layout) },
//!             _ => unsafe { BOOT.alloc(layout) },
//!         }
//!     }
//!     unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
//!         let is_early = block.addr().wrapping_sub(addr_of_mut!(MEMORY).addr()) < BYTES;
//!         match HOST.get() {
//!             Some(host) if !is_early => unsafe { host.dealloc(block, layout) },
//!             _ => unsafe { BOOT.dealloc(block, layout) },
//!         }
//!     }
//! }
//!
//! /// The first thing that your kernel does.
//! fn begin() {
//! #   static BEGUN: AtomicBool = AtomicBool::new(false);
//! #   if BEGUN.swap(true, Ordering::Relaxed) {
//! #       return;
//! #   }
//!     let start = NonNull::new(addr_of_mut!(MEMORY).cast()).unwrap();
//!     // SAFETY: the bytes are nobody else's, and this is called once.
//!     unsafe { BOOT.add(start, BYTES) };
//! }
//!
//! /// Steps 2 and 3.
//! fn memory(start: PhysAddr, end: PhysAddr) -> Result<(), Box<dyn core::error::Error>> {
//!     let vm = Vm::new(Kernel)?;
//!     vm.add_memory(start, end)?;
//!     let vm = VM.get_or_init(|| vm);
//!     let host = HostHeap::try_new(&vm.mmu.phys)?;
//!     HOST.get_or_init(|| host);
//!     Ok(())
//! }
//!
//! /// `Vm::check` (step 6) notes what it counts, and frames are among that, so its notes cannot be on frames.
//! fn check() {
//!     CHECKING.store(true, Ordering::Relaxed);
//!     VM.get().unwrap().check().unwrap();
//!     CHECKING.store(false, Ordering::Relaxed);
//! }
//! #
//! # fn main() {
//! #     let early = vec![1u8; 1000];
//! #     let used = BOOT.usage().1;
//! #     assert!(used >= 1000);
//! #     memory(PhysAddr(0), PhysAddr(16 << 20)).unwrap();
//! #     let (vm, before) = (VM.get().unwrap(), HOST.get().unwrap().heap().usage().blocks);
//! #     let late = vec![2u8; 1000];
//! #     assert_eq!(HOST.get().unwrap().heap().usage().blocks, before + 1);
//! #     let had = BOOT.usage().1;
//! #     drop(early);
//! #     assert!(BOOT.usage().1 + 1000 <= had, "it went back to where it came from");
//! #     let space = vm.new_space().unwrap();
//! #     assert!(HOST.get().unwrap().heap().usage().blocks > before + 1, "records are on frames");
//! #     vm.leave_space(&space);
//! #     drop((space, late));
//! #     while vm.idle() {}
//! #     check();
//! # }
//! ```
//!
//! For many items of one size there is [`zone::Zone`](crate::zone::Zone).
//!
//! # 2. The hypercalls
//!
//! ```no_run
//! use core::ptr::NonNull;
//! use rumpvm::arch::{Frame, PhysAddr, VirtRange, X86_64Lower};
//! use rumpvm::platform::{CpuId, Platform, Seam, ThreadLocal};
//!
//! const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
//! # fn my_cpu_number() -> u32 { 0 }
//! # fn my_thread() -> NonNull<ThreadLocal> { NonNull::dangling() }
//! # fn load_root(_: Option<u64>) {}
//! # fn invalidate(_: u64) {}
//!
//! struct Kernel;
//!
//! impl Seam for Kernel {
//!     fn cpu_id() -> CpuId {
//!         CpuId(my_cpu_number())
//!     }
//!     /// There is one in each thread; while you have no threads, one for each CPU.
//!     fn thread() -> Option<NonNull<ThreadLocal>> {
//!         Some(my_thread())
//!     }
//! }
//!
//! impl Platform for Kernel {
//!     /// Your kernel is in the upper half of every root table, and rumpvm has the lower one.
//!     type Format = X86_64Lower;
//!
//!     fn phys_to_virt(&self, at: PhysAddr) -> NonNull<u8> {
//!         NonNull::new((DIRECT_MAP + at.0) as *mut u8).unwrap()
//!     }
//!     fn virt_to_phys(&self, at: NonNull<u8>) -> PhysAddr {
//!         PhysAddr(at.as_ptr() as u64 - DIRECT_MAP)
//!     }
//!     /// Copies your half into the root, and loads CR3 with it; with no root, your own.
//!     fn tlb_activate(&self, root: Option<Frame>) {
//!         load_root(root.map(|frame| frame.start().0));
//!     }
//!     fn tlb_invalidate(&self, range: VirtRange) {
//!         (0..range.pages()).for_each(|page| invalidate(range.start.0 + page * 4096));
//!     }
//!     fn panic(&self, story: &str) -> ! {
//!         panic!("{story}")
//!     }
//! }
//! ```
//!
//! *Traps.* `cpu_id` is called from the first call on: it must work before your per-CPU state is there. `thread` may be left out
//! only by who has neither processes, files nor the check: a call of those panics without. A kernel that is
//! interrupted masks interrupts in [`Seam::intr_save`](crate::platform::Seam::intr_save); one that is preempted anywhere
//! gives `hold_cpu` and `release_cpu`, its preempt count. For more than a few pages a load of CR3 is cheaper than `invlpg`.
//!
//! # 3. Memory
//!
//! ```no_run
//! # use rumpvm::{Vm, platform::Platform, arch::PhysAddr};
//! # fn step<K: Platform>(kernel: K, ranges: &[(u64, u64)]) -> Result<(), Box<dyn std::error::Error>> {
//! let vm = Vm::new(kernel)?;
//! for &(start, end) in ranges {
//!     vm.add_memory(PhysAddr(start), PhysAddr(end))?;
//! }
//! # Ok(()) }
//! ```
//!
//! Any number of times, also later; for good. Not your image, not tables that you still read, not memory that a device writes
//! to. The `Vm` is a value: keep it in a `static`, or have several.
//!
//! # 4. A space
//!
//! ```no_run
//! # use rumpvm::{Vm, platform::Platform, Backing, MapFlags};
//! # use rumpvm::arch::{Prot, VirtAddr};
//! # fn step<K: Platform>(vm: &Vm<K>, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//! let space = vm.new_space()?;
//! let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
//! let at = VirtAddr(0x40_0000);
//! space.mmap(vm, at, 1 << 20, Prot::RW, flags, Backing::Anonymous, 0)?;
//! space.copy_out(vm, at, bytes)?;
//! space.mprotect(vm, at, 1 << 20, Prot::READ | Prot::EXEC)?;
//! # Ok(()) }
//! ```
//!
//! All calls are Linux's, with its results; what they refuse is a [`CallError`](crate::CallError), whose `errno` is Linux's
//! number. Nothing of this needs the space to be active, and none of it faults: copies go through the direct map.
//!
//! # 5. Faults
//!
//! ```no_run
//! # use rumpvm::{Vm, Space, Signal, platform::Platform};
//! # use rumpvm::arch::{PageFault, VirtAddr};
//! /// Vector 14; `at` is CR2, `code` what the CPU pushed. `None`: go on with the program.
//! fn page_fault<K: Platform>(vm: &Vm<K>, space: &Space<K>, at: u64, code: u32) -> Option<Signal> {
//!     assert!(code & 4 != 0, "the kernel itself faults at {at:#x}"); // a bug of yours, and no program's
//!     let fault = PageFault::decode(VirtAddr(at), code).expect("a reserved bit is set in a table");
//!     vm.fault(space, fault.at, fault.access).err().map(|error| error.signal())
//! }
//! ```
//!
//! *Traps.* Let vector 14 be an interrupt gate, read CR2, and only then let interrupts on, if the program had them on. Your own
//! code must not fault on user addresses: use `copy_in` and `copy_out` of the space, whose error is your `EFAULT`. Before a program of the space runs, `vm.activate(&space)`.
//!
//! # 6. Fork, and the end
//!
//! ```no_run
//! # use rumpvm::{Vm, Space, Hold, platform::Platform};
//! # fn step<K: Platform>(vm: &Vm<K>, parent: &Space<K>) -> Result<(), Box<dyn std::error::Error>> {
//! let child = vm.fork_space(parent)?; // a thousand entries for a gibibyte: page tables are shared too
//! vm.leave_space(&child); // at exit; also while a CPU still translates through it
//! vm.check().map_err(|broken| broken.to_string())?; // in tests, at a quiet moment
//! # Ok(()) }
//! ```
//!
//! A kernel with processes of its own needs no more. One without has them in [`process`](crate::process): fork, vfork, exec,
//! exit, wait, with parents and orphans.
//!
//! # 7. More CPUs, threads, files
//!
//! | you have | give |
//! |---|---|
//! | several CPUs | `cpu_count`; `tlb_ipi`, whose interrupt calls [`Vm::tlb_interrupt`](crate::Vm::tlb_interrupt); `relax`, which calls it when it is due |
//! | threads that sleep | `thread` (a [`ThreadLocal`](crate::platform::ThreadLocal) in each, no more one for each CPU), `sleep`, `wakeup`: a futex |
//! | files | [`File`](crate::platform::File) for what your file system has, mapped by [`Vm::open_file`](crate::Vm::open_file) |
//! | time to spare | [`Vm::idle`](crate::Vm::idle) where you would halt, until it returns `false` |
//!
//! *Traps.* A CPU that waits in rumpvm serves flushes by itself; one that spins for a lock of *yours* with interrupts off
//! does not, and if its holder waits in rumpvm for that CPU, both wait for ever: hold no spin lock when you call. In debug
//! builds a [`Witness`](crate::platform::Witness) in your `lock_step` checks the order of all locks.
//!
//! # Only a part of it
//!
//! Nothing asks for a `Vm`: what is below it can be had alone, and what you do not call is not linked.
//!
//! | you want | take |
//! |---|---|
//! | a page allocator | [`Mmu::try_new`](crate::pmap::Mmu::try_new), and of its [`phys`](crate::phys::Phys) `add_memory`, `take_frame`, `take_frames`, `give_back` |
//! | page tables under a map and a pager of your own | [`classic::Pmaps`](crate::classic::Pmaps), with the interface of pmap(9) |
//! | kernel memory in a row, wired or filled on first touch, with guard pages, in submaps | [`Mmu::open_window`](crate::pmap::Mmu::open_window), then [`kmem::KernelMap`](crate::kmem::KernelMap) |
//! | numbers or addresses of any kind, handed out | [`kmem::Arena`](crate::kmem::Arena) |
//! | an allocator, caches of items | [`kmem::HostHeap`](crate::kmem::HostHeap), [`zone::Zone`](crate::zone::Zone) |
//!
//! `Vm` and `Pmaps` deref down to the same [`Mmu`](crate::pmap::Mmu) (`vm.mmu`), so the rest goes with either.
//!
//! *Traps.* A CPU that uses the window says so before, by [`Mmu::attach_cpu`](crate::pmap::Mmu::attach_cpu) or by activating a
//! space, so that flushes reach it. Open the window before a root is loaded, as its links go into tables of yours. If a page
//! allocator of your own stays, give rumpvm a part of RAM for good: it never asks for more.
