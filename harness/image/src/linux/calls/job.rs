//! Process groups, sessions, and the terminal that a session has.

use rumpvm::sync::Ordering;
use rumpvm::{Hold, State};
use rumpvm_arch::VirtAddr;
use rumpvm_bare::Bare;
use rumpvm_files::{Errno, Open, OpenFlags};

use super::{Answer, Args};
use crate::linux::console::{self, Console};
use crate::linux::process::Process;
use crate::linux::signal::actions::IGNORE;
use crate::linux::signal::{Info, Signal, send};
use crate::linux::system::system;
use crate::linux::thread::Thread;

fn group_of(process: &Process) -> u32 {
    process.group.load(Ordering::Relaxed)
}

fn session_of(process: &Process) -> u32 {
    process.session.load(Ordering::Relaxed)
}

/// Whether any living process of `session` is in `group`.
fn has_group(session: u32, group: u32) -> bool {
    let mut has = false;
    system().for_each(|process| {
        has |= group_of(process) == group && session_of(process) == session;
    });
    has
}

/// `process` leads a session, whose terminal the console becomes.
pub(crate) fn begin(process: &Process) {
    if let Some(terminal) = console::terminal() {
        terminal.set_session(session_of(process));
        terminal.set_foreground(group_of(process));
    }
}

/// Sends `signal` to the processes of `group`: somebody typed it.
pub(crate) fn typed(group: u32, signal: Option<Signal>) {
    let Some(signal) = signal.filter(|_| group != 0) else { return };
    system().for_each(|process| {
        if group_of(process) == group {
            send::to_process(process, Info::kernel(signal)).ok();
        }
    });
}

/// Whether nobody looks after the group of `process`: no member has a parent of the same session in another group.
///
/// The first process counts as such a parent, other than on Linux: here it may be the shell.
pub(crate) fn is_orphaned(process: &Process) -> bool {
    let group = group_of(process);
    let mut is_orphaned = true;
    system().for_each(|member| {
        let is_alive = member.memory.state() == State::Running;
        is_orphaned &= group_of(member) != group || !is_alive || !has_guardian(member);
    });
    is_orphaned
}

/// Whether its parent is of the same session and in another group.
fn has_guardian(process: &Process) -> bool {
    system().find(process.parent_pid()).is_some_and(|parent| {
        group_of(&parent) != group_of(process) && session_of(&parent) == session_of(process)
    })
}

/// `process` is about to end: notes whose groups may be orphaned by that, of its children and, returned, its own.
pub(crate) fn note_guarded(process: &Process) -> bool {
    let pid = process.pid();
    system().for_each(|child| {
        if child.parent_pid() == pid && has_guardian(child) {
            // Others end meanwhile, and look for those that they have noted.
            child.guarded_by.store(pid, Ordering::Relaxed);
        }
    });
    has_guardian(process)
}

/// It has ended, and its children have other parents: of the groups that were noted, those that are orphaned and have
/// been stopped hear of it and go on.
pub(crate) fn abandon(process: &Process, was_guarded: bool) {
    if was_guarded {
        hang_up(process);
    }
    let pid = process.pid();
    system().for_each(|child| {
        if child.guarded_by.compare_exchange(pid, 0, Ordering::Relaxed).is_ok() {
            hang_up(child);
        }
    });
}

/// Tells the group of `member`, if that is orphaned and stopped.
fn hang_up(member: &Process) {
    let (group, mut is_stopped) = (group_of(member), false);
    system().for_each(|other| {
        is_stopped |= group_of(other) == group && other.stopped.load(Ordering::SeqCst) != 0;
    });
    if is_stopped && is_orphaned(member) {
        typed(group, Some(Signal::HUP));
        typed(group, Some(Signal::CONT));
    }
}

/// Whether the caller may read `open` now. In the background of its terminal it is stopped by SIGTTIN; the call fails
/// where that does nothing.
pub(super) fn reads(thread: &Thread, open: &Open<Bare>) -> Result<(), Errno> {
    match console::terminal_of(open) {
        Some(terminal) => in_foreground(thread, terminal, Signal::TTIN),
        None => Ok(()),
    }
}

/// Whether it may write: in the background only if the terminal's settings do not say that it is stopped by SIGTTOU.
pub(super) fn writes(thread: &Thread, open: &Open<Bare>) -> Result<(), Errno> {
    match console::terminal_of(open) {
        Some(terminal) if terminal.stops_output() => in_foreground(thread, terminal, Signal::TTOU),
        _ => Ok(()),
    }
}

/// Sends `signal` to the caller's group if its terminal is in the foreground of others.
fn in_foreground(thread: &Thread, terminal: &Console, signal: Signal) -> Result<(), Errno> {
    let process = &thread.task.process;
    let (group, foreground) = (group_of(process), terminal.foreground());
    if terminal.session() != session_of(process) || foreground == 0 || foreground == group {
        return Ok(());
    }
    let is_ignored = process.actions.lock().get(signal).handler == IGNORE;
    if is_ignored || thread.task.mask.load(Ordering::SeqCst) & signal.bit() != 0 {
        return if signal == Signal::TTIN { Err(Errno::EIO) } else { Ok(()) };
    }
    if is_orphaned(process) {
        return Err(Errno::EIO);
    }
    typed(group, Some(signal));
    Err(Errno::EINTR)
}

