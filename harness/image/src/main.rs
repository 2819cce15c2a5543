//! The boot image: what runs on bare metal is chosen by the first word of its command line.
//!
//! | word | what runs |
//! |---|---|
//! | `linux` | a Linux program from the initial ramdisk; further words say which, and how: see `linux/start.rs` |
//! | `cases` | every behaviour case, as kernel code; further words choose some by a part of their names |
//! | `ring3` | programs of a few instructions, and what the kernel must make of them |
//! | `storm` | kernel threads that are switched away in the middle of calls, several on each CPU |
//! | `disk` | a disk that is mapped as a file, stored to, and read again; it must begin with zeros |
//! | `panic`, `overflow` | bugs, to see whether the machine tells of them and ends |
//!
//! Flow:  boot loader -> `rumpvm-bare` -> [`run`] -> exit status.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod cases;
mod disk;
mod kernel;
mod linux;
mod probe;
mod storm;
mod trouble;

use rumpvm_bare::BootInfo;

rumpvm_bare::main!(run);

/// Exit status for a command line that says nothing known.
const UNKNOWN: u8 = 2;

/// Does what the command line says.
fn run(boot: &'static BootInfo) -> u8 {
    let mut words = boot.command_line().split_whitespace();
    // A boot loader may put the image's own name first.
    let first = words.by_ref().find(|word| !word.contains('/') && !word.contains('.'));
    match first {
        Some("linux") => linux::run(boot, words),
        Some("cases") => cases::run(words),
        Some("ring3") => probe::run(),
        Some("storm") => storm::run(),
        Some("disk") => disk::run(),
        Some("panic") => trouble::panic(),
        Some("overflow") => trouble::overflow(),
        other => {
            log::error!(
                "nothing to do for {other:?}: say `linux`, `cases`, `ring3`, `storm` or `disk`"
            );
            UNKNOWN
        }
    }
}

/// For other targets there is nothing to run; the sources are checked all the same.
#[cfg(not(target_os = "none"))]
fn main() {
    panic!("rumpvm-image runs on bare metal: `cargo xtask boot` boots it");
}
