//! Births: fork(2), vfork(2), clone(2), clone3(2).
//!
//! Flow:  flags checked -> a thread of this process, or a child with a space of its own, or with this one -> kernel
//!        thread -> its program begins behind the same call, with 0 for an answer.

use bitflags::bitflags;
use rumpvm::sync::Ordering;
use rumpvm::{Hold, WaitFor};
use rumpvm_arch::{Format, VirtAddr};
use rumpvm_bare::{Bare, Kernel, ProgramCopy};
use rumpvm_files::Errno;

use super::{Answer, Args, limits};
use crate::linux::limits::{INFINITY, resource};
use crate::linux::process::{Parts, Process};
use crate::linux::signal::Signal;
use crate::linux::system::system;
use crate::linux::task::Task;
use crate::linux::thread::{self, AltStack, Thread};

bitflags! {
    /// Flags of clone(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Flags: u64 {
        const VM = 0x100;
        const FS = 0x200;
        const FILES = 0x400;
        const SIGHAND = 0x800;
        const VFORK = 0x4000;
        const THREAD = 0x1_0000;
        const SYSVSEM = 0x4_0000;
        const SETTLS = 0x8_0000;
        const PARENT_SETTID = 0x10_0000;
        const CHILD_CLEARTID = 0x20_0000;
        const DETACHED = 0x40_0000;
        const UNTRACED = 0x80_0000;
        const CHILD_SETTID = 0x100_0000;
        const IO = 0x8000_0000;
        const CLEAR_SIGHAND = 0x1_0000_0000;
    }
}

/// What is to be born.
struct Request {
    flags: Flags,
    /// The child's stack pointer; its parent's if it is zero.
    stack: u64,
    parent_number_at: VirtAddr,
    child_number_at: VirtAddr,
    storage: u64,
    exit_signal: u32,
}

pub(super) fn fork(thread: &mut Thread, _: Args) -> Answer {
    birth(thread, &Request::plain(Flags::empty()))
}

pub(super) fn vfork(thread: &mut Thread, _: Args) -> Answer {
    birth(thread, &Request::plain(Flags::VM | Flags::VFORK))
}

pub(super) fn clone(thread: &mut Thread, args: Args) -> Answer {
    /// The signal is in the lowest byte.
    const SIGNAL: u64 = 0xff;
    let word = args.word(0);
    let request = Request {
        flags: flags(word & !SIGNAL & 0xffff_ffff)?,
        stack: args.word(1),
        parent_number_at: args.at(2),
        child_number_at: args.at(3),
        storage: args.word(4),
        exit_signal: (word & SIGNAL) as u32,
    };
    birth(thread, &request)
}

pub(super) fn clone3(thread: &mut Thread, args: Args) -> Answer {
    /// Bytes of `struct clone_args` in its first version, and most that are looked at.
    const LEAST: u64 = 64;
    const MOST: u64 = 4096;
    let (at, bytes) = (args.at(0), args.word(1));
    if bytes < LEAST {
        return Err(Errno::EINVAL);
    }
    if bytes > MOST {
        return Err(Errno::E2BIG);
    }
    let [word, _pidfd, child, parent, signal, stack, stack_bytes, storage] =
        thread.user().words(at)?;
    for more in LEAST / 8..bytes / 8 {
        if thread.user().word(VirtAddr(at.0.saturating_add(8 * more)))? != 0 {
            return Err(Errno::EINVAL);
        }
    }
    if (stack == 0) != (stack_bytes == 0) || signal > 64 {
        return Err(Errno::EINVAL);
    }
    let request = Request {
        flags: flags(word)?,
        stack: stack.wrapping_add(stack_bytes),
        parent_number_at: VirtAddr(parent),
        child_number_at: VirtAddr(child),
        storage,
        exit_signal: signal as u32,
    };
    birth(thread, &request)
}

/// Those that can be had here; namespaces and the like cannot.
fn flags(word: u64) -> Result<Flags, Errno> {
    Flags::from_bits(word).ok_or(Errno::EINVAL)
}

impl Request {
    fn plain(flags: Flags) -> Self {
        let none = VirtAddr(0);
        Self {
            flags,
            stack: 0,
            parent_number_at: none,
            child_number_at: none,
            storage: 0,
            exit_signal: Signal::CHLD.number(),
        }
    }

