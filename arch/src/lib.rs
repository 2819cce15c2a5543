//! What the x86 family fixes: addresses, rights, page-table formats, and what a page-fault code means.
//!
//! Flow:  `VirtAddr` -> [`Format`] geometry -> table index -> [`Pte`] -> `Frame`.
//! Owns:  nothing. Everything here is a value; `core` only, usable without the rest of rumpvm.
#![no_std]

mod addr;
mod format;
mod i386;
mod prot;
mod trap;
mod x86_64;

pub use addr::{Frame, PAGE_SHIFT, PAGE_SIZE, PhysAddr, VirtAddr, VirtRange};
pub use format::{Format, Pte, entries, index, kernel_half, span};
pub use i386::{I386, Pae};
pub use prot::{Access, Prot};
pub use trap::PageFault;
pub use x86_64::{X86_64, X86_64La57, X86_64Lower};
