//! The host's processes that carry programs out: a warden, and for each program a process and its descendants.
//!
//! Flow:  [`warden`] waits for a program -> forks its first process -> [`work`] in each, in turns -> all ended.
//! Locks: none.
//! Sleep: until a program comes, until it is one's turn, until children have ended.
//!
//! W1. Nothing here allocates, locks, or returns to Rust's runtime: these are copies of one thread of a process
//!     that may have had many.
//! W2. Whatever goes wrong is told through [`Shared::fail`], and is never taken for an answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::differ::{Call, FILE, HEAP, MEMORY, OBJECT_PAGES, Op, Outcome, PAGE, file_byte};

use super::shared::{BROKEN, GO, IDLE, Shared, Trouble, sleep, wake};
use super::{kernel, look, perform, probe, segments};

/// How long a worker waits for its turn. A step takes microseconds, and a stopped machine may take its time.
const PATIENCE: Duration = Duration::from_secs(20);
/// The header and version of capset(2): `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITIES: u32 = 0x2008_0522;
/// `CAP_IPC_LOCK`: for programs that may lock what they like.
const MAY_LOCK: u32 = 1 << 14;
/// `CAP_SYS_NICE`: to advise another process.
const MAY_ADVISE: u32 = 1 << 23;
/// `PR_SET_MM_MAP`.
const SET_MAP: u64 = 14;

/// Waits for programs and has them carried out. Never returns: it ends when the thread that forked it does.
///
/// # Safety
/// Called in a process that was forked for this, by its only thread.
pub(super) unsafe fn warden(shared: &Shared, parent: u32) -> ! {
    if let Err(errno) = settle(shared, parent) {
        shared.fail(Trouble::Call, errno as u64);
    }
    // SAFETY: this process has no other use for the signals.
    unsafe { probe::install() };
    loop {
        while shared.state.load(Ordering::Acquire) != GO {
            sleep(&shared.state, IDLE, None);
        }
        segments::forget(shared);
        match fork(0) {
            Ok(0) => first(shared),
            Ok(_) => reap(shared),
            Err(errno) => shared.fail(Trouble::Call, errno as u64),
        }
        segments::remove(shared);
        shared.state.store(IDLE, Ordering::Release);
        wake(&shared.state);
    }
}

/// Makes this process one that depends on nothing but the kernel's defaults.
fn settle(shared: &Shared, parent: u32) -> Result<(), i32> {
    let control = |what: i32, value: u64| {
        // SAFETY: these change how the kernel sees the process, and nothing in it.
        unsafe { kernel::short(libc::SYS_prctl, what as u64, value, 0) }
    };
    // SAFETY: as above; the header and the empty sets are read only.
    unsafe {
        kernel::short(libc::SYS_setpgid, 0, 0, 0)?;
        control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
        if kernel::short(libc::SYS_getppid, 0, 0, 0)? != u64::from(parent) {
            kernel::exit(0);
        }
        // Segments outlive who made them: those of a name space of its own go with its last process.
        let alone = kernel::short(libc::SYS_unshare, libc::CLONE_NEWIPC as u64, 0, 0).is_ok();
        shared.own_segments.store(u32::from(alone), Ordering::Relaxed);
        // Large pages are policy.
        control(libc::PR_SET_THP_DISABLE, 1)?;
        // What may be locked is as much as this host allows; a program may have less.
        let all = [u64::MAX; 2];
        let raise = [0, u64::from(libc::RLIMIT_MEMLOCK), all.as_ptr() as u64, 0, 0, 0];
        let _ = kernel::call(libc::SYS_prlimit64, raise);
        place_heap();
        // No limit binds who has the right to pass it.
        keep_rights(MAY_LOCK | MAY_ADVISE)?;
        // Files of the harness would be held open.
        kernel::short(libc::SYS_close_range, 3, u64::from(u32::MAX), 0)?;
        limit(libc::RLIMIT_CORE, 0)?;
    }
    Ok(())
}

