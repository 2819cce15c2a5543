//! Areas by the ten thousand, far from the window, until the host's kernel takes no more: the only way to meet
//! `vm.max_map_count` without changing it for everybody.
//!
//! Flow:  pages whose rights alternate, so that none is merged with its neighbour -> ENOMEM -> some go again.
//! Owns:  the addresses from [`FIRST`] on, in each process that carries a program out.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::differ::{Outcome, PAGE};

use super::kernel;

/// Above the window, and below everything that a process has.
const FIRST: u64 = 0x20_0000_0000;
/// More than this, and a process takes seconds to make and to end; no default is as much.
const MOST: u64 = 1 << 17;

/// Pages there are. A child has as many as its parent.
static PAGES: AtomicU64 = AtomicU64::new(0);

/// Leaves room for `room` areas.
pub(super) fn leave(room: u64) -> Outcome {
    let mut pages = PAGES.load(Ordering::Relaxed);
    let refused = loop {
        if pages > MOST {
            return Outcome::Refused(libc::ENOSYS);
        }
        match map(pages) {
            Ok(_) => pages += 1,
            Err(errno) => break errno,
        }
    };
    if refused != libc::ENOMEM {
        return Outcome::Refused(refused);
    }
    // The last one was one too many, which a mapping may be.
    for _ in 0..=room.min(pages.saturating_sub(1)) {
        pages -= 1;
        if let Err(errno) = unmap(pages) {
            return Outcome::Refused(errno);
        }
    }
    PAGES.store(pages, Ordering::Relaxed);
    Outcome::Done(0)
}

fn map(page: u64) -> Result<u64, i32> {
    let prot = if page.is_multiple_of(2) { libc::PROT_READ } else { libc::PROT_NONE } as u64;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let none = u64::MAX;
    // SAFETY: nothing is there, or it is refused.
    unsafe {
        kernel::call(libc::SYS_mmap, [FIRST + page * PAGE, PAGE, prot, flags as u64, none, 0])
    }
}

fn unmap(page: u64) -> Result<u64, i32> {
    // SAFETY: the page is our own, and nothing refers to it.
    unsafe { kernel::short(libc::SYS_munmap, FIRST + page * PAGE, PAGE, 0) }
}
