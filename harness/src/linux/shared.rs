//! The memory through which a program goes to the host's processes, and what they answer comes back.
//!
//! Flow:  [`Shared::post`] -> workers, in turns -> [`Shared::collect`].
//! Locks: none: the words `state` and `turn` say whose everything is.
//! Owns:  one shared mapping of the host.
//!
//! S1. While `state` is `IDLE`, all is the harness's; otherwise it is the worker's whose step `turn` names, and
//!     between programs the warden's.

use std::cell::UnsafeCell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::differ::{
    Answers, Look, MOST_LOOKS, MOST_OPS, MOST_PROCESSES, Op, Outcome, PageSeen, Program, SEEN,
    SEGMENTS,
};

use super::kernel;

/// All is the harness's.
pub(super) const IDLE: u32 = 0;
/// A program is to be carried out.
pub(super) const GO: u32 = 1;
/// `turn` when a worker could not go on.
pub(super) const BROKEN: u32 = u32::MAX;

/// What went wrong in a worker: not an answer, but the tool's failure.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Trouble {
    /// Nothing.
    None = 0,
    /// A worker ended before its program; the value is what wait(2) said.
    Died = 1,
    /// A worker waited for its turn in vain; the value is the step that was due.
    Stuck = 2,
    /// A call that only this tool needs failed; the value is the error number.
    Call = 3,
    /// What /proc shows has a form that is not known.
    Form = 4,
}

/// The memory. Only numbers, of which every value is valid.
#[repr(C)]
pub(super) struct Shared {
    pub(super) state: AtomicU32,
    pub(super) turn: AtomicU32,
    pub(super) trouble: AtomicU32,
    pub(super) looks: AtomicU32,
    pub(super) trouble_value: AtomicU64,
    /// Limit of locked memory; all ones for none.
    pub(super) locked: AtomicU64,
    /// Inodes of the objects of the program that runs.
    pub(super) inodes: [AtomicU64; 2],
    /// The step that comes when the process that is about to exit is gone; 0 for none.
    pub(super) leaving: AtomicU32,
    /// The host's numbers of the processes of the program that runs.
    pub(super) pids: [AtomicU32; MOST_PROCESSES as usize],
    /// Whether segments are nobody's but the warden's and his descendants'.
    pub(super) own_segments: AtomicU32,
    /// The numbers of the segments that the program names; -1 for none.
    pub(super) segments: [AtomicI32; SEGMENTS],
    /// Those of all that it has made, and how many these are.
    pub(super) made: [AtomicI32; MOST_OPS],
    pub(super) made_count: AtomicU32,
    count: AtomicU32,
    ops: UnsafeCell<[Op; MOST_OPS]>,
    outcomes: UnsafeCell<[[u64; 3]; MOST_OPS]>,
    seen: UnsafeCell<[Look; MOST_LOOKS]>,
    /// What /proc says, for whoever has the turn.
    pub(super) text: UnsafeCell<[u8; 1 << 17]>,
}

// SAFETY: S1: the cells are used by one thread of one process at a time.
unsafe impl Sync for Shared {}

/// The mapping of a [`Shared`].
pub(super) struct Mapping {
    at: NonNull<Shared>,
}

// SAFETY: it is only an address; `Shared` may be used from any thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// A new one, all zeros.
    pub(super) fn new() -> io::Result<Self> {
        let (prot, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, at a place of the kernel's choice.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), prot, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(at.cast())
            .map(|at| Self { at })
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    pub(super) fn get(&self) -> &Shared {
        // SAFETY: mapped until the drop; all zeros is a valid `Shared`, whose first step is a `Mmap`.
        unsafe { self.at.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nobody borrows it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), size_of::<Shared>()) };
    }
}

