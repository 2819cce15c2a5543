//! Behaviour cases: what the component promises, each as one function that any home can run.
//!
//! A case needs only the [`Platform`] trait, so the same table runs hosted and on bare metal. It gets a
//! machine in a quiet moment, on a CPU, with at least 12 MiB free and no process; it drives the component
//! through its public calls, and panics when a promise is broken. It leaves nothing behind: after each one
//! the runner calls `Vm::check`, and finds as many tables and nodes freed as were made.
//!
//! Flow:  [`all`] -> runner -> [`Case::run`] -> component.
//! Locks: none. Sleep: only as the calls do, and never for another thread, of which there is none.
#![no_std]

extern crate alloc;

mod file;
mod program;

mod anon;
mod brk;
mod copy;
mod cut_off;
mod device;
mod file_failures;
mod file_private;
mod file_shared;
mod flushes;
mod fork;
mod frames;
mod guard;
mod inherit;
mod limits;
mod madvise;
mod memory;
mod mincore;
mod mlock;
mod mmap;
mod mprotect;
mod mremap;
mod mremap_move;
mod msync;
mod munmap;
mod placement;
mod pmap;
mod process;
mod process_madvise;
mod remap_file_pages;
mod remove;
mod reverse;
mod seals;
mod shm;
mod stack;
mod tables;

use alloc::vec::Vec;

use rumpvm::Vm;
use rumpvm_platform::Platform;

pub use file::RamFile;
pub use program::{PAGE, Program};

/// One promise.
pub struct Case<P: Platform> {
    /// What it is about.
    pub subject: &'static str,
    /// The promise.
    pub name: &'static str,
    /// Panics if it is broken.
    pub run: fn(&Vm<P>),
}

/// Lists the cases of a file, in the order of the file.
macro_rules! cases {
    ($($name:ident,)+) => {
        pub(crate) fn table<P: rumpvm_platform::Platform>() -> alloc::vec::Vec<crate::Case<P>> {
            let subject = module_path!().rsplit("::").next().unwrap_or_default();
            alloc::vec![$(crate::Case { subject, name: stringify!($name), run: $name::<P> }),+]
        }
    };
}
use cases;

/// Every case.
pub fn all<P: Platform>() -> impl Iterator<Item = Case<P>> {
    let tables: [Vec<Case<P>>; 35] = [
        frames::table(),
        pmap::table(),
        reverse::table(),
        flushes::table(),
        tables::table(),
        anon::table(),
        fork::table(),
        file_private::table(),
        file_shared::table(),
        file_failures::table(),
        memory::table(),
        cut_off::table(),
        seals::table(),
        shm::table(),
        device::table(),
        mmap::table(),
        placement::table(),
        munmap::table(),
        mprotect::table(),
        mremap::table(),
        mremap_move::table(),
        madvise::table(),
        guard::table(),
        remove::table(),
        inherit::table(),
        process_madvise::table(),
        remap_file_pages::table(),
        msync::table(),
        mincore::table(),
        mlock::table(),
        brk::table(),
        stack::table(),
        copy::table(),
        process::table(),
        limits::table(),
    ];
    tables.into_iter().flatten()
}
