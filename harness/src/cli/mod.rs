//! The command line: what was asked for, and what the exit status says.
//!
//! Exit status 0: it ran, and every check passed. 1: it ran, and something was wrong, said on standard
//! error. 2: it could not run as asked, said likewise. `boot` exits with the status of the program that it ran.

mod boot;
mod differ;
mod explore;
mod image;
mod lib;
mod output;
mod progress;
mod replay;
mod run;
mod tour;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::replay::ReplayArgs;

/// BSD-style virtual memory as a library, at work on a pretend x86 machine.
///
/// rumpvm is a virtual-memory subsystem that can be linked: address maps, copy-on-write, files, fork,
/// page tables. Here it runs as an ordinary process, on a machine of pretend CPUs and memory, with
/// nothing to set up and nothing to break.
#[derive(Parser)]
#[command(name = "rumpvm", version, after_long_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// See it manage six recorded programs and five workloads; the default, at most a minute.
    ///
    /// Each part runs on a machine of its own and ends with `check`, which walks every invariant. One
    /// table and one HTML report show what was seen.
    Tour(tour::TourArgs),
    /// Replay what strace recorded of any Linux program, and compare every result with Linux's.
    ///
    /// The program's processes and address spaces are rebuilt on a machine of our own. Exit status 0
    /// says that nothing differed; a file that is no recording is refused.
    Replay(ReplayArgs),
    /// Run one workload that presses on memory and checks every byte it reads back.
    ///
    /// A wrong byte is a failure. A process that finds no memory ends, is counted, and the rest goes
    /// on. At the end `check` walks every invariant of the machine.
    Run(run::RunArgs),
    /// Look for races: run scenarios under schedule after schedule, each of which is a number.
    ///
    /// The component runs unmodified under a scheduler that chooses at every step who is next and what goes
    /// wrong. A schedule that fails is shrunk to the few choices that matter, told step by step, and can be
    /// run again.
    Explore(explore::ExploreArgs),
    /// Boot a machine of your own, in QEMU, and run an unmodified static Linux program on it.
    ///
    /// The program's input and output are yours, the kernel's log goes to standard error, and the exit status is
    /// the program's; 124 if time is up, 101 if the kernel panics. What is missing is installed, or named.
    Boot(boot::BootArgs),
    /// Build the boot image, and a disc with it.
    Image(image::ImageArgs),
    /// Build the library for other kernels: rumpvm.o, librumpvm.a and rumpvm.h.
    ///
    /// The object has the sections .text, .rodata, .data and .bss, shows no symbol but rumpvm_*, needs none, and has no
    /// GOT. It is for code below 2 GiB or in the uppermost 2 GiB, as gcc's -mcmodel=kernel and -no-pie.
    Lib(lib::LibArgs),
    /// Compare with the host's own Linux: random programs over all memory calls, on both sides.
    ///
    /// Results, error numbers, faults, every byte, areas, what is locked and what is in memory are compared. What
    /// differs is shrunk to a short program, printed for our interface and as C.
    Differ(differ::DifferArgs),
}

const EXAMPLES: &str = "\
Examples:
  rumpvm                              the tour, with a report to look at in a browser
  strace -f -e trace=%memory,%process -o ls.strace ls
  rumpvm replay ls.strace             the same program's memory, managed by rumpvm
  rumpvm replay --touch all --json make.strace.gz
  rumpvm run mapstorm --time 60s      a hundred threads of random mmap, mprotect, munmap
  rumpvm run bulkbuild --cpus 4 --memory 1G --seed 7
  rumpvm run server --rounds 200 --cpus 1 --json
                                      the same counts each time, for a program to read
  rumpvm explore                      every scenario, some thousand schedules each
  rumpvm explore --time 10m --seed 7  as many as fit into ten minutes
  rumpvm boot                         a busybox shell on a machine of its own
  rumpvm boot -- /bin/busybox sh -c 'dd if=/dev/zero of=/dev/null bs=50M count=2'
  rumpvm boot --cpus 4 --add ./a.out -- /bin/a.out
  rumpvm lib --out build              rumpvm.o and rumpvm.h, for a kernel in C
  rumpvm differ --ops 1000000         a million calls, on this Linux and on rumpvm

Exit status: 0 if every check passed, 1 if one did not, 2 if it could not run as asked. `boot` exits with the
status of its program.";

/// How a command ended, short of an error.
enum Verdict {
    /// Every check passed.
    Clean,
    /// Something was wrong, and has been said.
    Broken,
}

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    let command = Arguments::parse().command.unwrap_or_else(|| Command::Tour(Default::default()));
    let verdict = match command {
        Command::Boot(arguments) => return exit(boot::boot(&arguments)),
        Command::Image(arguments) => return exit(image::image(&arguments)),
        Command::Lib(arguments) => return exit(lib::lib(&arguments)),
        Command::Tour(arguments) => tour::tour(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Explore(arguments) => explore::explore(&arguments),
        Command::Differ(arguments) => differ::differ(&arguments),
    };
    exit(verdict.map(|verdict| match verdict {
        Verdict::Clean => 0,
        Verdict::Broken => 1,
    }))
}

fn exit(status: anyhow::Result<u8>) -> ExitCode {
    let status = status.unwrap_or_else(|error| {
        eprintln!("rumpvm: {error:#}");
        2
    });
    ExitCode::from(status)
}

impl Verdict {
    fn of(passed: bool) -> Self {
        if passed { Self::Clean } else { Self::Broken }
    }
}