impl Shared {
    /// Gives the program to the warden.
    pub(super) fn post(&self, program: &Program) {
        let ops = &program.ops;
        assert!(ops.len() <= MOST_OPS, "a program of {} steps", ops.len());
        // SAFETY: S1: it is idle, so all is ours.
        unsafe {
            (&mut *self.ops.get())[..ops.len()].copy_from_slice(ops);
            (&mut *self.outcomes.get())[..ops.len()].fill([0; 3]);
        }
        self.count.store(ops.len() as u32, Ordering::Relaxed);
        self.locked.store(program.locked.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.looks.store(0, Ordering::Relaxed);
        self.trouble.store(Trouble::None as u32, Ordering::Relaxed);
        self.turn.store(0, Ordering::Relaxed);
        self.state.store(GO, Ordering::Release);
        wake(&self.state);
    }

    /// The answers of the program that was carried out last.
    pub(super) fn collect(&self) -> Answers {
        let count = self.count() as usize;
        let looks = (self.looks.load(Ordering::Acquire) as usize).min(MOST_LOOKS);
        // SAFETY: S1: it is idle again.
        let (outcomes, seen) = unsafe { (&*self.outcomes.get(), &*self.seen.get()) };
        Answers {
            outcomes: outcomes[..count].iter().map(|raw| Outcome::from_raw(*raw)).collect(),
            looks: seen[..looks].to_vec(),
            panic: None,
        }
    }

    /// Number of steps.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// A step.
    pub(super) fn op(&self, step: u32) -> Op {
        // SAFETY: nobody changes the steps while a program runs.
        unsafe { (&*self.ops.get())[step as usize] }
    }

    /// Notes what came of a step. By whose turn it is.
    pub(super) fn answer(&self, step: u32, outcome: Outcome) {
        // SAFETY: S1.
        unsafe { (&mut *self.outcomes.get())[step as usize] = outcome.to_raw() };
    }

    /// Has `fill` fill in a look. By whose turn it is.
    pub(super) fn look(&self, fill: impl FnOnce(&mut Look)) -> Outcome {
        let number = self.looks.load(Ordering::Relaxed) as usize;
        // SAFETY: S1.
        let look = unsafe { &mut (&mut *self.seen.get())[number] };
        *look = [PageSeen::default(); SEEN];
        fill(look);
        self.looks.store(number as u32 + 1, Ordering::Release);
        Outcome::Done(0)
    }

    /// Says that something went wrong that is no answer; the first to say so is heard.
    pub(super) fn fail(&self, trouble: Trouble, value: u64) {
        let (none, trouble) = (Trouble::None as u32, trouble as u32);
        let relaxed = Ordering::Relaxed;
        if self.trouble.compare_exchange(none, trouble, relaxed, relaxed).is_ok() {
            self.trouble_value.store(value, relaxed);
        }
        self.turn.store(BROKEN, Ordering::Release);
        wake(&self.turn);
    }

    /// The trouble there was, in words.
    pub(super) fn trouble(&self) -> Option<String> {
        let value = self.trouble_value.load(Ordering::Relaxed);
        let kind = self.trouble.load(Ordering::Relaxed);
        let (died, stuck) = (Trouble::Died as u32, Trouble::Stuck as u32);
        let (call, form) = (Trouble::Call as u32, Trouble::Form as u32);
        let step = |step: u64| {
            let known = step < u64::from(self.count());
            if known { format!("`{}`", self.op(step as u32)) } else { "the end".into() }
        };
        Some(match kind {
            kind if kind == died => {
                let (signal, status) = (value & 0x7f, value >> 8 & 0xff);
                let turn = u64::from(self.turn.load(Ordering::Relaxed));
                let how = if signal == 0 {
                    format!("with status {status}")
                } else {
                    format!("by signal {signal}")
                };
                format!("a process of the host's side ended {how} (turn {turn})")
            }
            kind if kind == stuck => {
                format!("the host's side came to a stop before {}", step(value))
            }
            kind if kind == call => {
                format!(
                    "the host's side was refused what it needs: {}",
                    io::Error::from_raw_os_error(value as i32)
                )
            }
            kind if kind == form => {
                format!("/proc has a form that is not known: line starting at {value}")
            }
            _ => return None,
        })
    }
}

/// Wakes all who wait for `word`.
pub(super) fn wake(word: &AtomicU32) {
    let at = word.as_ptr() as u64;
    // SAFETY: the kernel looks at the address alone.
    let _ = unsafe { kernel::short(libc::SYS_futex, at, libc::FUTEX_WAKE as u64, i32::MAX as u64) };
}

/// Sleeps while `word` is `value`; false if that took longer than `most`. May come back for no reason.
pub(super) fn sleep(word: &AtomicU32, value: u32, most: Option<Duration>) -> bool {
    let time = most.map(|most| libc::timespec {
        tv_sec: most.as_secs() as i64,
        tv_nsec: i64::from(most.subsec_nanos()),
    });
    let time = time.as_ref().map_or(0, |time| std::ptr::from_ref(time) as u64);
    let arguments = [word.as_ptr() as u64, libc::FUTEX_WAIT as u64, u64::from(value), time, 0, 0];
    // SAFETY: the kernel reads the word and the time.
    unsafe { kernel::call(libc::SYS_futex, arguments) != Err(libc::ETIMEDOUT) }
}