/// Gives up all rights but those in `kept`, as far as there are any.
fn keep_rights(kept: u32) -> Result<(), i32> {
    let (header, mut sets) = ([CAPABILITIES, 0], [0u32; 6]);
    let (head, at) = (header.as_ptr() as u64, sets.as_mut_ptr() as u64);
    // SAFETY: the kernel fills in the sets, and reads them again.
    unsafe {
        kernel::short(libc::SYS_capget, head, at, 0)?;
        let (effective, permitted) = (sets[0] & kept, sets[1] & kept);
        sets = [effective, permitted, 0, 0, 0, 0];
        kernel::short(libc::SYS_capset, head, sets.as_ptr() as u64, 0)?;
    }
    Ok(())
}

/// Has the heap begin in the window, empty. Nobody here uses it (W1). A kernel that does not know the call leaves it
/// where it is, and whoever asks first finds that out.
fn place_heap() {
    // Struct `prctl_mm_map`: where text, data and stack are is only for others to read. Without data, none of it
    // counts as part of the heap.
    let mut map = [HEAP; 13];
    // Some text must be.
    map[0] = HEAP - 1;
    // No auxiliary vector, of no length, and no other file to be run.
    (map[11], map[12]) = (0, u64::from(u32::MAX) << 32);
    let (at, size) = (map.as_ptr() as u64, size_of_val(&map) as u64);
    let arguments = [libc::PR_SET_MM as u64, SET_MAP, at, size, 0, 0];
    // SAFETY: the kernel reads the numbers.
    let _ = unsafe { kernel::call(libc::SYS_prctl, arguments) };
}

/// Sets a limit that binds at once, as far as the higher one allows.
fn limit(which: u32, value: u64) -> Result<(), i32> {
    let mut both = [0u64; 2];
    let get = [0, u64::from(which), 0, both.as_mut_ptr() as u64, 0, 0];
    // SAFETY: the kernel writes and reads the two numbers.
    unsafe {
        kernel::call(libc::SYS_prlimit64, get)?;
        both[0] = value.min(both[1]);
        kernel::call(libc::SYS_prlimit64, [0, u64::from(which), both.as_ptr() as u64, 0, 0, 0])?;
    }
    Ok(())
}

fn fork(flags: i32) -> Result<u64, i32> {
    // SAFETY: the copy has this thread and its stack, and uses nothing else (W1).
    unsafe { kernel::call(libc::SYS_clone, [(libc::SIGCHLD | flags) as u64, 0, 0, 0, 0, 0]) }
}

