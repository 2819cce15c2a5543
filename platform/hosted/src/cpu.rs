//! What the rest of the machine can reach of a CPU: its TLB, its mailbox, and its attention.
//!
//! Flow:  a birth, a wake-up, a flush request or a stop -> mailbox and attention bits -> that CPU.
//! Locks: `mail` for births, wake-ups and falling asleep; `tlb` and `kernel_tlb` for the translations.
//! Sleep: the host thread of an idle CPU waits here, on `bell`.
//! Owns:  births and wake-ups until the CPU collects them.
//!
//! C1. A bit of `attention` is set before the bell rings, and a CPU falls asleep only under `mail` with
//!     no bit set: no message is slept through.
//! C2. The census changes together with `blocked`, under `mail`: when it says that every CPU sleeps, no
//!     message is on its way.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::outcome::Group;
use crate::tlb::{Mode, Tlb};

/// Index of a thread among those of its CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot(pub(crate) u32);

/// A thread that is about to begin.
pub(crate) struct Birth {
    pub(crate) body: Box<dyn FnOnce() + Send>,
    pub(crate) group: Group,
}

/// What a CPU is asked to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attention(u32);

impl Attention {
    pub(crate) const FLUSH: Self = Self(1);
    pub(crate) const MAIL: Self = Self(2);
    pub(crate) const STOP: Self = Self(4);

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) fn has(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }
}

#[derive(Default)]
pub(crate) struct Mail {
    pub(crate) births: Vec<Birth>,
    pub(crate) woken: Vec<Slot>,
    /// The CPU waits for the bell.
    blocked: bool,
}

/// Aligned so that no two CPUs share a line, nor the pair of lines that is fetched together.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Cpu {
    pub(crate) tlb: spin::Mutex<Tlb>,
    /// For the kernel's half. Whatever the CPU translates through, it keeps these, as if all were global.
    pub(crate) kernel_tlb: spin::Mutex<Tlb>,
    /// Threads that live here; who places a new one picks the smallest number.
    pub(crate) load: AtomicU32,
    attention: AtomicU32,
    mail: Mutex<Mail>,
    bell: Condvar,
}

/// CPUs that are awake and threads that live, in one word, so that both are read at one moment.
pub(crate) struct Census(AtomicU64);

/// Every CPU sleeps, and threads are alive.
#[derive(Debug)]
pub(crate) struct Deadlock;

impl Census {
    const THREAD: u64 = 1 << 32;

    pub(crate) fn new(cpus: usize) -> Self {
        Self(AtomicU64::new(cpus as u64))
    }

    fn add(&self, threads: usize, woken: bool) {
        let change = threads as u64 * Self::THREAD + u64::from(woken);
        self.0.fetch_add(change, Ordering::SeqCst);
    }

    pub(crate) fn thread_ends(&self) {
        self.0.fetch_sub(Self::THREAD, Ordering::SeqCst);
    }

    fn falls_asleep(&self) -> Result<(), Deadlock> {
        let left = self.0.fetch_sub(1, Ordering::SeqCst) - 1;
        let (threads, awake) = (left / Self::THREAD, left % Self::THREAD);
        if awake == 0 && threads > 0 { Err(Deadlock) } else { Ok(()) }
    }
}

impl Cpu {
    #[inline]
    pub(crate) fn tlb_of(&self, mode: Mode) -> &spin::Mutex<Tlb> {
        match mode {
            Mode::User => &self.tlb,
            Mode::Kernel => &self.kernel_tlb,
        }
    }

    #[inline]
    pub(crate) fn attention(&self) -> Attention {
        Attention(self.attention.load(Ordering::Acquire))
    }

    /// Takes `what` off the list; whoever does so then looks for the work itself.
    pub(crate) fn attend(&self, what: Attention) {
        self.attention.fetch_and(!what.0, Ordering::SeqCst);
    }

    /// Puts something into the mailbox and rings (C1, C2).
    pub(crate) fn ring(&self, census: &Census, why: Attention, put: impl FnOnce(&mut Mail)) {
        let mut mail = lock(&self.mail);
        let before = mail.births.len();
        put(&mut mail);
        self.attention.fetch_or(why.0, Ordering::SeqCst);
        let woken = std::mem::take(&mut mail.blocked);
        census.add(mail.births.len() - before, woken);
        if woken {
            self.bell.notify_one();
        }
    }

    /// Empties the mailbox.
    pub(crate) fn collect(&self) -> (Vec<Birth>, Vec<Slot>) {
        let mut mail = lock(&self.mail);
        self.attend(Attention::MAIL);
        (std::mem::take(&mut mail.births), std::mem::take(&mut mail.woken))
    }

    /// Waits for the bell, unless something wants attention already.
    pub(crate) fn block(&self, census: &Census) -> Result<(), Deadlock> {
        let mut mail = lock(&self.mail);
        if !self.attention().is_none() {
            return Ok(());
        }
        mail.blocked = true;
        let verdict = census.falls_asleep();
        if verdict.is_err() {
            mail.blocked = false;
            census.add(0, true);
            return verdict;
        }
        while mail.blocked {
            mail = self.bell.wait(mail).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// Locks `mutex`. A panic under one of our locks stops the machine (H4), so poison adds nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
