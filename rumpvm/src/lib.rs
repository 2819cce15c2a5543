//! rumpvm: a virtual-memory subsystem that can be linked.
#![no_std]

extern crate alloc;

pub mod amap;
mod error;
pub mod object;
pub mod phys;
pub mod pmap;
pub mod radix;
pub mod stats;
pub mod sync;

pub use error::NoMemory;
