//! Ring 3, tried with programs of a few instructions: page faults, rights, flushes, registers, misdeeds.
//!
//! Flow:  [`run`] -> one function for each promise, on every CPU where that makes a difference -> `check`.
//! Sleep: for the programs' threads.

mod code;
mod process;

use alloc::vec::Vec;

use rumpvm::FaultError;
use rumpvm::sync::Atomic;
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};
use rumpvm_bare::Bare;
use rumpvm_platform::{CpuId, Platform, Seam};

use crate::kernel::{self, HeapSize, Kernel};
use code::Code;
use process::{Ending, Job, Process};

/// A promise: its name, and what panics if it does not hold.
type Promise = (&'static str, fn(&'static Kernel));

/// Every promise.
const PROMISES: [Promise; 8] = [
    ("a page is there when a program touches it", pages),
    ("programs that take turns keep their registers", registers),
    ("a page that is unmapped is gone on every CPU", unmapped_everywhere),
    ("a right that is taken away is gone on every CPU", read_only_everywhere),
    ("a store after a fork stays in its space", forked),
    ("code cannot be written, data not be executed", rights),
    ("what a program does wrong ends it and nothing else", misdeeds),
    ("the kernel's half is closed to programs", kernel_half),
];

/// Tries them all; one that does not hold is a panic, which ends the machine.
pub(crate) fn run() -> u8 {
    let kernel = kernel::start(HeapSize::Grows);
    for (name, promise) in PROMISES {
        log::info!("ring 3: {name}");
        promise(kernel);
        if let Err(broken) = kernel.check() {
            panic!("after \"{name}\": {broken}");
        }
    }
    log::info!("{} promises of ring 3 hold", PROMISES.len());
    0
}

fn cpus() -> impl Iterator<Item = CpuId> {
    (0..Bare.cpu_count()).map(|number| CpuId(number as u32))
}

/// Lets `milliseconds` pass for other threads.
fn pause(milliseconds: u64) {
    let nobody: Atomic<u32, Bare> = Atomic::new(0);
    let end = Bare::clock() + milliseconds * 1_000_000;
    while Bare::clock() < end {
        nobody.sleep_until(0, Some(end));
    }
}

fn pages(kernel: &'static Kernel) {
    const PAGES: u64 = 200;
    let jobs: Vec<Job> = cpus()
        .map(|cpu| Job::start(cpu, move || Process::new(kernel).run(Code::Touch, PAGES)))
        .collect();
    for job in jobs {
        assert_eq!(job.end(), Ending::Exit(PAGES * (PAGES + 1) / 2));
    }
}

fn registers(kernel: &'static Kernel) {
    /// Turns that each has to see the end of.
    const TURNS: u32 = 40;
    /// A turn in nanoseconds: a tenth of the usual, so that threads are switched away where few are.
    const TURN: u64 = 100_000;
    Bare::set_turn(TURN);
    let jobs: Vec<Job> = cpus()
        .flat_map(|cpu| [(cpu, 1), (cpu, 2), (cpu, 3)])
        .map(|(cpu, number)| {
            let pattern = 0x0101_0101_0101_0101 * (u64::from(cpu.0) * 3 + number);
            Job::start(cpu, move || {
                let process = Process::new(kernel);
                process.run_while(Code::Registers, pattern, |tally| tally.interrupts < TURNS)
            })
        })
        .collect();
    for job in jobs {
        assert_eq!(job.end(), Ending::Exit(0));
    }
}

/// A program on each CPU uses one page by `code`, for ever; then `change` is made.
fn used_everywhere(
    kernel: &'static Kernel,
    code: Code,
    change: impl Fn(&Process, VirtAddr),
) -> Vec<(VirtAddr, Ending)> {
    let process = alloc::sync::Arc::new(Process::new(kernel));
    let page = process.page();
    let jobs: Vec<Job> = cpus()
        .map(|cpu| {
            let process = alloc::sync::Arc::clone(&process);
            Job::start(cpu, move || process.run(code, page.0))
        })
        .collect();
    // Long enough for each to be at it; if one is not, it meets the change later, and the promise holds no less.
    pause(15);
    change(&process, page);
    jobs.into_iter().map(|job| (page, job.end())).collect()
}

