//! execve(2): a process becomes another program.
//!
//! Flow:  path -> file -> `#!` as often as need be -> [`mod@elf`] read and checked -> other threads end -> a fresh space ->
//!        segments, [`stack`] -> registers.
//! Sleep: for pages of the file, and until the other threads have ended.
//!
//! E1. Whatever can be wrong with the file is found while the old program is still there; what fails afterwards, for
//!     want of memory, ends the process.

mod load;
mod script;
mod stack;

use alloc::vec::Vec;

use rumpvm::sync::Ordering;
use rumpvm::{CallError, Direction, Hold, Layout, Randomness};
use rumpvm_arch::Format;
use rumpvm_bare::{Bare, Kernel};
use rumpvm_files::elf;
use rumpvm_files::executing::Executing;
use rumpvm_files::volume::MountFlags;
use rumpvm_files::{Credentials, Entry, Errno, Rights};

use super::chance;
use super::ids::{Gains, capability};
use super::process::Image;
use super::signal::Signal;
use super::system::system;
use super::thread::{AltStack, Thread};

/// What a program is given.
pub(crate) struct Words {
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) environment: Vec<Vec<u8>>,
}

/// Most bytes of all words: a quarter of the usual stack, as on Linux.
pub(crate) const MOST_BYTES: usize = 2 << 20;
/// Most bytes of one.
pub(crate) const LONGEST: usize = 128 << 10;

/// A program that can be loaded: its file, what is in it, what it is given.
struct Ready {
    /// Nobody opens it for writing while it runs.
    file: Hold<Executing<Bare>, Bare>,
    program: elf::Program,
    /// What loads the rest of it, if it says so.
    interpreter: Option<(Hold<Entry<Bare>, Bare>, elf::Program)>,
    words: Words,
    /// The path that was called.
    called: Vec<u8>,
    /// Whom the file makes of who executes it.
    gains: Gains,
}

/// Makes `thread`'s process run the file `path`, found by `find`.
pub(crate) fn exec(
    thread: &mut Thread,
    path: Vec<u8>,
    words: Words,
    find: impl Fn(&[u8]) -> Result<Hold<Entry<Bare>, Bare>, Errno>,
) -> Result<(), Errno> {
    let ready = prepare(thread, path, words, find)?;
    let process = thread.task.process.clone();
    let vm = &system().kernel.vm;
    // From here on there is no way back (E1).
    process.for_each_task(|task| {
        if !task.is(&thread.task) {
            task.tell_to_end();
        }
    });
    super::futex::let_go(thread);
    process.usage.note_pages(thread.space().resident_pages(vm));
    process.memory.exec(vm).map_err(|error| match error {
        CallError::Again => Errno::EAGAIN,
        error => error.into(),
    })?;
    let Some(space) = process.memory.space() else { return Err(Errno::ESRCH) };
    thread.enter(space);
    if let Err(error) = become_it(thread, ready) {
        log::warn!("process {} ends in the middle of exec: {error}", process.pid());
        process.end(Signal::KILL.number().cast_signed());
    }
    Ok(())
}

/// Finds the file, and reads of it what decides whether it can be run.
fn prepare(
    thread: &Thread,
    path: Vec<u8>,
    mut words: Words,
    find: impl Fn(&[u8]) -> Result<Hold<Entry<Bare>, Bare>, Errno>,
) -> Result<Ready, Errno> {
    /// A script's interpreter may be a script, and so on.
    const SCRIPTS: usize = 5;
    let who = thread.task.process.credentials()?;
    let called = clone(&path)?;
    let mut path = path;
    for _ in 0..SCRIPTS {
        let file = find(&path)?;
        may_execute(&who, &file)?;
        let head = elf::read_head(&file)?;
        if let Some(script) = script::Script::parse(&head)? {
            path = script.rewrite(path, &mut words)?;
            continue;
        }
        let program = read_program(&file, &head)?;
        let interpreter = match &program.interpreter {
            Some(path) => {
                let file = find(path)?;
                may_execute(&who, &file)?;
                let head = elf::read_head(&file)?;
                let program = read_program(&file, &head)?;
                Some((file, program))
            }
            None => None,
        };
        let gains = match thread.task.process.no_new_rights.load(Ordering::Relaxed) {
            0 => gains(&file),
            _ => Gains::default(),
        };
        let file = Hold::try_new(Executing::begin(&file)?)?;
        return Ok(Ready { file, program, interpreter, words, called, gains });
    }
    Err(Errno::ELOOP)
}

