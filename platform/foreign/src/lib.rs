//! The foreign home: somebody else's kernel, in any language, that gives memory and a few hypercalls and gets a
//! virtual-memory subsystem. `rumpvm.h` is made of what is here; `rumpvm lib` packs it into one object.
//!
//! Reading order: `hypercalls` (what a host gives), `home` (what the component sees of it), `machine` (init, memory,
//! CPUs), `space` -> `map` -> `object` -> `access` -> `kmem` (what a host calls).
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
mod cpu;
mod errno;
mod handles;
mod heap;
mod home;
mod hypercalls;
mod kmem;
mod lock;
mod machine;
mod map;
mod object;
mod pager;
mod space;
#[cfg(all(feature = "standalone", target_os = "none"))]
mod standalone;
mod statistics;
mod text;
mod thread;

pub use access::*;
pub use errno::*;
pub use home::Foreign;
pub use hypercalls::*;
pub use kmem::*;
pub use machine::*;
pub use map::*;
pub use object::*;
pub use pager::Pager;
pub use space::*;
pub use statistics::*;
pub use thread::*;
