//! A virtual-memory subsystem that can be linked: BSD-style VM and pmap for kernels, unikernels and hypervisors that have
//! none.
//!
//! A host implements [`platform::Platform`] (seven functions), makes a [`Vm`], gives it memory, and hands it page faults; it
//! gets address spaces with Linux's calls: [`guide`] says how, in seven steps.
//!
//! | layer | what a host uses | module |
//! |---|---|---|
//! | frames | physical memory, by frame and run | [`phys`] |
//! | page tables | reverse mappings, shootdown, shared tables | [`pmap`] |
//! | the same, under a host's own map | pmap(9) of BSD and Mach | [`classic`] |
//! | private memory, objects | copy-on-write trees, files and their pagers | [`amap`], [`object`] |
//! | maps, faults | `mmap` and its family | [`map`], [`fault`] |
//! | spaces | what a program sees, and who uses it | [`space`] |
//! | processes | fork, exec, exit, wait | [`process`] |
//!
//! Nothing is global: everything hangs on a [`Vm`], and a thousand of them fit in one process. Running out of memory is an
//! error value; a panic ([`platform::Platform::panic`]) means that an invariant of the component broke, and says which.
#![no_std]

extern crate alloc;

pub mod amap;
pub mod check;
pub mod classic;
mod error;
pub mod fault;
pub mod guide;
pub mod kmem;
pub mod map;
pub mod object;
pub mod phys;
pub mod pmap;
pub mod process;
pub mod promise;
pub mod radix;
pub mod shm;
pub mod space;
pub mod stats;
pub mod sync;
mod vm;
pub mod zone;

/// Addresses, page-table formats and entries: what a host's own code for page tables speaks.
pub use rumpvm_arch as arch;
/// The hypercalls: what a host implements.
pub use rumpvm_platform as platform;

pub use check::Broken;
pub use error::{CallError, FaultError, NoMemory, Signal};
pub use map::{
    Area, AreaFlags, Backing, Direction, Inheritance, Layout, Limits, LockAllFlags, LockFlags,
    MapFlags, ProtFlags, Randomness, RemapFlags, Reserve, Store, SyncFlags,
};
pub use object::{MemoryFlags, Object, Seals};
pub use phys::AddMemoryError;
pub use process::{Orphans, Pid, Process, State, WaitFor};
pub use promise::{CommitPolicy, Overcommit};
pub use space::{Advised, BeyondEnd, Space};
pub use stats::{Event, Statistics};
pub use sync::Hold;
pub use vm::Vm;
