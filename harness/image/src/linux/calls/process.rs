//! What concerns a process as a whole, or a thread: the end, exec, prctl, registers of threads.

use alloc::vec::Vec;

use rumpvm::sync::{Ordering, try_push};
use rumpvm_arch::{Format, VirtAddr};
use rumpvm_bare::{Bare, Kernel};
use rumpvm_files::Errno;
use rumpvm_platform::Seam;

use super::{Answer, Args, paths};
use crate::linux::thread::Thread;
use crate::linux::{end, exec};

pub(super) fn exit(thread: &mut Thread, args: Args) -> Answer {
    let process = &thread.task.process;
    let status = (args.int(0) & 0xff) << 8;
    if process.task_count() == 1 {
        process.end(status);
    } else {
        thread.task.tell_to_end();
    }
    Ok(0)
}

pub(super) fn exit_group(thread: &mut Thread, args: Args) -> Answer {
    thread.task.process.end((args.int(0) & 0xff) << 8);
    Ok(0)
}

pub(super) fn execve(thread: &mut Thread, args: Args) -> Answer {
    let path = thread.user().path(args.at(0))?;
    exec_at(thread, paths::HERE, path, args.at(1), args.at(2), 0)
}

pub(super) fn execveat(thread: &mut Thread, args: Args) -> Answer {
    let path = thread.user().path(args.at(1))?;
    exec_at(thread, args.half(0), path, args.at(2), args.at(3), args.half(4))
}

