//! rumpvm: a virtual-memory subsystem that can be linked.
#![no_std]

extern crate alloc;

pub mod amap;
pub mod check;
mod error;
pub mod fault;
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
