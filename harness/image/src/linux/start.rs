//! The start: from the initial ramdisk to the first process, and to its end.
//!
//! Flow:  command line -> [`Wishes`] -> ramdisk unpacked into the tree -> devices, `/proc` -> first process -> its exit
//!        status.
//!
//! | word | what it says |
//! |---|---|
//! | `console=stream` | standard input and output are bytes, no terminal; errors go to the third port |
//! | `norandmaps` | addresses are always the same |
//! | `check` | at the end every invariant is checked |
//! | `--` | the rest is the program and its words; a space in one of them is written `%20`, a percent sign `%25`, nothing `%` |

use alloc::vec::Vec;

use rumpvm::Hold;
use rumpvm_bare::{Bare, BootInfo, Program, calendar};
use rumpvm_files::services::Driver;
use rumpvm_files::table::OnExec;
use rumpvm_files::volume::PROC;
use rumpvm_files::{
    Credentials, Errno, FileType, OpenFlags, Services, Table, Time, Tree, Walk, cpio,
};

use super::calls::job;
use super::exec::{self, Words};
use super::ids::Ids;
use super::process::{Parts, Place, Process};
use super::schedule::Schedule;
use super::system::System;
use super::task::Task;
use super::thread::{self, Thread};
use super::{block, chance, console, finish, proc};
use crate::kernel::{self, HeapSize};

/// Exit status when there is no program to run.
const NO_PROGRAM: u8 = 127;

/// What the command line asks for.
#[derive(Default)]
struct Wishes {
    console: console::Manner,
    checks: bool,
    program: Vec<Vec<u8>>,
}

impl Wishes {
    fn read<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut wishes = Self::default();
        let mut words = words.peekable();
        for word in words.by_ref() {
            match word {
                "console=stream" => wishes.console = console::Manner::Stream,
                "norandmaps" => chance::leave_out(),
                "check" => wishes.checks = true,
                "--" => break,
                other => log::warn!("`{other}` means nothing here"),
            }
        }
        wishes.program = words.map(decode).collect();
        wishes
    }
}

/// A word as it was before it had to fit between spaces.
fn decode(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Nothing, which would not be seen between two spaces.
    let mut rest = if word == "%" { &[][..] } else { word.as_bytes() };
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..2).and_then(|code| core::str::from_utf8(code).ok());
        let value = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match (first, value) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    bytes
}

/// Runs the program that the command line names; its exit status.
pub(crate) fn run<'a>(boot: &'static BootInfo, words: impl Iterator<Item = &'a str>) -> u8 {
    let wishes = Wishes::read(words);
    // From here a program can tell how long the start took: it reads the same counter.
    log::info!("the counter was at {} at the first instruction", calendar::ticks_at_entry());
    let kernel = kernel::start(HeapSize::Grows);
    match first_process(boot, kernel, &wishes) {
        Ok(()) => finish::wait(wishes.checks),
        Err(error) => {
            let name = wishes.program.first().map_or(&b"nothing"[..], |name| name);
            log::error!("cannot run {}: {error}", name.escape_ascii());
            NO_PROGRAM
        }
    }
}

fn first_process(
    boot: &'static BootInfo,
    kernel: &'static kernel::Kernel,
    wishes: &Wishes,
) -> Result<(), Errno> {
    let services = Services {
        vm: &kernel.vm,
        now: time,
        random: chance::fill,
        more_memory: || kernel::get().feed(),
        device,
    };
    let tree = Tree::try_new(services)?;
    fill(&tree, boot)?;
    let system = System::start(kernel, tree);
    give_back(boot, kernel);
    mount(system)?;
    console::start(wishes.console)?;
    let process = make(system)?;
    job::begin(&process);
    let program = match wishes.program.is_empty() {
        true => Vec::from([exec::clone(b"/bin/sh")?]),
        false => wishes.program.clone(),
    };
    let task = Task::try_new(process.pid(), &process, 0, Schedule::USUAL)?;
    process.add_task(&task)?;
    system.enlist(&process)?;
    let standing = task.scheduled.standing.clone();
    Bare::spawn_with(None, standing, move || begin(task, program)).map_err(|_| Errno::ENOMEM)
}

