//! Kernel memory: arenas, and a heap for a kernel that has none.
//!
//! | file | what |
//! |---|---|
//! | `arena` | ranges of anything, handed out in multiples of a quantum, with caches for small multiples |
//! | `spec` | what one says of an arena, and it of itself |
//! | `drain`, `notes` | what an arena gives back; what its debug build knows of a segment |
//! | `segments`, `tag` | an arena's segments and their boundary tags |
//! | `free_lists`, `table` | its free segments, by size, and those in use, by start |
//! | `source` | where an arena's spans come from: frames of the direct map, another arena |
//! | `map` | memory in a row in the window of kernel addresses: wired, or filled on first touch; guard pages; submaps |
//! | `heap` | memory of any size: zones up to a page, an arena above |
//! | `global` | the same as Rust's `GlobalAlloc` |
//!
//! Nothing here asks the heap of the host for anything but when it is made, so the heap of a host can be made of it.

mod arena;
mod drain;
mod free_lists;
mod global;
mod heap;
mod map;
mod notes;
mod segments;
mod source;
mod spec;
mod table;
mod tag;

use core::ptr::{self, NonNull};

pub use arena::Arena;
pub use global::HostHeap;
pub use heap::{HeapUsage, KernelHeap};
pub use map::{Backing, Guards, KernelMap, MapError};
pub use source::{Direct, Source};
pub use spec::{ArenaSpec, ArenaUsage, Fit, MAX_CACHES};
pub use tag::Span;

/// The pointer that an address of the direct map was made of.
fn pointer(address: u64) -> NonNull<u8> {
    let at = ptr::with_exposed_provenance_mut(address as usize);
    NonNull::new(at).unwrap_or(NonNull::dangling())
}
