//! Signals: actions, masks, sending, waiting.

use rumpvm::Hold;
use rumpvm::sync::Ordering;
use rumpvm_arch::VirtAddr;
use rumpvm_bare::Bare;
use rumpvm_files::{Errno, wait};

use super::{Answer, Args, time};
use crate::linux::ids::capability;
use crate::linux::process::Process;
use crate::linux::signal::{Action, Info, Set, Signal, code, deliver, frame, send};
use crate::linux::system::system;
use crate::linux::task::Task;
use crate::linux::thread::{AltStack, BadStack, Thread};

/// Bytes of a set of signals.
const SET: u64 = 8;

fn signal(word: u64) -> Result<Signal, Errno> {
    Signal::new(word).ok_or(Errno::EINVAL)
}

pub(super) fn rt_sigaction(thread: &mut Thread, args: Args) -> Answer {
    if args.word(3) != SET {
        return Err(Errno::EINVAL);
    }
    let signal = signal(args.word(0))?;
    let new = match args.word(1) {
        0 => None,
        _ if signal.bit() & Signal::ABSOLUTE != 0 => return Err(Errno::EINVAL),
        _ => {
            let [handler, flags, restorer, mask] = thread.user().words(args.at(1))?;
            Some(Action { handler, flags, restorer, mask: mask & !Signal::ABSOLUTE })
        }
    };
    let process = &thread.task.process;
    let old = {
        let mut actions = process.actions.lock();
        let old = actions.get(signal);
        if let Some(new) = new {
            actions.set(signal, new);
        }
        old
    };
    if new.is_some_and(|new| new.ignores(signal)) {
        process.forget_signals(signal.bit());
    }
    if args.word(2) != 0 {
        let words = [old.handler, old.flags, old.restorer, old.mask];
        thread.user().put_words(args.at(2), &words)?;
    }
    Ok(0)
}

