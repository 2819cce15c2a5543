//! What a Linux program sees behind its file descriptors, all of it in memory.
//!
//! | module | what |
//! |---|---|
//! | [`errno`] | Linux's error numbers |
//! | [`mod@wait`] | whoever blocks, and how it is woken: by what it waits for, by a signal, by the clock |
//! | [`transfer`] | bytes on their way from and to the caller's memory |
//! | [`services`] | what the files ask of the kernel around them |
//! | [`access`] | who somebody is, and what he may do |
//! | [`volume`], [`node`], [`entry`] | a file system, one file of it, one name of that file |
//! | [`walk`], [`tree`] | from a path to an entry; what changes the tree |
//! | [`open`], [`table`] | an open file, and a process's numbers for them |
//! | [`pipe`], [`socket`], [`event`], [`tty`], [`synthetic`] | files that are not bytes in memory |
//! | [`executing`] | files that programs run from |
//! | [`poll`], [`stat`] | what several files could do at once; what one says of itself |
//! | [`cpio`], [`elf`] | the first files of all; what of a file would run |
//!
//! Nothing here knows of programs, registers or user addresses. A file's data is a memory file of the component, so
//! mapping a file maps the very pages that read and write see. Every record is made by a call that can fail.
//!
//! Locks, outermost first, are listed in `class`; all come before the component's own.
#![no_std]

extern crate alloc;

pub mod access;
mod class;
pub mod cpio;
pub mod elf;
pub mod entry;
pub mod errno;
pub mod event;
pub mod executing;
mod getdents;
mod layout;
pub mod lock;
mod memory;
mod name;
pub mod node;
pub mod open;
pub mod pipe;
pub mod poll;
mod ring;
pub mod services;
pub mod socket;
pub mod stat;
pub mod synthetic;
pub mod table;
pub mod transfer;
pub mod tree;
pub mod tty;
pub mod volume;
pub mod wait;
pub mod walk;

pub use access::{Capabilities, Credentials, Rights};
pub use entry::Entry;
pub use errno::Errno;
pub use name::{Name, Text};
pub use node::{Attributes, FileType, Kind, Node, Ready, Special};
pub use open::{Open, OpenFlags};
pub use services::{Services, Time};
pub use table::Table;
pub use transfer::{Exchange, Sink, Source};
pub use tree::Tree;
pub use volume::Volume;
pub use wait::{Queue, Waker, wait};
pub use walk::Walk;
