//! The foreign home: somebody else's kernel, in any language, that gives memory and a few hypercalls and gets a
//! virtual-memory subsystem. `rumpvm.h` is made of what is here; `rumpvm lib` packs it into one object.
//!
//! Reading order: `hypercalls` (what a host gives), `home` (what the component sees of it), `machine` (init, memory,
//! CPUs), `format` (which page tables), `space` -> `map` -> `object` -> `access` (what a host calls), `process` -> `family`
//! (for hosts without processes of their own), `kmem` (for hosts without an allocator).
//!
//! Flow:  host -> `rumpvm_*` -> `handles` -> `Vm` -> `home` -> host's hypercalls.
//! Locks: its own spin locks (`lock`), each for a few instructions; none is held when component or host is called.
//! Owns:  the one machine, and of the memory that it was given what its heap took.
//!
//! Numbers that come from the host are checked once, here; behind this crate they are types. Pointers that it passes
//! are believed: a host and its VM have one address space.
#![no_std]

extern crate alloc;

mod access;
mod areas;
mod cpu;
mod directories;
mod errno;
mod family;
mod format;
mod handles;
mod heap;
mod home;
mod hypercalls;
mod kmem;
mod layout;
mod limits;
mod linux;
mod lock;
mod machine;
mod map;
mod memory_file;
mod object;
mod pager;
mod pointers;
mod process;
#[cfg(all(feature = "standalone", target_arch = "x86"))]
mod runtime;
mod segment_control;
mod segments;
mod sharing;
mod space;
#[cfg(feature = "standalone")]
mod standalone;
mod statistics;
mod text;
mod thread;

pub use access::*;
pub use areas::*;
pub use errno::*;
pub use family::*;
pub use home::Foreign;
pub use hypercalls::*;
pub use kmem::*;
pub use layout::*;
pub use limits::*;
pub use linux::*;
pub use machine::*;
pub use map::*;
pub use memory_file::*;
pub use object::*;
pub use pager::Pager;
pub use process::*;
pub use segment_control::*;
pub use segments::*;
pub use sharing::*;
pub use space::*;
pub use statistics::*;
pub use thread::*;