/// Unpacks the ramdisk.
fn fill(tree: &Tree<Bare>, boot: &BootInfo) -> Result<(), Errno> {
    for module in boot.modules() {
        cpio::unpack(module.bytes(), tree.root()).map_err(|trouble| {
            log::error!("the initial ramdisk cannot be unpacked: {trouble}");
            Errno::EINVAL
        })?;
    }
    Ok(())
}

/// The ramdisk's place is memory like any other, now that its files are elsewhere.
fn give_back(boot: &BootInfo, kernel: &kernel::Kernel) {
    for module in boot.modules() {
        kernel.add_module(module);
    }
}

/// Directories and devices that every program counts on.
fn mount(system: &'static System) -> Result<(), Errno> {
    let (root, who) = (system.tree.root(), Credentials::root());
    let walk = Walk { root, from: root, who: &who };
    for (path, mode) in [
        (&b"/dev"[..], 0o755),
        (b"/dev/shm", 0o1777),
        (b"/dev/pts", 0o755),
        (b"/proc", 0o555),
        (b"/tmp", 0o1777),
        (b"/etc", 0o755),
        (b"/root", 0o700),
    ] {
        match walk.mkdir(path, mode) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    console::make_devices(&walk)?;
    block::start(&walk)?;
    match walk.symlink(b"/proc/self/fd", b"/dev/fd") {
        Ok(_) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error),
    }
    let volume = system.tree.volume(PROC)?;
    let proc = proc::new_root(&volume)?;
    let at = walk.find(b"/proc", rumpvm_files::walk::Last::Follow)?;
    system.tree.mount(&at, proc, b"proc", Default::default())
}

/// The first process, without threads.
fn make(system: &'static System) -> Result<Hold<Process, Bare>, Errno> {
    let root = system.tree.root();
    let parts = Parts {
        memory: system.kernel.vm.first_process()?,
        files: Hold::try_new(Table::new())?,
        place: Place { root: root.clone(), here: root.clone(), mask: 0o022 },
        ids: Ids::root(),
        exit_signal: 0,
    };
    Ok(Process::first(parts)?)
}

/// The first program's thread.
fn begin(task: Hold<Task, Bare>, program: Vec<Vec<u8>>) {
    let process = task.process.clone();
    let Some(space) = process.memory.space() else { return };
    let none = rumpvm_arch::VirtAddr(0);
    let mut thread = Thread::new(task, Program::new(none, none), space);
    if let Err(error) = open_console(&thread).and_then(|()| exec_first(&mut thread, program)) {
        log::error!("cannot run the program: {error}");
        process.end(i32::from(NO_PROGRAM) << 8);
    }
    thread::run(thread);
}

fn exec_first(thread: &mut Thread, program: Vec<Vec<u8>>) -> Result<(), Errno> {
    let path = exec::clone(&program[0])?;
    let environment = [
        &b"HOME=/root"[..],
        b"PATH=/bin:/sbin:/usr/bin:/usr/sbin",
        b"TERM=linux",
        b"USER=root",
        b"SHELL=/bin/sh",
        b"PWD=/",
    ];
    let environment = environment.iter().map(|word| word.to_vec()).collect();
    let words = Words { arguments: program, environment };
    let process = thread.task.process.clone();
    exec::exec(thread, path, words, |path| super::calls::find(&process, path))
}

/// Standard input, output and error.
fn open_console(thread: &Thread) -> Result<(), Errno> {
    let process = &thread.task.process;
    let table = process.files.lock().clone().ok_or(Errno::EBADF)?;
    let root = super::system::system().tree.root();
    let who = Credentials::root();
    let walk = Walk { root, from: root, who: &who };
    for path in console::standard_files() {
        let open = walk.open(path, OpenFlags::READ_WRITE, 0, &thread.task.waker)?;
        table.add(open, 0, 8, OnExec::Keep)?;
    }
    Ok(())
}

/// What stands behind a device.
fn device(file_type: FileType, number: u64) -> Driver<Bare> {
    match file_type {
        FileType::Block => block::device(number),
        _ => console::device(number),
    }
}

fn time() -> Time {
    let now = calendar::now();
    Time { seconds: (now / 1_000_000_000) as i64, nanoseconds: (now % 1_000_000_000) as u32 }
}