/// A process ends: with the leader of a session its terminal goes, and those in the foreground hear of it.
pub(crate) fn leave(process: &Process) {
    let session = session_of(process);
    let Some(terminal) = console::terminal() else { return };
    if process.pid() == session && terminal.session() == session {
        let group = terminal.foreground();
        terminal.set_session(0);
        terminal.set_foreground(0);
        typed(group, Some(Signal::HUP));
        typed(group, Some(Signal::CONT));
    }
}

/// A leader without terminal that opens one gets it.
pub(super) fn opened(thread: &Thread, open: &Open<Bare>, flags: OpenFlags) {
    let process = &thread.task.process;
    let leads = process.pid() == session_of(process);
    let wants = !flags.contains(OpenFlags::NO_TERMINAL) && !open.is_path();
    if leads && wants && console::terminal_of(open).is_some_and(|terminal| terminal.session() == 0)
    {
        begin(process);
    }
}

/// Requests of ioctl(2) that concern processes.
mod request {
    pub(super) const SET_CONTROLLING: u32 = 0x540e;
    pub(super) const GET_GROUP: u32 = 0x540f;
    pub(super) const SET_GROUP: u32 = 0x5410;
    pub(super) const GIVE_UP: u32 = 0x5422;
    pub(super) const GET_SESSION: u32 = 0x5429;
}

/// ioctl(2) of a terminal that concerns processes; `None` if it is none of these.
pub(super) fn control(
    thread: &Thread,
    open: &Hold<Open<Bare>, Bare>,
    request: u32,
    at: VirtAddr,
) -> Option<Answer> {
    let terminal = console::terminal_of(open)?;
    if Console::is_change(request)
        && let Err(error) = in_foreground(thread, terminal, Signal::TTOU)
    {
        let is_orphaned = request == request::SET_GROUP && error == Errno::EIO;
        return Some(Err(if is_orphaned { Errno::ENOTTY } else { error }));
    }
    match request {
        request::SET_CONTROLLING
        | request::GET_GROUP
        | request::SET_GROUP
        | request::GIVE_UP
        | request::GET_SESSION => Some(control_terminal(thread, terminal, request, at)),
        _ => None,
    }
}

fn control_terminal(
    thread: &Thread,
    terminal: &'static Console,
    request: u32,
    at: VirtAddr,
) -> Answer {
    let process = &thread.task.process;
    let (session, owner) = (session_of(process), terminal.session());
    match request {
        request::SET_CONTROLLING => {
            if process.pid() != session || (owner != 0 && owner != session) {
                return Err(Errno::EPERM);
            }
            begin(process);
        }
        _ if owner != session => return Err(Errno::ENOTTY),
        request::GET_GROUP => thread.user().put_half(at, terminal.foreground())?,
        request::SET_GROUP => {
            let group = thread.user().half(at)?;
            if group.cast_signed() < 0 {
                return Err(Errno::EINVAL);
            }
            if !has_group(session, group) {
                return Err(Errno::EPERM);
            }
            terminal.set_foreground(group);
        }
        request::GIVE_UP => leave(process),
        _ => thread.user().put_half(at, owner)?,
    }
    Ok(0)
}

/// The process of that number; 0 is one's own.
fn target(thread: &Thread, pid: u32) -> Result<Hold<Process, Bare>, Errno> {
    match pid {
        0 => Ok(thread.task.process.clone()),
        pid => system().find(pid).ok_or(Errno::ESRCH),
    }
}

pub(super) fn getpgrp(thread: &mut Thread, _: Args) -> Answer {
    Ok(u64::from(group_of(&thread.task.process)))
}

pub(super) fn getpgid(thread: &mut Thread, args: Args) -> Answer {
    Ok(u64::from(group_of(&*target(thread, args.half(0))?)))
}

pub(super) fn getsid(thread: &mut Thread, args: Args) -> Answer {
    Ok(u64::from(session_of(&*target(thread, args.half(0))?)))
}

pub(super) fn setpgid(thread: &mut Thread, args: Args) -> Answer {
    if args.int(1) < 0 {
        return Err(Errno::EINVAL);
    }
    let own = &thread.task.process;
    let process = target(thread, args.half(0))?;
    let group = if args.half(1) == 0 { process.pid() } else { args.half(1) };
    if process.pid() != own.pid() {
        if process.parent_pid() != own.pid() {
            return Err(Errno::ESRCH);
        }
        if session_of(&process) != session_of(own) {
            return Err(Errno::EPERM);
        }
        if process.has_execed.load(Ordering::Relaxed) != 0 {
            return Err(Errno::EACCES);
        }
    }
    if process.memory.state() != State::Running {
        return Err(Errno::ESRCH);
    }
    let leads = process.pid() == session_of(&process);
    if leads || (group != process.pid() && !has_group(session_of(&process), group)) {
        return Err(Errno::EPERM);
    }
    process.group.store(group, Ordering::Relaxed);
    Ok(0)
}

pub(super) fn setsid(thread: &mut Thread, _: Args) -> Answer {
    let process = &thread.task.process;
    let pid = process.pid();
    let mut leads = false;
    system().for_each(|other| leads |= group_of(other) == pid);
    if leads {
        return Err(Errno::EPERM);
    }
    process.group.store(pid, Ordering::Relaxed);
    process.session.store(pid, Ordering::Relaxed);
    Ok(u64::from(pid))
}
