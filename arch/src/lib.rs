//! What the x86 family fixes: addresses, rights, page-table formats, shared words, the interrupt flag, and what a page-fault
//! code means.
//!
//! Flow:  `VirtAddr` -> [`Format`] geometry -> table index -> [`Pte`] -> `Frame`.
//! Owns:  nothing. Everything here is a value, a word, or a flag of the CPU; `core` only, usable without the rest of rumpvm.
#![no_std]

mod addr;
mod format;
mod i386;
mod interrupts;
mod prot;
mod trap;
mod word;
mod x86_64;

pub use addr::{Frame, PAGE_SHIFT, PAGE_SIZE, PhysAddr, VirtAddr, VirtRange};
pub use format::{Format, Pte, entries, index, kernel_half, span, user_entries};
pub use i386::{I386, Pae};
pub use interrupts::{interrupts_on, intr_restore, intr_save};
pub use prot::{Access, Prot};
pub use trap::PageFault;
pub use word::AtomicU64;
pub use x86_64::{X86_64, X86_64La57, X86_64Lower};