fn unmapped_everywhere(kernel: &'static Kernel) {
    for code in [Code::Load, Code::Store, Code::Load] {
        let endings = used_everywhere(kernel, code, |process, page| {
            assert_eq!(process.space().munmap(&kernel.vm, page, PAGE_SIZE), Ok(()));
        });
        for (page, ending) in endings {
            assert_eq!(ending, Ending::Refused(FaultError::Unmapped { at: page }));
        }
    }
}

fn read_only_everywhere(kernel: &'static Kernel) {
    let endings = used_everywhere(kernel, Code::Store, |process, page| {
        let set = process.space().mprotect(&kernel.vm, page, PAGE_SIZE, Prot::READ);
        assert_eq!(set, Ok(()));
    });
    for (page, ending) in endings {
        let denied = FaultError::Denied { at: page, wanted: Prot::WRITE };
        assert_eq!(ending, Ending::Refused(denied));
    }
}

fn forked(kernel: &'static Kernel) {
    const PAGES: u64 = 100;
    let sum = Ending::Exit(PAGES * (PAGES + 1) / 2);
    let parent = Process::new(kernel);
    assert_eq!(parent.run(Code::Touch, PAGES), sum);
    let jobs: Vec<Job> = cpus()
        .map(|cpu| {
            let child = parent.fork();
            Job::start(cpu, move || child.run(Code::Touch, PAGES))
        })
        .collect();
    assert_eq!(parent.run(Code::Touch, PAGES), sum);
    for job in jobs {
        assert_eq!(job.end(), sum);
    }
}

fn rights(kernel: &'static Kernel) {
    let process = Process::new(kernel);
    let text = VirtAddr(0x40_0000);
    let denied = |at, wanted| Ending::Refused(FaultError::Denied { at, wanted });
    assert_eq!(process.run(Code::Store, text.0), denied(text, Prot::WRITE));
    let page = process.page();
    assert_eq!(process.run(Code::Jump, page.0), denied(page, Prot::EXEC));
}

fn misdeeds(kernel: &'static Kernel) {
    let process = Process::new(kernel);
    /// Numbers of the CPU's traps.
    const DIVISION: u8 = 0;
    const DEBUG: u8 = 1;
    const BREAKPOINT: u8 = 3;
    const UNDEFINED: u8 = 6;
    const PROTECTION: u8 = 13;
    for (code, trap) in [
        (Code::Halt, PROTECTION),
        (Code::Port, PROTECTION),
        (Code::Root, PROTECTION),
        (Code::Swap, PROTECTION),
        (Code::Interrupt, PROTECTION),
        (Code::Divide, DIVISION),
        (Code::Break, BREAKPOINT),
        (Code::Undefined, UNDEFINED),
        (Code::Step, DEBUG),
    ] {
        assert_eq!(process.run(code, 0), Ending::Trap(trap), "{code:?}");
    }
    // Addresses that are none: no page fault, but a protection fault.
    for odd in [1 << 47, 1 << 62, u64::MAX >> 1] {
        assert_eq!(process.run(Code::Load, odd), Ending::Trap(PROTECTION));
        assert_eq!(process.run(Code::Jump, odd), Ending::Trap(PROTECTION));
    }
    assert_eq!(process.run(Code::Odd, 0), Ending::Exit(77));
}

fn kernel_half(kernel: &'static Kernel) {
    let process = Process::new(kernel);
    // The image, the direct map, devices, stacks, and the last byte.
    for at in [
        0xffff_ffff_8010_0000,
        0xffff_8000_0010_0000,
        0xffff_d000_0000_0000,
        0xffff_e000_0000_f000,
        u64::MAX,
    ] {
        let unmapped = Ending::Refused(FaultError::Unmapped { at: VirtAddr(at) });
        for code in [Code::Load, Code::Store] {
            let ending = process.run(code, at);
            // The last word of all wraps around: a fault of another kind, but a fault.
            assert!(
                ending == unmapped || matches!(ending, Ending::Trap(12 | 13)),
                "{code:?} {ending:?}"
            );
        }
        // Above the lower half the kernel itself sees to it that the CPU is not sent there.
        let ending = process.run(Code::Jump, at);
        assert!(ending == unmapped || ending == Ending::Trap(13), "{at:#x}: {ending:?}");
    }
}
