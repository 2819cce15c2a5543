//! 64-bit words that CPUs share.
//!
//! Where a CPU has such words they are core's. On i386 compilers load and store those whole through the FPU (`fild`,
//! `fistp`), whose registers are a program's while its kernel runs. `cmpxchg8b` needs none; here all come down to it.

#[cfg(any(test, target_arch = "x86"))]
#[cfg_attr(not(target_arch = "x86"), allow(unreachable_pub, reason = "it is public on i386"))]
mod exchanged;

#[cfg(not(target_arch = "x86"))]
pub use core::sync::atomic::AtomicU64;
#[cfg(target_arch = "x86")]
pub use exchanged::AtomicU64;