/// Waits until every process has ended; they are all our children. When one is gone that said so, the program goes
/// on: what it had mapped is mapped no more.
fn reap(shared: &Shared) {
    let any = -1i64 as u64;
    loop {
        let mut status = 0u32;
        // SAFETY: the kernel writes the status.
        let ended =
            unsafe { kernel::call(libc::SYS_wait4, [any, &raw mut status as u64, 0, 0, 0, 0]) };
        match ended {
            Ok(_) if status == 0 => {
                let next = shared.leaving.swap(0, Ordering::AcqRel);
                if next != 0 && shared.turn.load(Ordering::Acquire) != BROKEN {
                    shared.turn.store(next, Ordering::Release);
                    wake(&shared.turn);
                }
            }
            Ok(_) => shared.fail(Trouble::Died, u64::from(status)),
            Err(libc::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// The first process of a program: makes the objects, then works.
fn first(shared: &Shared) -> ! {
    // The stack grows before anything is locked: what grows later counts.
    std::hint::black_box([0u8; 1 << 16]);
    match prepare(shared) {
        Ok(files) => work(shared, files),
        Err(errno) => {
            shared.fail(Trouble::Call, errno as u64);
            kernel::exit(0)
        }
    }
}

fn prepare(shared: &Shared) -> Result<[u64; 2], i32> {
    let locked = shared.locked.load(Ordering::Relaxed);
    limit(libc::RLIMIT_MEMLOCK, locked)?;
    if locked != u64::MAX {
        keep_rights(MAY_ADVISE)?;
    }
    // SAFETY: a number is asked for.
    let pid = unsafe { kernel::call(libc::SYS_getpid, [0; 6])? };
    shared.pids[0].store(pid as u32, Ordering::Relaxed);
    let files = [object(shared, FILE)?, object(shared, MEMORY)?];
    let mut page = [0; PAGE as usize];
    for index in 0..OBJECT_PAGES {
        let offset = index * PAGE;
        for (place, byte) in page.iter_mut().enumerate() {
            *byte = file_byte(offset + place as u64);
        }
        let at = page.as_ptr() as u64;
        let written = [files[FILE as usize], at, PAGE, offset, 0, 0];
        // SAFETY: the page is read only.
        unsafe { kernel::call(libc::SYS_pwrite64, written)? };
    }
    Ok(files)
}

/// A file in memory, of zeros.
fn object(shared: &Shared, number: u64) -> Result<u64, i32> {
    // SAFETY: the name is read; `stat` is what the kernel fills in.
    unsafe {
        let name = c"rumpvm".as_ptr() as u64;
        let file =
            kernel::short(libc::SYS_memfd_create, name, u64::from(libc::MFD_ALLOW_SEALING), 0)?;
        kernel::short(libc::SYS_ftruncate, file, OBJECT_PAGES * PAGE, 0)?;
        let mut stat: libc::stat = std::mem::zeroed();
        kernel::short(libc::SYS_fstat, file, &raw mut stat as u64, 0)?;
        shared.inodes[number as usize].store(stat.st_ino, Ordering::Relaxed);
        Ok(file)
    }
}

/// Carries out the steps of one process. A fork returns here twice, as another process in the copy.
fn work(shared: &Shared, files: [u64; 2]) -> ! {
    let mut me = 0;
    loop {
        let (step, op) = match next(shared, me) {
            Some(next) => next,
            None => kernel::exit(0),
        };
        let outcome = match op.call {
            Call::Fork => match fork(libc::CLONE_PARENT) {
                Ok(0) => {
                    me = op.child();
                    continue;
                }
                Ok(pid) => {
                    shared.pids[usize::from(op.child())].store(pid as u32, Ordering::Relaxed);
                    Outcome::Done(0)
                }
                Err(errno) => Outcome::Refused(errno),
            },
            Call::Look => look_around(shared, &op),
            Call::Exit => Outcome::Done(0),
            _ => perform::perform(shared, &op, files),
        };
        shared.answer(step, outcome);
        if op.call == Call::Exit {
            shared.leaving.store(step + 1, Ordering::Release);
            kernel::exit(0);
        }
        if shared.turn.load(Ordering::Relaxed) != BROKEN {
            shared.turn.store(step + 1, Ordering::Release);
        }
        let last = step + 1 == shared.count();
        if last || shared.op(step + 1).process != me {
            wake(&shared.turn);
        }
    }
}

/// Waits for a step of process `me`; none when the program is at its end.
fn next(shared: &Shared, me: u8) -> Option<(u32, Op)> {
    loop {
        let turn = shared.turn.load(Ordering::Acquire);
        if turn >= shared.count() {
            return None;
        }
        let op = shared.op(turn);
        if op.process == me {
            return Some((turn, op));
        }
        if !sleep(&shared.turn, turn, Some(PATIENCE)) && shared.turn.load(Ordering::Acquire) == turn
        {
            shared.fail(Trouble::Stuck, u64::from(turn));
        }
    }
}

fn look_around(shared: &Shared, op: &Op) -> Outcome {
    let inodes = [0, 1].map(|number: usize| shared.inodes[number].load(Ordering::Relaxed));
    // SAFETY: it is this process's turn, and the text is used by nobody else then.
    let text = unsafe { &mut *shared.text.get() };
    shared.look(|seen| match look::look(seen, op.arguments[0], inodes, text) {
        Ok(()) => {}
        Err(look::Blind::Call(errno)) => shared.fail(Trouble::Call, errno as u64),
        Err(look::Blind::Form(place)) => shared.fail(Trouble::Form, place as u64),
    })
}
