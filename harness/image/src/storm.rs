//! Kernel threads that call the component all at once, several on each CPU, and are switched away wherever they are.
//!
//! Flow:  each thread: spaces of its own, forked and stored to; a range of a space that all share, mapped and
//!        unmapped; everything it stored looked for again -> the last one wakes the first -> `check`.
//! Sleep: as the calls do; threads take turns on their CPU by its alarm.

use alloc::sync::Arc;

use rumpvm::sync::{Atomic, Ordering};
use rumpvm::{Backing, Hold, MapFlags, Space};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_bare::Bare;
use rumpvm_cases::{PAGE, Program};
use rumpvm_platform::{CpuId, Platform};

use crate::kernel::{self, HeapSize, Kernel};

/// Threads on each CPU.
const THREADS: u32 = 4;
/// Turns of a tenth of a millisecond, so that threads are switched away in many places. Without `Seam::hold_cpu` this
/// finds a pinned epoch within a second.
const TURN: u64 = 100_000;
/// What each does: long enough for each to be switched away some hundred times.
const ROUNDS: u64 = 500;
/// Pages that a thread works on in a round.
const PAGES: u64 = 40;
/// Where the threads' ranges of the shared space begin; one is as large as a leaf table serves.
const SHARED: u64 = 0x1000_0000;
const RANGE: u64 = 2 << 20;

/// Starts the threads, waits for all, and checks.
pub(crate) fn run() -> u8 {
    let kernel = kernel::start(HeapSize::Grows);
    Bare::set_turn(TURN);
    let vm = &kernel.vm;
    let shared = vm.new_space().expect("memory for a space");
    let threads = Bare.cpu_count() as u32 * THREADS;
    let left = Arc::new(Atomic::<u32, Bare>::new(threads));
    for number in 0..threads {
        let (left, shared) = (Arc::clone(&left), shared.clone());
        let body = move || {
            let space = shared.clone();
            Bare::set_on_resume(move || kernel.vm.activate(&space));
            for round in 0..ROUNDS {
                alone(kernel, round);
                together(kernel, &shared, number, round);
            }
            Bare::clear_on_resume();
            kernel.vm.deactivate();
            left.fetch_sub(1, Ordering::SeqCst);
            left.wake_sleepers();
        };
        Bare::spawn(Some(CpuId(number / THREADS)), body).expect("memory for a thread");
    }
    loop {
        match left.load(Ordering::SeqCst) {
            0 => break,
            some => left.sleep_while(some),
        }
    }
    vm.leave_space(&shared);
    if let Err(broken) = kernel.check() {
        panic!("{broken}");
    }
    log::info!("{threads} threads did {ROUNDS} rounds each");
    0
}

/// A space of its own, its child, and what each of them stored.
fn alone(kernel: &'static Kernel, round: u64) {
    let parent = Program::new(&kernel.vm);
    let at = parent.map(PAGES);
    parent.number(at, PAGES);
    let child = parent.fork();
    // Neither the first nor the last.
    let page = at + (1 + round % (PAGES - 2)) * PAGE;
    let before = parent.get(page);
    child.set(page, 0xcc);
    assert_eq!((parent.get(page), child.get(page)), (before, 0xcc));
    parent.unmap(at, PAGES / 2);
    parent.set(at + (PAGES - 1) * PAGE, 0xdd);
    assert_eq!(child.get(at), 1);
    assert_eq!(child.get(at + (PAGES - 1) * PAGE), PAGES as u8);
}

/// A range of the space that all share.
fn together(kernel: &'static Kernel, space: &Hold<Space<Bare>, Bare>, number: u32, round: u64) {
    let vm = &kernel.vm;
    let at = VirtAddr(SHARED + u64::from(number) * RANGE);
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
    let mapped = space.mmap(vm, at, PAGES * PAGE, Prot::RW, flags, Backing::Anonymous, 0);
    assert_eq!(mapped, Ok(at));
    let word = (u64::from(number) << 32 | round).to_le_bytes();
    for page in 0..PAGES {
        space.copy_out(vm, at + page * PAGE, &word).expect("a page of ours");
    }
    let half = PAGES / 2 * PAGE;
    assert_eq!(space.mprotect(vm, at, half, Prot::READ), Ok(()));
    assert!(space.copy_out(vm, at, &word).is_err(), "a store where that is forbidden");
    for page in 0..PAGES {
        let mut found = [0; 8];
        space.copy_in(vm, at + page * PAGE, &mut found).expect("a page of ours");
        assert_eq!(found, word);
    }
    assert_eq!(space.munmap(vm, at, PAGES * PAGE), Ok(()));
}