pub(super) fn rt_sigprocmask(thread: &mut Thread, args: Args) -> Answer {
    if args.word(3) != SET {
        return Err(Errno::EINVAL);
    }
    let old = thread.task.mask.load(Ordering::SeqCst);
    if args.word(1) != 0 {
        let set = thread.user().word(args.at(1))?;
        let new = match args.int(0) {
            0 => old | set,
            1 => old & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        thread.set_mask(new);
    }
    if args.word(2) != 0 {
        thread.user().put_words(args.at(2), &[old])?;
    }
    Ok(0)
}

pub(super) fn rt_sigpending(thread: &mut Thread, args: Args) -> Answer {
    if args.word(1) > SET {
        return Err(Errno::EINVAL);
    }
    let own = thread.task.pending.lock().set();
    let all = own | thread.task.process.pending.lock().set();
    let set = all & thread.task.mask.load(Ordering::SeqCst);
    thread.user().write(args.at(0), &set.to_le_bytes()[..args.word(1) as usize])?;
    Ok(0)
}

/// Blocks the set at `at` until the next handler returns; none if there is none.
pub(super) fn mask_meanwhile(thread: &mut Thread, at: VirtAddr, bytes: u64) -> Result<(), Errno> {
    if at.0 == 0 {
        return Ok(());
    }
    if bytes != SET {
        return Err(Errno::EINVAL);
    }
    let set = thread.user().word(at)?;
    thread.saved_mask = Some(thread.task.mask.load(Ordering::SeqCst));
    thread.set_mask(set);
    Ok(())
}

/// Ends that, for a call that came to its own end. What interrupts it instead restores the mask itself.
pub(super) fn mask_again<T>(thread: &mut Thread, outcome: &Result<T, Errno>) {
    if !matches!(outcome, Err(Errno::EINTR))
        && let Some(mask) = thread.saved_mask.take()
    {
        thread.set_mask(mask);
    }
}

pub(super) fn rt_sigsuspend(thread: &mut Thread, args: Args) -> Answer {
    if args.word(1) != SET {
        return Err(Errno::EINVAL);
    }
    mask_meanwhile(thread, args.at(0), SET)?;
    pause(thread, args)
}

pub(super) fn pause(thread: &mut Thread, _: Args) -> Answer {
    wait(&thread.task.waker, &[], None, || None::<u64>)
}

pub(super) fn rt_sigtimedwait(thread: &mut Thread, args: Args) -> Answer {
    if args.word(3) != SET {
        return Err(Errno::EINVAL);
    }
    let set: Set = thread.user().word(args.at(0))? & !Signal::ABSOLUTE;
    let until = time::deadline_at(thread, args.at(2))?;
    let task = thread.task.clone();
    let take = || {
        let own = task.pending.lock().take(set);
        own.or_else(|| task.process.pending.lock().take(set))
    };
    // They are heard meanwhile, so that who sends one interrupts us.
    let mask = task.mask.load(Ordering::SeqCst);
    task.mask.store(mask & !set, Ordering::SeqCst);
    let outcome = loop {
        match wait(&task.waker, &[], until, take) {
            Err(Errno::EINTR) => {
                task.waker.clear();
                if let Some(info) = take() {
                    break Ok(info);
                }
                let all = task.pending.lock().set() | task.process.pending.lock().set();
                if all & !mask != 0 || task.process.is_ending() || task.is_told_to_end() {
                    task.waker.interrupt();
                    break Err(Errno::EINTR);
                }
            }
            Err(Errno::ETIMEDOUT) => break Err(Errno::EAGAIN),
            outcome => break outcome,
        }
    };
    thread.set_mask(mask);
    let info = outcome?;
    deliver::note_delivery(thread, &info);
    if args.word(1) != 0 {
        thread.user().write(args.at(1), &info.to_bytes())?;
    }
    Ok(u64::from(info.signal.number()))
}

pub(super) fn rt_sigreturn(thread: &mut Thread, _: Args) -> Answer {
    match frame::pop(thread) {
        Ok(first) => Ok(first),
        Err(_) => {
            // Its stack has no frame of ours.
            send::force(&thread.task, Info::kernel(Signal::SEGV));
            Ok(0)
        }
    }
}

pub(super) fn sigaltstack(thread: &mut Thread, args: Args) -> Answer {
    let at = thread.program.registers().rsp;
    let old = thread.alt_stack;
    if args.word(0) != 0 {
        let bytes = thread.user().load::<{ AltStack::BYTES }>(args.at(0))?;
        if old.contains(at) {
            return Err(Errno::EPERM);
        }
        thread.alt_stack = AltStack::from_bytes(&bytes).map_err(|error| match error {
            BadStack::Flags => Errno::EINVAL,
            BadStack::TooSmall => Errno::ENOMEM,
        })?;
    }
    if args.word(1) != 0 {
        thread.user().write(args.at(1), &old.to_bytes(at))?;
    }
    Ok(0)
}

/// Checks that the caller may send `signal` to `process`.
pub(super) fn may_send(
    thread: &Thread,
    process: &Process,
    signal: Option<Signal>,
) -> Result<(), Errno> {
    let own = &thread.task.process;
    let (user, effective) = {
        let ids = own.ids.lock();
        if ids.can(capability::KILL) {
            return Ok(());
        }
        (ids.user.real, ids.user.effective)
    };
    let theirs = process.ids.lock().user;
    let same = [theirs.real, theirs.saved].iter().any(|id| *id == user || *id == effective);
    let session = |process: &Process| process.session.load(Ordering::Relaxed);
    let goes_on = signal == Some(Signal::CONT) && session(process) == session(own);
    if same || goes_on { Ok(()) } else { Err(Errno::EPERM) }
}

pub(super) fn kill(thread: &mut Thread, args: Args) -> Answer {
    let (target, word) = (args.int(0), args.word(1));
    let wanted = if word as u32 == 0 { None } else { Some(signal(u64::from(word as u32))?) };
    let own = thread.task.process.clone();
    let send = |process: &Hold<Process, Bare>| {
        may_send(thread, process, wanted)?;
        if let Some(signal) = wanted {
            let info = Info::from(signal, code::USER, own.pid(), own.user());
            send::to_process(process, info).ok();
        }
        Ok(())
    };
    if target > 0 {
        let process = system().find(target.cast_unsigned()).ok_or(Errno::ESRCH)?;
        return send(&process).map(|()| 0);
    }
    let group = match target {
        0 => own.group.load(Ordering::Relaxed),
        target => target.unsigned_abs(),
    };
    let (mut sent, mut refused) = (false, false);
    system().for_each(|process| {
        let is_meant = match target {
            // Everybody but the first and oneself.
            -1 => process.pid() > 1 && process.pid() != own.pid(),
            _ => process.group.load(Ordering::Relaxed) == group,
        };
        if is_meant {
            let outcome: Result<(), Errno> = send(process);
            sent |= outcome.is_ok();
            refused |= outcome.is_err();
        }
    });
    match (sent, refused) {
        (true, _) => Ok(0),
        (false, true) => Err(Errno::EPERM),
        (false, false) => Err(Errno::ESRCH),
    }
}

/// Sends to one thread, of process `group` if that is named.
fn send_to(thread: &Thread, group: Option<u32>, number: u32, word: u64) -> Answer {
    if number == 0
        || number > i32::MAX as u32
        || group.is_some_and(|group| group == 0 || group > i32::MAX as u32)
    {
        return Err(Errno::EINVAL);
    }
    let wanted = if word as u32 == 0 { None } else { Some(signal(u64::from(word as u32))?) };
    let task: Hold<Task, Bare> = system().find_task(number).ok_or(Errno::ESRCH)?;
    if group.is_some_and(|group| task.process.pid() != group) {
        return Err(Errno::ESRCH);
    }
    may_send(thread, &task.process, wanted)?;
    if let Some(signal) = wanted {
        let own = &thread.task.process;
        let info = Info::from(signal, code::TKILL, own.pid(), own.user());
        send::to_task(&task, info).map_err(|_| Errno::EAGAIN)?;
    }
    Ok(0)
}

pub(super) fn tkill(thread: &mut Thread, args: Args) -> Answer {
    send_to(thread, None, args.half(0), args.word(1))
}

pub(super) fn tgkill(thread: &mut Thread, args: Args) -> Answer {
    send_to(thread, Some(args.half(0)), args.half(1), args.word(2))
}

pub(super) fn rt_sigqueueinfo(thread: &mut Thread, args: Args) -> Answer {
    let info = queued(thread, args.half(0), args.word(1), args.at(2))?;
    let process = system().find(args.half(0)).ok_or(Errno::ESRCH)?;
    may_send(thread, &process, Some(info.signal))?;
    send::to_process(&process, info).map_err(|_| Errno::EAGAIN)?;
    Ok(0)
}

pub(super) fn rt_tgsigqueueinfo(thread: &mut Thread, args: Args) -> Answer {
    let info = queued(thread, args.half(0), args.word(2), args.at(3))?;
    let task = system().find_task(args.half(1)).ok_or(Errno::ESRCH)?;
    if task.process.pid() != args.half(0) {
        return Err(Errno::ESRCH);
    }
    may_send(thread, &task.process, Some(info.signal))?;
    send::to_task(&task, info).map_err(|_| Errno::EAGAIN)?;
    Ok(0)
}

/// What is queued; nobody says to others that the kernel, or kill(2), has sent it.
fn queued(thread: &Thread, pid: u32, word: u64, at: VirtAddr) -> Result<Info, Errno> {
    let bytes = thread.user().load::<{ Info::BYTES }>(at)?;
    let info = Info::from_bytes(signal(u64::from(word as u32))?, &bytes);
    let pretends = info.code >= 0 || info.code == code::TKILL;
    if pretends && thread.task.process.pid() != pid { Err(Errno::EPERM) } else { Ok(info) }
}
