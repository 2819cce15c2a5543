//! rumpvm: a virtual-memory subsystem that can be linked.
#![no_std]

extern crate alloc;

mod error;
pub mod phys;
pub mod pmap;
pub mod radix;
pub mod stats;
pub mod sync;

pub use error::NoMemory;
