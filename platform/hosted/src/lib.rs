//! The hosted home: a pretend x86 machine inside an ordinary process.
//!
//! Reading order: `hosted` (what the component sees), `access` -> `tlb` -> `walk` (a load or store, as
//! hardware does it), `scheduler` -> `thread` -> `sleepers` (who runs), `outcome` (how it all ends).
//!
//! Flow:  closure -> thread (coroutine) -> load or store -> TLB -> page tables in the arena -> bytes.
//! Locks: TLBs, mailboxes and sleep queues have one each; only a sleep queue's may be held when
//!        another is taken, and never across a switch of threads.
//! Sleep: `Seam::sleep` parks the thread that calls; its CPU goes on with another one.
//! Owns:  the arena, one host thread per CPU, and the stacks of the threads.
//!
//! H1. A thread stays on the CPU where it was born, so a host thread runs it all its life.
//! H2. A CPU uses only translations that it walked itself, and keeps them until told otherwise.
//! H3. A frame that is freed while some CPU can still reach it is found at that CPU's next access.
//! H4. Whatever goes wrong stops every CPU, and comes out of [`Hosted::run`] as a panic.
mod access;
mod arena;
mod copy;
mod cpu;
pub mod explored;
mod fences;
mod file;
mod freed;
mod hardware;
mod here;
mod hosted;
mod kernel_half;
mod machine;
mod memory_file;
mod outcome;
mod scheduler;
mod sleepers;
#[cfg(test)]
mod tests;
mod thread;
mod tlb;
mod verify;
mod walk;

pub use file::HostFile;
pub use hosted::{Hosted, Power};
pub use machine::Upcalls;
pub use memory_file::MemoryFile;
