//! A VM for your kernel in seven steps, for a host in Rust. (For one in C: `platform/foreign/GUIDE.md`.)
//!
//! You need: page tables of x86 (what [`Format`](crate::arch::Format) says: four or five levels, or i386's two forms); all RAM
//! that you give mapped readable and writable at one distance from its physical address, a *direct map*; and an
//! allocator for small records. The whole of what follows, in a pretend machine that runs anywhere, is
//! `examples/host.rs`: `cargo run -p rumpvm --example host`.
//!
//! # 1. Depend
//!
//! ```toml
//! [dependencies]
//! rumpvm = "0.1"          # re-exports the hypercalls (rumpvm::platform) and x86's tables (rumpvm::arch)
//!
//! [profile.release]
//! panic = "abort"         # a panic of rumpvm is a broken invariant: there is nothing to unwind to
//! ```
//!
//! The crate is `no_std` and needs `alloc`. If your kernel has no `#[global_allocator]`, `phys::BootHeap` (feature
//! `boot-heap`) is one, over any bytes that you have. Want of memory is an error value everywhere, so the allocator may well
//! return null. Once there is memory, [`kmem::HostHeap`](crate::kmem::HostHeap) is a better one, on frames; keep the first for
//! what it had handed out until then. [`zone::Zone`](crate::zone::Zone) is for many items of one size.
//!
//! # 2. The hypercalls
//!
//! ```no_run
//! use core::ptr::NonNull;
//! use rumpvm::arch::{Frame, PhysAddr, VirtRange, X86_64Lower};
//! use rumpvm::platform::{CpuId, Platform, Seam};
//!
//! const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
//! # fn my_cpu_number() -> u32 { 0 }
//! # fn load_root(_: Option<u64>) {}
//! # fn invalidate(_: u64) {}
//!
//! struct Kernel;
//!
//! impl Seam for Kernel {
//!     fn cpu_id() -> CpuId {
//!         CpuId(my_cpu_number())
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
//! *Traps.* `cpu_id` is called from the first call on: it must work before your per-CPU state is there. A kernel that is
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
//!     let fault = PageFault::decode(VirtAddr(at), code).expect("a reserved bit is set in a table");
//!     vm.fault(space, fault.at, fault.access).err().map(|error| error.signal())
//! }
//! ```
//!
//! *Traps.* Read CR2 before interrupts come on. Your own code must not fault on user addresses: use `copy_in` and `copy_out` of
//! the space, whose error is your `EFAULT`. Before a program of the space runs, `vm.activate(&space)`.
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
//! | threads that sleep | `thread` (a [`ThreadLocal`](crate::platform::ThreadLocal) in each), `sleep`, `wakeup`: a futex |
//! | files | [`File`](crate::platform::File) for what your file system has, mapped by [`Vm::open_file`](crate::Vm::open_file) |
//! | time to spare | [`Vm::idle`](crate::Vm::idle) where you would halt, until it returns `false` |
//!
//! *Traps.* A CPU that waits in rumpvm serves flushes by itself; one that spins for a lock of *yours* with interrupts off
//! does not, and if its holder waits in rumpvm for that CPU, both wait for ever: hold no spin lock when you call. In debug
//! builds a [`Witness`](crate::platform::Witness) in your `lock_step` checks the order of all locks.
