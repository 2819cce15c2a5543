//! The foreign home: somebody else's kernel, in any language, that gives memory and a few hypercalls and gets a
//! virtual-memory subsystem. `rumpvm.h` is made of what is here; `rumpvm lib` packs it into one object.
//!
//! Reading order: `hypercalls` (what a host gives), `home` (what the component sees of it), `machine` (init, memory,
//! CPUs), `format` (which page tables), `layer` (what is in the library), `space` -> `map` -> `object` -> `access` (what a
//! host calls), `process` -> `family` (for hosts without processes of their own), `pmap` (for hosts with a map of their own),
//! `kmem` (for hosts without an allocator).
//!
//! Flow:  host -> `rumpvm_*` -> `handles` -> `Vm` -> `home` -> host's hypercalls.
//! Locks: its own spin locks (`lock`), each for a few instructions; none is held when component or host is called.
//! Owns:  the one machine, and of the memory that it was given what its heap took.
//!
//! Numbers that come from the host are checked once, here; behind this crate they are types. Pointers that it passes
//! are believed: a host and its VM have one address space.
#![no_std]

extern crate alloc;

#[cfg(feature = "spaces")]
mod access;
#[cfg(feature = "spaces")]
mod areas;
mod cpu;
mod directories;
mod errno;
#[cfg(feature = "processes")]
mod family;
mod format;
mod frames;
#[cfg(any(feature = "pmap", feature = "spaces"))]
mod handles;
mod heap;
mod home;
mod hypercalls;
#[cfg(feature = "kmem")]
mod kmem;
mod layer;
#[cfg(feature = "spaces")]
mod layout;
#[cfg(feature = "spaces")]
mod limits;
#[cfg(feature = "spaces")]
mod linux;
mod lock;
mod machine;
#[cfg(feature = "spaces")]
mod map;
#[cfg(feature = "spaces")]
mod memory_file;
#[cfg(feature = "spaces")]
mod object;
#[cfg(feature = "spaces")]
mod pager;
#[cfg(all(feature = "pmap", not(feature = "spaces")))]
mod pmap;
#[cfg(feature = "spaces")]
mod pointers;
#[cfg(feature = "processes")]
mod process;
#[cfg(all(feature = "standalone", target_arch = "x86"))]
mod runtime;
#[cfg(feature = "spaces")]
mod segment_control;
#[cfg(feature = "spaces")]
mod segments;
#[cfg(feature = "spaces")]
mod sharing;
#[cfg(feature = "spaces")]
mod space;
#[cfg(feature = "standalone")]
mod standalone;
mod statistics;
mod text;
mod thread;
#[cfg(feature = "window")]
mod window;

#[cfg(feature = "spaces")]
pub use access::*;
#[cfg(feature = "spaces")]
pub use areas::*;
pub use errno::*;
#[cfg(feature = "processes")]
pub use family::*;
pub use frames::*;
pub use home::Foreign;
pub use hypercalls::*;
#[cfg(feature = "kmem")]
pub use kmem::*;
#[cfg(feature = "spaces")]
pub use layout::*;
#[cfg(feature = "spaces")]
pub use limits::*;
#[cfg(feature = "spaces")]
pub use linux::*;
pub use machine::*;
#[cfg(feature = "spaces")]
pub use map::*;
#[cfg(feature = "spaces")]
pub use memory_file::*;
#[cfg(feature = "spaces")]
pub use object::*;
#[cfg(feature = "spaces")]
pub use pager::Pager;
#[cfg(all(feature = "pmap", not(feature = "spaces")))]
pub use pmap::*;
#[cfg(feature = "processes")]
pub use process::*;
#[cfg(feature = "spaces")]
pub use segment_control::*;
#[cfg(feature = "spaces")]
pub use segments::*;
#[cfg(feature = "spaces")]
pub use sharing::*;
#[cfg(feature = "spaces")]
pub use space::*;
pub use statistics::*;
pub use thread::*;
#[cfg(feature = "window")]
pub use window::*;
