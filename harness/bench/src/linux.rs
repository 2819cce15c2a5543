//! Linux on this machine: a process without threads does the same work with the host's own calls.
//!
//! Flow:  [`beside`] starts this program once more -> [`measure`] prints -> [`beside`] reads.
//!
//! Pages are of 4 KiB: with transparent huge pages the work would be another one.

use std::io;
use std::process::Command;
use std::ptr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::meter::own_time;

const GIBIBYTE: usize = 1 << 30;
const PAGE: usize = 4096;
const TURNS: usize = 5;

/// What Linux took.
#[derive(Clone, Copy)]
pub(crate) struct Linux {
    /// Fork with 1 GiB resident, and the parent's first store; milliseconds.
    pub(crate) fork: f64,
    /// A first touch, zeroing and trap included; nanoseconds.
    pub(crate) fault: f64,
    /// mmap and munmap of a page that nobody touches; nanoseconds.
    pub(crate) areas: f64,
}

/// Measures Linux in a process of its own.
pub(crate) fn beside() -> Result<Linux> {
    let output = Command::new(std::env::current_exe()?).arg("linux").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || Ok::<f64, anyhow::Error>(numbers.next().context("a number is missing")??);
    Ok(Linux { fork: next()?, fault: next()?, areas: next()? })
}

/// Prints the figures of [`Linux`].
pub(crate) fn measure() -> Result<()> {
    let (mut forks, mut faults, mut areas) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let memory = Mapping::new(GIBIBYTE)?;
        faults.push(memory.touch_all() / (GIBIBYTE / PAGE) as u32);
        forks.push(memory.fork_and_store()?);
        drop(memory);
        let start = own_time();
        for _ in 0..10_000 {
            drop(Mapping::new(PAGE)?);
        }
        areas.push(since(start) / 10_000);
    }
    let median = |mut all: Vec<Duration>| {
        all.sort();
        all[TURNS / 2].as_nanos() as f64
    };
    println!("{} {} {}", median(forks) / 1e6, median(faults), median(areas));
    Ok(())
}

/// What this thread has had of a processor since `start`; what other programs do is not in it.
fn since(start: u64) -> Duration {
    Duration::from_nanos(own_time() - start)
}

/// Private anonymous memory.
struct Mapping {
    start: *mut u8,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> Result<Self> {
        let (prot, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel likes touches nothing that is there.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, prot, flags, -1, 0) };
        ensure!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        if bytes > PAGE {
            // SAFETY: the range is ours. A kernel without huge pages says so, and that is as good.
            unsafe { libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE) };
        }
        Ok(Self { start: start.cast(), bytes })
    }

    /// Stores to every page, and says how long that took.
    fn touch_all(&self) -> Duration {
        let start = own_time();
        for at in (0..self.bytes).step_by(PAGE) {
            self.store(at);
        }
        since(start)
    }

    fn store(&self, at: usize) {
        // SAFETY: callers stay inside the mapping, which lives as long as `self`.
        unsafe { self.start.add(at).write_volatile(1) };
    }

    /// How long fork and the store that follows take in the parent.
    fn fork_and_store(&self) -> Result<Duration> {
        let start = own_time();
        // SAFETY: this process has one thread, and the child calls nothing but `pause`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            loop {
                // SAFETY: it takes nothing and touches nothing.
                unsafe { libc::pause() };
            }
        }
        self.store(0);
        let took = since(start);
        ensure!(child > 0, "fork: {}", io::Error::last_os_error());
        // SAFETY: the child is ours, and nobody else waits for it.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, ptr::null_mut(), 0);
        }
        Ok(took)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a reference into it.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}
