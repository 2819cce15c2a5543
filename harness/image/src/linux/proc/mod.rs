//! `/proc`: the system and its processes, as files that are made when somebody reads them.
//!
//! | file | what |
//! |---|---|
//! | `mod` | the root: names of the system's files, and a directory for each process |
//! | `system` | meminfo, vmstat, stat and the like |
//! | `sys` | `/proc/sys`: settings |
//! | `process` | the directory of a process, and its short files |
//! | `status` | status, stat, statm |
//! | `maps` | maps and smaps |
//! | `memory` | mem and pagemap |
//! | `descriptors` | fd and fdinfo |
//!
//! Flow:  lookup -> a node whose content is a function -> text, from what the system and the component say.
//! Owns:  nothing; a node holds the process that it is about.

mod descriptors;
mod maps;
mod memory;
mod process;
mod status;
mod sys;
mod system;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

use rumpvm::Hold;
use rumpvm_bare::Bare;
use rumpvm_files::node::{Item, Listing};
use rumpvm_files::synthetic::{Named, Template};
use rumpvm_files::{Credentials, Entry, Errno, FileType, Node, Text, Volume};
use rumpvm_platform::{MAX_CPUS, Seam};

/// Text of a file in the making.
type Out = Text<Bare>;
/// A node, made.
type Made = Result<Hold<Node<Bare>, Bare>, Errno>;
/// A volume.
type Of = Hold<Volume<Bare>, Bare>;

static ROOT: Credentials = Credentials::root();

/// Number of the root directory, and where those of processes begin.
const ROOT_NUMBER: u64 = 1;
const FIRST_PROCESS: u64 = 1 << 16;

/// Appends to a text.
fn put(text: &mut Out, arguments: fmt::Arguments<'_>) -> Result<(), Errno> {
    text.write_fmt(arguments).map_err(|_| Errno::ENOMEM)
}

/// A template for nodes of `volume`.
fn template(volume: &Of, mode: u32) -> Template<'_, Bare> {
    Template { volume, number: None, mode, owner: &ROOT }
}

/// A file that anybody may read.
fn file(volume: &Of, make: impl Fn(&mut Out) -> Result<(), Errno> + Send + Sync + 'static) -> Made {
    template(volume, 0o444).file(make)
}

/// The process that each CPU runs; see [`runs`].
static CURRENT: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// The calling CPU runs a thread of process `pid`. Called whenever such a thread goes on.
pub(crate) fn runs(pid: u32) {
    CURRENT[Bare::cpu_id().0 as usize].store(pid, Ordering::Relaxed);
}

/// The process that asks.
fn asking() -> u32 {
    CURRENT[Bare::cpu_id().0 as usize].load(Ordering::Relaxed)
}

/// The root of a `/proc`.
pub(crate) fn new_root(volume: &Of) -> Result<Hold<Entry<Bare>, Bare>, Errno> {
    let template = Template { volume, number: Some(ROOT_NUMBER), mode: 0o555, owner: &ROOT };
    let node = template.directory(Root { volume: volume.clone() })?;
    Ok(Entry::root(node)?)
}

/// The root directory.
struct Root {
    volume: Of,
}

/// What is there besides processes.
static NAMES: [Named<Bare, Of>; 17] = [
    named("self", FileType::Link, |of| {
        template(of, 0o777).link(|out| put(out, format_args!("{}", asking())))
    }),
    named("thread-self", FileType::Link, |of| {
        let text = |out: &mut Out| put(out, format_args!("{0}/task/{0}", asking()));
        template(of, 0o777).link(text)
    }),
    named("mounts", FileType::Link, |of| {
        template(of, 0o777).link(|out| put(out, format_args!("self/mounts")))
    }),
    named("meminfo", FileType::Regular, |of| file(of, system::meminfo)),
    named("vmstat", FileType::Regular, |of| file(of, system::vmstat)),
    named("stat", FileType::Regular, |of| file(of, system::stat)),
    named("uptime", FileType::Regular, |of| file(of, system::uptime)),
    named("loadavg", FileType::Regular, |of| file(of, system::loadavg)),
    named("version", FileType::Regular, |of| file(of, system::version)),
    named("cpuinfo", FileType::Regular, |of| file(of, system::cpuinfo)),
    named("filesystems", FileType::Regular, |of| file(of, system::filesystems)),
    named("cmdline", FileType::Regular, |of| file(of, system::cmdline)),
    named("swaps", FileType::Regular, |of| file(of, system::swaps)),
    named("devices", FileType::Regular, |of| file(of, system::devices)),
    named("partitions", FileType::Regular, |of| file(of, system::partitions)),
    named("sysrq-trigger", FileType::Regular, |of| {
        template(of, 0o200).writable(|_| Ok(()), system::trigger)
    }),
    named("sys", FileType::Directory, sys::root),
];

const fn named<T>(name: &'static str, file_type: FileType, make: fn(&T) -> Made) -> Named<Bare, T> {
    Named { name, file_type, make }
}

impl Listing<Bare> for Root {
    fn lookup(&self, name: &[u8]) -> Result<Option<Hold<Node<Bare>, Bare>>, Errno> {
        if let Some(named) = NAMES.iter().find(|named| named.name.as_bytes() == name) {
            return (named.make)(&self.volume).map(Some);
        }
        let Some(number) = number(name) else { return Ok(None) };
        let process = super::system::system().find(number);
        process.map(|process| process::directory(&self.volume, process)).transpose()
    }

    fn list(&self, after: u64, each: &mut dyn FnMut(Item<'_>) -> bool) -> Result<(), Errno> {
        for (cookie, named) in (1..).zip(&NAMES).skip(after as usize) {
            let (file_type, name) = (named.file_type, named.name.as_bytes());
            if !each(Item { cookie, number: cookie + 1, file_type, name }) {
                return Ok(());
            }
        }
        let mut pid = after.saturating_sub(FIRST_PROCESS) as u32;
        while let Some(process) = super::system::system().next(pid) {
            pid = process.pid();
            let mut digits = [0; 10];
            let cookie = FIRST_PROCESS + u64::from(pid);
            let (file_type, name) = (FileType::Directory, decimal(pid, &mut digits));
            if !each(Item { cookie, number: cookie, file_type, name }) {
                break;
            }
        }
        Ok(())
    }
}

/// The number that a name says.
fn number(name: &[u8]) -> Option<u32> {
    let is_plain = name.iter().all(u8::is_ascii_digit) && !name.starts_with(b"0");
    core::str::from_utf8(name).ok().filter(|_| is_plain)?.parse().ok()
}

/// The digits of a number.
fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
