//! One step, carried out by the host's kernel.
//!
//! Flow:  [`Op`] -> one system call or one access -> [`Outcome`].
//!
//! What a program says is done whatever it is: its addresses are kept in a window that nothing else of the process
//! is near, and lengths that reach beyond are such that the kernel refuses them. The generator and the shrinker
//! see to that; a program from a file is at its author's risk, which is that of a process of its own.

use std::sync::atomic::Ordering;

use crate::differ::{
    Call, DONTNEED, FREE, LIMIT_AREAS, LIMIT_MAPPED, MEMORY, NO_OBJECT, Op, Outcome, SEEN_BASE,
    SEEN_END,
};

use super::shared::Shared;
use super::{crowd, kernel, probe, segments};

/// Carries out a step that is neither about processes nor a look. `files` are the objects.
pub(super) fn perform(shared: &Shared, op: &Op, files: [u64; 2]) -> Outcome {
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
        Call::AddSeals => {
            let add = libc::F_ADD_SEALS as u64;
            call(libc::SYS_fcntl, [file(MEMORY), add, a, 0, 0, 0])
        }
        Call::Fallocate => call(libc::SYS_fallocate, [file(MEMORY), a, b, c, 0, 0]),
        Call::Limit if a == LIMIT_AREAS => crowd::leave(b),
        Call::Limit => limit(a, b),
        Call::ProcessMadvise => {
            let pid = shared.pids.get(f as usize).map_or(0, |pid| pid.load(Ordering::Relaxed));
            process_madvise(pid.into(), [a, b, c, d], e)
        }
        Call::Brk => call(libc::SYS_brk, [a, 0, 0, 0, 0, 0]),
        Call::Shmget => segments::get(shared, [a, b, c, d]),
        Call::Shmat => match segments::attach(shared, [a, b, c]) {
            Ok(at) if !(SEEN_BASE..SEEN_END).contains(&at) => match segments::detach(at) {
                Outcome::Done(_) => Outcome::Elsewhere,
                other => other,
            },
            Ok(at) => Outcome::Done(at),
            Err(errno) => Outcome::Refused(errno),
        },
        Call::Shmdt => segments::detach(a),
        Call::Shmctl => segments::control(shared, [a, b, c]),
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

/// The limit is put so many bytes above what the process has now.
fn limit(which: u64, more: u64) -> Outcome {
    let mut text = [0; 4096];
    let counted = kernel::open(c"/proc/self/status").and_then(|file| {
        let read = kernel::read(file, &mut text, None);
        kernel::close(file);
        read
    });
    let length = match counted {
        Ok(length) => length,
        Err(errno) => return Outcome::Refused(errno),
    };
    let (which, name): (_, &[u8]) = match which {
        LIMIT_MAPPED => (libc::RLIMIT_AS, b"VmSize:"),
        _ => (libc::RLIMIT_DATA, b"VmData:"),
    };
    let mut lines = text[..length].split(|byte| *byte == b'\n');
    let Some(line) = lines.find_map(|line| line.strip_prefix(name)) else {
        return Outcome::Refused(libc::EIO);
    };
    let digits = line.iter().filter(|byte| byte.is_ascii_digit());
    let kib = digits.fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
    let both = [(kib << 10).saturating_add(more), u64::MAX];
    call(libc::SYS_prlimit64, [0, u64::from(which), both.as_ptr() as u64, 0, 0, 0])
}

fn process_madvise(pid: u64, ranges: [u64; 4], advice: u64) -> Outcome {
    // SAFETY: this process gets a descriptor of one of the program's, and closes it.
    match unsafe { kernel::short(libc::SYS_pidfd_open, pid, 0, 0) } {
        Ok(process) => {
            let vector = ranges.as_ptr() as u64;
            let outcome = call(libc::SYS_process_madvise, [process, vector, 2, advice, 0, 0]);
            kernel::close(process);
            outcome
        }
        Err(errno) => Outcome::Refused(errno),
    }
}

fn mincore(at: u64, length: u64) -> Outcome {
    // More pages than any mapping in the window has; a longer range has a hole, and the kernel stops there.
    let mut vector = [0u8; 4096];
    call(libc::SYS_mincore, [at, length, vector.as_mut_ptr() as u64, 0, 0, 0])
}