/// Checks that `who` may execute `file`, where it is.
fn may_execute(who: &Credentials, file: &Hold<Entry<Bare>, Bare>) -> Result<(), Errno> {
    let flags = file.node().volume().flags();
    if file.node().regular().is_none() || flags.contains(MountFlags::NO_EXECUTE) {
        return Err(Errno::EACCES);
    }
    who.check(file.node(), Rights::EXECUTE)
}

/// What the set-user-id and set-group-id bits of `file` give.
fn gains(file: &Hold<Entry<Bare>, Bare>) -> Gains {
    const SET_USER: u32 = 0o4000;
    /// Without the group's right to execute it, the bit means something else.
    const SET_GROUP: u32 = 0o2010;
    if file.node().volume().flags().contains(MountFlags::NO_SUID) {
        return Gains::default();
    }
    let attributes = file.node().attributes();
    let has = |bits: u32| attributes.mode & bits == bits;
    Gains {
        user: has(SET_USER).then_some(attributes.user),
        group: has(SET_GROUP).then_some(attributes.group),
    }
}

fn read_program(file: &Hold<Entry<Bare>, Bare>, head: &[u8]) -> Result<elf::Program, Errno> {
    elf::Program::read(file, head, Kernel::USER_END.0)
}

/// Loads it into the fresh space and makes everything else of the process fit.
fn become_it(thread: &mut Thread, ready: Ready) -> Result<(), Errno> {
    let process = thread.task.process.clone();
    let limits = process.limits.lock().clone();
    let locks_freely = process.can(capability::IPC_LOCK);
    let space = thread.space().clone();
    space.set_limits(limits.of_space(locks_freely));
    let random = Randomness::usual::<<Bare as rumpvm_platform::Platform>::Format>(chance::word());
    let is_fixed = process.personality.load(Ordering::Relaxed) & NO_RANDOMIZE != 0;
    let random = (!is_fixed && chance::is_wanted()).then_some(random);
    let layout = Layout::new::<Kernel>(Direction::Down, limits.stack(), random);
    space.set_layout(layout);
    let is_raised = process.ids.lock().exec(ready.gains);
    let loaded = load::load(&space, ready.file.entry(), &ready.program, load::Base::Program)?;
    let interpreter = match &ready.interpreter {
        Some((file, program)) => Some(load::load(&space, file, program, load::Base::Interpreter)?),
        None => None,
    };
    space.set_brk_base(rumpvm_arch::VirtAddr(loaded.end.saturating_add(layout.heap_gap)));
    let made = stack::make(thread, &ready, &loaded, interpreter.as_ref(), layout.stack_top)?;
    let mut image = Image {
        file: Some(ready.file.clone()),
        arguments: made.arguments,
        environment: made.environment,
        vector: made.vector,
        stack: made.pointer.0,
        code: loaded.code,
        data: loaded.data,
        ..Image::NONE
    };
    let name = ready.called.rsplit(|byte| *byte == b'/').next();
    image.set_name(name.unwrap_or_default());
    let old = core::mem::replace(&mut *process.image.lock(), image);
    drop(old);
    process.actions.lock().exec();
    process.has_execed.store(1, Ordering::Relaxed);
    process.dumpable.store(u32::from(!is_raised), Ordering::Relaxed);
    if is_raised {
        // Whoever was its parent's user has no say any more.
        process.parent_signal.store(0, Ordering::Relaxed);
    }
    let table = process.files.lock().clone();
    if let Some(table) = table {
        // Whoever shares the table keeps it as it is.
        let own = Hold::try_new(table.try_clone()?)?;
        own.inherit_locks(&table);
        own.exec();
        let old = process.files.lock().replace(own);
        drop(old);
    }
    system().timers.forget_made(process.pid());
    thread.task.number.store(process.pid(), Ordering::SeqCst);
    *thread.task.name.lock() = None;
    thread.alt_stack = AltStack::NONE;
    (thread.clear_at, thread.robust, thread.sequences) = (0, (0, 0), None);
    (thread.restart, thread.sleeps_until) = (None, None);
    let entry = interpreter.map_or(loaded.entry, |interpreter| interpreter.entry);
    thread.program.reset(entry, made.pointer);
    Ok(())
}

/// `ADDR_NO_RANDOMIZE`.
const NO_RANDOMIZE: u32 = 0x4_0000;

/// A copy of `bytes`.
pub(crate) fn clone(bytes: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut copy = Vec::new();
    rumpvm::sync::try_reserve::<_, Bare>(&mut copy, bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}
