//! One step, carried out by the host's kernel.
//!
//! Flow:  [`Op`] -> one system call or one access -> [`Outcome`].
//!
//! What a program says is done whatever it is: its addresses are kept in a window that nothing else of the process
//! is near, and lengths that reach beyond are such that the kernel refuses them. The generator and the shrinker
//! see to that; a program from a file is at its author's risk, which is that of a process of its own.

use crate::differ::{Call, DONTNEED, FREE, NO_OBJECT, Op, Outcome, SEEN_BASE, SEEN_END};

use super::{kernel, probe};

/// Carries out a step that is neither about processes nor a look. `files` are the objects.
pub(super) fn perform(op: &Op, files: [u64; 2]) -> Outcome {
    let [a, b, c, d, e, f] = op.arguments;
    let file = |object: u64| files.get(object as usize).copied().unwrap_or(NO_OBJECT);
    match op.call {
        Call::Mmap => placed(call(libc::SYS_mmap, [a, b, c, d, file(e), f]), b),
        Call::Munmap => call(libc::SYS_munmap, [a, b, 0, 0, 0, 0]),
        Call::Mprotect => call(libc::SYS_mprotect, [a, b, c, 0, 0, 0]),
        Call::Mremap => placed(call(libc::SYS_mremap, [a, b, c, d, e, 0]), c),
        Call::Madvise => match call(libc::SYS_madvise, [a, b, c, 0, 0, 0]) {
            Outcome::Done(_) if c as i32 == FREE => {
                call(libc::SYS_madvise, [a, b, DONTNEED as u64, 0, 0, 0])
            }
            other => other,
        },
        Call::Msync => call(libc::SYS_msync, [a, b, c, 0, 0, 0]),
        Call::Mincore => mincore(a, b),
        Call::Mlock => call(libc::SYS_mlock, [a, b, 0, 0, 0, 0]),
        Call::Mlock2 => call(libc::SYS_mlock2, [a, b, c, 0, 0, 0]),
        Call::Munlock => call(libc::SYS_munlock, [a, b, 0, 0, 0, 0]),
        Call::Mlockall => call(libc::SYS_mlockall, [a, 0, 0, 0, 0, 0]),
        Call::Munlockall => call(libc::SYS_munlockall, [0; 6]),
        Call::RemapFilePages => call(libc::SYS_remap_file_pages, [a, b, c, d, e, 0]),
        Call::Truncate => call(libc::SYS_ftruncate, [file(a), b, 0, 0, 0, 0]),
        Call::Load => probe::load(a),
        // SAFETY: the address is of the window, which Rust knows nothing of.
        Call::Store => unsafe { probe::store(a, b) },
        Call::Fetch => match probe::load(a) {
            // SAFETY: what lies at the place of fetches is `NOP` or zeros (`STORED`, `FETCHED`).
            Outcome::Done(_) => unsafe { probe::fetch(a) },
            denied => denied,
        },
        Call::Fork | Call::Exit | Call::Look => Outcome::Unreached,
    }
}

fn call(number: i64, arguments: [u64; 6]) -> Outcome {
    // SAFETY: what the call does is done to the window, or refused.
    match unsafe { kernel::call(number, arguments) } {
        Ok(value) => Outcome::Done(value),
        Err(errno) => Outcome::Refused(errno),
    }
}

/// Where a mapping of `length` bytes is now. If the kernel chose the place, it goes again.
fn placed(outcome: Outcome, length: u64) -> Outcome {
    match outcome {
        Outcome::Done(at) if !(SEEN_BASE..SEEN_END).contains(&at) => {
            call(libc::SYS_munmap, [at, length, 0, 0, 0, 0]);
            Outcome::Elsewhere
        }
        other => other,
    }
}

fn mincore(at: u64, length: u64) -> Outcome {
    // More pages than any mapping in the window has; a longer range has a hole, and the kernel stops there.
    let mut vector = [0u8; 4096];
    call(libc::SYS_mincore, [at, length, vector.as_mut_ptr() as u64, 0, 0, 0])
}
