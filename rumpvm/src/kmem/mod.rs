//! Kernel memory: arenas, and a heap for a kernel that has none.
//!
//! | file | what |
//! |---|---|
//! | `arena` | ranges of anything, handed out in multiples of a quantum, with caches for small multiples |
//! | `segments`, `tag` | an arena's boundary tags, free lists and table |
//! | `source` | where an arena's spans come from: frames of the direct map, another arena |
//! | `map` | memory in a row in the window of kernel addresses: wired, or filled on first touch; guard pages; submaps |
//! | `heap` | memory of any size: zones up to a page, an arena above |
//! | `global` | the same as Rust's `GlobalAlloc` |
//!
//! Nothing here asks the heap of the host for anything but when it is made, so the heap of a host can be made of it.

mod arena;
mod global;
mod heap;
mod map;
mod segments;
mod source;
mod tag;

use core::ptr::{self, NonNull};

pub use arena::{Arena, ArenaSpec, ArenaUsage, Fit, MAX_CACHES};
pub use global::HostHeap;
pub use heap::{HeapUsage, KernelHeap};
pub use map::{Backing, Guards, KernelMap, MapError};
pub use source::{Direct, Source};
pub use tag::Span;

/// The pointer that an address of the direct map was made of.
fn pointer(address: u64) -> NonNull<u8> {
    let at = ptr::with_exposed_provenance_mut(address as usize);
    NonNull::new(at).unwrap_or(NonNull::dangling())
}
