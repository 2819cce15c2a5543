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

use crate::differ::{Call, FILE, MEMORY, OBJECT_PAGES, Op, Outcome, PAGE, file_byte};

use super::shared::{BROKEN, GO, IDLE, Shared, Trouble, sleep, wake};
use super::{kernel, look, perform, probe};

/// How long a worker waits for its turn. A step takes microseconds, and a stopped machine may take its time.
const PATIENCE: Duration = Duration::from_secs(20);
/// The header and version of capset(2): `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITIES: u32 = 0x2008_0522;

/// Waits for programs and has them carried out. Never returns: it ends when the thread that forked it does.
///
/// # Safety
/// Called in a process that was forked for this, by its only thread.
pub(super) unsafe fn warden(shared: &Shared, parent: u32) -> ! {
    if let Err(errno) = settle(parent) {
        shared.fail(Trouble::Call, errno as u64);
    }
    // SAFETY: this process has no other use for the signals.
    unsafe { probe::install() };
    loop {
        while shared.state.load(Ordering::Acquire) != GO {
            sleep(&shared.state, IDLE, None);
        }
        match fork() {
            Ok(0) => first(shared),
            Ok(_) => reap(shared),
            Err(errno) => shared.fail(Trouble::Call, errno as u64),
        }
        shared.state.store(IDLE, Ordering::Release);
        wake(&shared.state);
    }
}

/// Makes this process one that depends on nothing but the kernel's defaults.
fn settle(parent: u32) -> Result<(), i32> {
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
        // Whose parent has ended is ours to wait for.
        control(libc::PR_SET_CHILD_SUBREAPER, 1)?;
        // Large pages are policy.
        control(libc::PR_SET_THP_DISABLE, 1)?;
        // What may be locked is as much as this host allows; a program may have less.
        let all = [u64::MAX; 2];
        let raise = [0, u64::from(libc::RLIMIT_MEMLOCK), all.as_ptr() as u64, 0, 0, 0];
        let _ = kernel::call(libc::SYS_prlimit64, raise);
        // No limit binds who has the right to pass it.
        let (header, none) = ([CAPABILITIES, 0], [0u32; 6]);
        kernel::short(libc::SYS_capset, header.as_ptr() as u64, none.as_ptr() as u64, 0)?;
        // Files of the harness would be held open.
        kernel::short(libc::SYS_close_range, 3, u64::from(u32::MAX), 0)?;
        limit(libc::RLIMIT_CORE, 0)?;
    }
    Ok(())
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

fn fork() -> Result<u64, i32> {
    // SAFETY: the copy has this thread and its stack, and uses nothing else (W1).
    unsafe { kernel::call(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]) }
}

/// Waits until every descendant has ended.
fn reap(shared: &Shared) {
    let any = -1i64 as u64;
    loop {
        let mut status = 0u32;
        // SAFETY: the kernel writes the status.
        let ended =
            unsafe { kernel::call(libc::SYS_wait4, [any, &raw mut status as u64, 0, 0, 0, 0]) };
        match ended {
            Ok(_) if status == 0 => {}
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
            Call::Fork => match fork() {
                Ok(0) => {
                    me = op.child();
                    continue;
                }
                Ok(_) => Outcome::Done(0),
                Err(errno) => Outcome::Refused(errno),
            },
            Call::Look => look_around(shared, &op),
            Call::Exit => Outcome::Done(0),
            _ => perform::perform(&op, files),
        };
        shared.answer(step, outcome);
        if shared.turn.load(Ordering::Relaxed) != BROKEN {
            shared.turn.store(step + 1, Ordering::Release);
        }
        let last = step + 1 == shared.count();
        if op.call == Call::Exit || last || shared.op(step + 1).process != me {
            wake(&shared.turn);
        }
        if op.call == Call::Exit {
            kernel::exit(0);
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
