//! Linux's system calls, as far as static programs need them, on top of the component and of `rumpvm-files`.
//!
//! Reading order: [`start`] (from an initial ramdisk to the first process), `thread` (a program's thread, from trap to trap),
//! `calls` (number -> function), `process` and `task` (what they change), `exec`, `signal`, `futex`, `proc`.
//!
//! | module | what |
//! |---|---|
//! | `system` | which processes there are; what they have in common |
//! | `process`, `ids`, `limits`, `usage` | one process |
//! | `task`, `thread` | one thread: for others, and for itself |
//! | `user` | a program's memory, as the kernel reaches it |
//! | `calls` | the calls, one file for each family |
//! | `exec` | a process becomes another program |
//! | `signal`, `faults`, `timers` | what interrupts a program |
//! | `futex`, `barrier` | who waits for a word of memory; order between CPUs |
//! | `end`, `finish` | the end of threads, of processes, of everything |
//! | `console`, `block`, `proc`, `names`, `chance` | devices and files that are made up |
//!
//! A program can ask for anything: every address that it names goes through `user`, every number is looked at, and every
//! large record is made by a call that can fail.

mod barrier;
mod block;
mod calls;
mod chance;
mod class;
mod console;
mod end;
mod exec;
mod faults;
mod finish;
mod futex;
mod ids;
mod limits;
mod names;
mod proc;
mod process;
mod schedule;
mod signal;
mod start;
mod system;
mod task;
mod thread;
mod timers;
mod usage;
mod user;

pub(crate) use start::run;