fn exec_at(
    thread: &mut Thread,
    from: u32,
    path: Vec<u8>,
    arguments: VirtAddr,
    environment: VirtAddr,
    flags: u32,
) -> Answer {
    if flags & !(paths::EMPTY_PATH | paths::NO_FOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut room = exec::MOST_BYTES;
    let mut arguments = words(thread, arguments, &mut room)?;
    let environment = words(thread, environment, &mut room)?;
    if arguments.is_empty() {
        // A program counts on its name, so it gets one that is empty.
        try_push::<_, Bare>(&mut arguments, Vec::new())?;
    }
    let words = exec::Words { arguments, environment };
    let (process, first) = (thread.task.process.clone(), exec::clone(&path)?);
    let find = move |path: &[u8]| {
        let (from, flags) = if path == first { (from, flags) } else { (paths::HERE, 0) };
        paths::find(&process, from, path, flags)
    };
    exec::exec(thread, path, words, find)?;
    // The first register of a fresh program is zero.
    Ok(0)
}

/// The words that the list at `at` points to. `room` is what all of them may still take.
fn words(thread: &Thread, at: VirtAddr, room: &mut usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut words = Vec::new();
    if at.0 == 0 {
        return Ok(words);
    }
    for number in 0.. {
        let place = thread.user().word(VirtAddr(at.0.saturating_add(8 * number)))?;
        if place == 0 {
            break;
        }
        let mut word = Vec::new();
        let read = thread.user().string(VirtAddr(place), exec::LONGEST, &mut word);
        read.map_err(|error| if error == Errno::ENAMETOOLONG { Errno::E2BIG } else { error })?;
        *room = room.checked_sub(word.len() + 1 + 8).ok_or(Errno::E2BIG)?;
        try_push::<_, Bare>(&mut words, word)?;
    }
    Ok(words)
}

pub(super) fn arch_prctl(thread: &mut Thread, args: Args) -> Answer {
    const SET_GS: u32 = 0x1001;
    const SET_FS: u32 = 0x1002;
    const GET_FS: u32 = 0x1003;
    const GET_GS: u32 = 0x1004;
    let at = args.at(1);
    match args.half(0) {
        SET_FS | SET_GS if at >= Kernel::USER_END => return Err(Errno::EPERM),
        SET_FS => thread.program.set_fs(at),
        SET_GS => thread.program.set_gs(at),
        GET_FS => thread.user().put_words(at, &[thread.program.fs()])?,
        GET_GS => thread.user().put_words(at, &[thread.program.gs()])?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

pub(super) fn set_tid_address(thread: &mut Thread, args: Args) -> Answer {
    thread.clear_at = args.word(0);
    Ok(u64::from(thread.number()))
}

pub(super) fn set_robust_list(thread: &mut Thread, args: Args) -> Answer {
    const BYTES: u64 = 24;
    if args.word(1) != BYTES {
        return Err(Errno::EINVAL);
    }
    thread.robust = (args.word(0), BYTES);
    Ok(0)
}

pub(super) fn get_robust_list(thread: &mut Thread, args: Args) -> Answer {
    if args.half(0) != 0 && args.half(0) != thread.number() {
        return Err(Errno::EPERM);
    }
    let (head, bytes) = thread.robust;
    thread.user().put_words(args.at(1), &[head])?;
    thread.user().put_words(args.at(2), &[bytes])?;
    Ok(0)
}

/// rseq(2): threads stay on their CPU, so what is registered says so once. A sequence that a signal or another thread
/// interrupts is not begun again: so glibc's use of it for the CPU's number works, and registering is refused to
/// who brings a signature for sequences of his own.
pub(super) fn rseq(thread: &mut Thread, args: Args) -> Answer {
    const UNREGISTER: u32 = 1;
    const LEAST: u32 = 32;
    let (at, bytes, flags, signature) = (args.at(0), args.half(1), args.half(2), args.half(3));
    match (thread.sequences, flags) {
        (Some(old), UNREGISTER) if old == (at.0, bytes, signature) => {
            thread.user().put_half(at, 0)?;
            thread.user().put_half(VirtAddr(at.0.saturating_add(4)), u32::MAX)?;
            thread.sequences = None;
        }
        (Some(old), 0) if old == (at.0, bytes, signature) => return Err(Errno::EBUSY),
        (None, 0) if bytes >= LEAST && at.0.is_multiple_of(32) => {
            let cpu = Bare::cpu_id().0;
            thread.user().put_half(at, cpu)?;
            thread.user().put_half(VirtAddr(at.0.saturating_add(4)), cpu)?;
            thread.sequences = Some((at.0, bytes, signature));
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

pub(super) fn personality(thread: &mut Thread, args: Args) -> Answer {
    let process = &thread.task.process;
    let old = process.personality.load(Ordering::Relaxed);
    if args.half(0) != u32::MAX {
        process.personality.store(args.half(0), Ordering::Relaxed);
    }
    Ok(u64::from(old))
}

pub(super) fn prctl(thread: &mut Thread, args: Args) -> Answer {
    const SET_PDEATHSIG: u32 = 1;
    const GET_PDEATHSIG: u32 = 2;
    const GET_DUMPABLE: u32 = 3;
    const SET_DUMPABLE: u32 = 4;
    const GET_KEEPCAPS: u32 = 7;
    const SET_KEEPCAPS: u32 = 8;
    const SET_NAME: u32 = 15;
    const GET_NAME: u32 = 16;
    const CAPBSET_READ: u32 = 23;
    const GET_SECCOMP: u32 = 21;
    const GET_SECUREBITS: u32 = 27;
    const SET_CHILD_SUBREAPER: u32 = 36;
    const GET_CHILD_SUBREAPER: u32 = 37;
    const GET_TID_ADDRESS: u32 = 40;
    const SET_NO_NEW_PRIVS: u32 = 38;
    const GET_NO_NEW_PRIVS: u32 = 39;
    let process = thread.task.process.clone();
    let (word, at) = (args.word(1), args.at(1));
    let rest = args.word(2) | args.word(3) | args.word(4);
    match args.half(0) {
        SET_PDEATHSIG if word > 64 => return Err(Errno::EINVAL),
        SET_PDEATHSIG => process.parent_signal.store(word as u32, Ordering::Relaxed),
        GET_PDEATHSIG => {
            thread.user().put_half(at, process.parent_signal.load(Ordering::Relaxed))?;
        }
        GET_DUMPABLE => return Ok(u64::from(process.dumpable.load(Ordering::Relaxed))),
        SET_DUMPABLE if word > 1 => return Err(Errno::EINVAL),
        SET_DUMPABLE => process.dumpable.store(word as u32, Ordering::Relaxed),
        GET_KEEPCAPS => return Ok(u64::from(process.ids.lock().keeps)),
        SET_KEEPCAPS if word > 1 => return Err(Errno::EINVAL),
        SET_KEEPCAPS => process.ids.lock().keeps = word == 1,
        SET_NAME => {
            let mut name = Vec::new();
            // What does not fit is cut off.
            match thread.user().string(at, 15, &mut name) {
                Ok(()) | Err(Errno::ENAMETOOLONG) => thread.task.set_name(&name),
                Err(error) => return Err(error),
            }
        }
        GET_NAME => {
            thread.user().write(at, &thread.task.name())?;
        }
        CAPBSET_READ if word >= 41 => return Err(Errno::EINVAL),
        CAPBSET_READ => return Ok(1),
        // No filter, and none of the rules for the administrator is off.
        GET_SECCOMP | GET_SECUREBITS => {}
        GET_CHILD_SUBREAPER => {
            let adopts = process.memory.orphans() == rumpvm::Orphans::Adopt;
            thread.user().put_half(at, u32::from(adopts))?;
        }
        GET_TID_ADDRESS => thread.user().put_words(at, &[thread.clear_at])?,
        SET_CHILD_SUBREAPER => end::set_orphans(&process, word != 0),
        SET_NO_NEW_PRIVS if word != 1 || rest != 0 => return Err(Errno::EINVAL),
        SET_NO_NEW_PRIVS => process.no_new_rights.store(1, Ordering::Relaxed),
        GET_NO_NEW_PRIVS if word != 0 || rest != 0 => return Err(Errno::EINVAL),
        GET_NO_NEW_PRIVS => {
            return Ok(u64::from(process.no_new_rights.load(Ordering::Relaxed)));
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