    fn check(&self) -> Result<(), Errno> {
        let has = |flags| self.flags.contains(flags);
        let bad = (has(Flags::THREAD) && !has(Flags::SIGHAND))
            || (has(Flags::SIGHAND) && !has(Flags::VM))
            || (has(Flags::SIGHAND) && has(Flags::CLEAR_SIGHAND))
            || self.exit_signal > 64;
        if bad {
            return Err(Errno::EINVAL);
        }
        if has(Flags::SETTLS) && self.storage >= Kernel::USER_END.0 {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

fn birth(thread: &mut Thread, request: &Request) -> Answer {
    request.check()?;
    limits::may_be_born(&thread.task.process)?;
    if request.flags.contains(Flags::THREAD) {
        new_thread(thread, request)
    } else {
        new_process(thread, request)
    }
}

fn new_thread(thread: &mut Thread, request: &Request) -> Answer {
    let process = thread.task.process.clone();
    let number = system().task_number();
    let mask = thread.task.mask.load(Ordering::SeqCst);
    let schedule = thread.task.scheduled.get().inherited();
    let task = Task::try_new(number, &process, mask, schedule)?;
    *task.name.lock() = Some(thread.task.name());
    process.add_task(&task).map_err(|_| Errno::EAGAIN)?;
    process.memory.thread_starts();
    if let Err(error) = start(thread, &task, request, AltStack::NONE) {
        process.remove_task(&task);
        process.memory.thread_ends();
        return Err(error);
    }
    Ok(u64::from(number))
}

fn new_process(thread: &mut Thread, request: &Request) -> Answer {
    let parent = thread.task.process.clone();
    let vm = &system().kernel.vm;
    let memory = match request.flags.contains(Flags::VM) {
        true => parent.memory.vfork(vm),
        false => system().kernel.fed(|| parent.memory.fork(vm)),
    }?;
    let child = make(&parent, &memory, request).and_then(|child| {
        let mask = thread.task.mask.load(Ordering::SeqCst);
        let schedule = thread.task.scheduled.get().inherited();
        let task = Task::try_new(child.pid(), &child, mask, schedule)?;
        child.image.lock().name = thread.task.name();
        child.add_task(&task)?;
        system().enlist(&child)?;
        let limit = child.limits.lock().get(resource::CPU).map_or(INFINITY, |limit| limit.soft);
        if limit != INFINITY {
            system().timers.limit(&child, limit)?;
        }
        let own_stack = request.flags.contains(Flags::VM) && request.stack != 0;
        let alt_stack = if own_stack { AltStack::NONE } else { thread.alt_stack };
        start(thread, &task, request, alt_stack)?;
        Ok(child)
    });
    let child = match child {
        Ok(child) => child,
        Err(error) => {
            // Nothing is left of it.
            let pid = memory.pid();
            system().timers.forget_process(pid.0);
            if let Some(child) = system().strike(pid.0)
                && let Some(task) = child.first_task()
            {
                child.remove_task(&task);
            }
            memory.exit(vm, 0);
            parent.memory.wait(vm, WaitFor::Pid(pid), true).ok();
            return Err(error);
        }
    };
    if request.flags.contains(Flags::VFORK) {
        memory.await_release();
    }
    Ok(u64::from(child.pid()))
}

fn make(
    parent: &Hold<Process, Bare>,
    memory: &Hold<rumpvm::Process<Bare>, Bare>,
    request: &Request,
) -> Result<Hold<Process, Bare>, Errno> {
    let files = parent.files.lock().clone().ok_or(Errno::ESRCH)?;
    let files = match request.flags.contains(Flags::FILES) {
        true => files,
        false => Hold::try_new(files.try_clone()?)?,
    };
    let parts = Parts {
        memory: memory.clone(),
        files,
        place: parent.place.lock().clone().ok_or(Errno::ESRCH)?,
        ids: parent.ids.lock().try_clone()?,
        exit_signal: request.exit_signal,
    };
    let child = Process::child(parent, parts)?;
    if request.flags.contains(Flags::CLEAR_SIGHAND) {
        child.actions.lock().exec();
    }
    Ok(child)
}

/// What the child's kernel thread begins with.
struct Begin {
    task: Hold<Task, Bare>,
    copy: ProgramCopy,
    stack: u64,
    storage: Option<u64>,
    number_at: Option<VirtAddr>,
    clear_at: u64,
    alt_stack: AltStack,
}

/// Has a kernel thread run `task`, with a copy of the registers.
fn start(
    thread: &mut Thread,
    task: &Hold<Task, Bare>,
    request: &Request,
    alt_stack: AltStack,
) -> Result<(), Errno> {
    let has = |flags| request.flags.contains(flags);
    if has(Flags::PARENT_SETTID) {
        thread.user().put_half(request.parent_number_at, task.number())?;
    }
    let begin = Begin {
        task: task.clone(),
        copy: thread.program.copy(),
        stack: request.stack,
        storage: has(Flags::SETTLS).then_some(request.storage),
        number_at: has(Flags::CHILD_SETTID).then_some(request.child_number_at),
        clear_at: if has(Flags::CHILD_CLEARTID) { request.child_number_at.0 } else { 0 },
        alt_stack,
    };
    let standing = task.scheduled.standing.clone();
    Bare::spawn_with(None, standing, move || run(begin)).map_err(|_| Errno::EAGAIN)
}

/// The child's kernel thread.
fn run(begin: Begin) {
    let Begin { task, copy, stack, storage, number_at, clear_at, alt_stack } = begin;
    // It cannot have exited before its only thread has run.
    let Some(space) = task.process.memory.space() else { return };
    let mut program = copy.unpack();
    let registers = program.registers();
    registers.rax = 0;
    if stack != 0 {
        registers.rsp = stack;
    }
    let mut thread = Thread::new(task, program, space);
    if let Some(storage) = storage {
        thread.program.set_fs(VirtAddr(storage));
    }
    if let Some(at) = number_at {
        thread.user().put_half(at, thread.number()).ok();
    }
    thread.clear_at = clear_at;
    thread.alt_stack = alt_stack;
    thread::run(thread);
}
