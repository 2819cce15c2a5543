//! wait4(2) and waitid(2): what has become of one's children.

use rumpvm::sync::Ordering;
use rumpvm::{Hold, Pid, State, WaitFor};
use rumpvm_bare::Bare;
use rumpvm_files::{Errno, wait};

use super::{Answer, Args, time};
use crate::linux::process::{Process, report};
use crate::linux::signal::{Info, Signal};
use crate::linux::system::system;
use crate::linux::thread::Thread;

/// Options.
mod option {
    pub(super) const NOHANG: u32 = 1;
    pub(super) const STOPPED: u32 = 2;
    pub(super) const EXITED: u32 = 4;
    pub(super) const CONTINUED: u32 = 8;
    pub(super) const NOWAIT: u32 = 0x0100_0000;
    pub(super) const NOTHREAD: u32 = 0x2000_0000;
    pub(super) const ALL: u32 = 0x4000_0000;
    pub(super) const CLONE: u32 = 0x8000_0000;
}

/// Whom to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whom {
    Any,
    Process(u32),
    Group(u32),
}

/// What a child did.
struct News {
    child: Hold<Process, Bare>,
    /// As wait4(2) says it.
    status: i32,
}

pub(super) fn wait4(thread: &mut Thread, args: Args) -> Answer {
    let options = args.half(2);
    let known = option::NOHANG | option::STOPPED | option::CONTINUED;
    let kinds = option::NOTHREAD | option::ALL | option::CLONE;
    if options & !(known | kinds) != 0 {
        return Err(Errno::EINVAL);
    }
    let own = thread.task.process.group.load(Ordering::Relaxed);
    let whom = match args.int(0) {
        -1 => Whom::Any,
        0 => Whom::Group(own),
        i32::MIN => return Err(Errno::ESRCH),
        group if group < 0 => Whom::Group(group.unsigned_abs()),
        pid => Whom::Process(pid.cast_unsigned()),
    };
    let Some(news) = wait_for(thread, whom, options | option::EXITED)? else { return Ok(0) };
    if args.word(1) != 0 {
        thread.user().put_half(args.at(1), news.status.cast_unsigned())?;
    }
    if args.word(3) != 0 {
        let usage = time::usage_bytes(news.child.used_with_children());
        thread.user().write(args.at(3), &usage)?;
    }
    Ok(u64::from(news.child.pid()))
}

pub(super) fn waitid(thread: &mut Thread, args: Args) -> Answer {
    let options = args.half(3);
    let wanted = option::EXITED | option::STOPPED | option::CONTINUED;
    let known = wanted | option::NOHANG | option::NOWAIT;
    let kinds = option::NOTHREAD | option::ALL | option::CLONE;
    if options & !(known | kinds) != 0 || options & wanted == 0 {
        return Err(Errno::EINVAL);
    }
    let (id, own) = (args.half(1), thread.task.process.group.load(Ordering::Relaxed));
    let whom = match args.int(0) {
        0 => Whom::Any,
        1 if id > 0 => Whom::Process(id),
        2 if id == 0 => Whom::Group(own),
        2 if id <= i32::MAX as u32 => Whom::Group(id),
        3 => Whom::Process(super::pidfd::process(thread, id)?.pid()),
        _ => return Err(Errno::EINVAL),
    };
    let news = wait_for(thread, whom, options)?;
    if args.word(4) != 0 {
        let usage = news.as_ref().map(|news| news.child.used_with_children()).unwrap_or_default();
        thread.user().write(args.at(4), &time::usage_bytes(usage))?;
    }
    if args.word(2) != 0 {
        let bytes = news.map_or([0; Info::BYTES], |news| info(&news).to_bytes());
        thread.user().write(args.at(2), &bytes)?;
    }
    Ok(0)
}

/// The same as a signal would say it.
fn info(news: &News) -> Info {
    let (code, number) = match news.status {
        0xffff => (6, Signal::CONT.number().cast_signed()),
        status if status & 0xff == 0x7f => (5, status >> 8),
        status if status & 0x7f == 0 => (1, status >> 8 & 0xff),
        status => (2, status & 0x7f),
    };
    Info::child(code, news.child.pid(), news.child.user(), number)
}

fn wait_for(thread: &Thread, whom: Whom, options: u32) -> Result<Option<News>, Errno> {
    let parent = &thread.task.process;
    let queue = &system().child_events;
    let look = || match look(parent, whom, options) {
        Ok(Some(news)) => Some(Ok(Some(news))),
        Ok(None) if options & option::NOHANG != 0 => Some(Ok(None)),
        Ok(None) => None,
        Err(error) => Some(Err(error)),
    };
    wait(&thread.task.waker, &[queue], None, look)?
}

/// Looks at the children; [`Errno::ECHILD`] if there is none to wait for.
fn look(parent: &Process, whom: Whom, options: u32) -> Result<Option<News>, Errno> {
    let (mut any, mut found) = (false, None);
    system().for_each(|child| {
        if found.is_some() || child.parent_pid() != parent.pid() || !is_meant(child, whom, options)
        {
            return;
        }
        any = true;
        found = news_of(parent, child, options);
    });
    match found {
        Some(news) => Ok(Some(news)),
        None if any => Ok(None),
        None => Err(Errno::ECHILD),
    }
}

fn is_meant(child: &Process, whom: Whom, options: u32) -> bool {
    let is_clone = child.exit_signal != Signal::CHLD.number();
    let kind = options & option::ALL != 0 || is_clone == (options & option::CLONE != 0);
    kind && match whom {
        Whom::Any => true,
        Whom::Process(pid) => child.pid() == pid,
        Whom::Group(group) => child.group.load(Ordering::Relaxed) == group,
    }
}

fn news_of(parent: &Process, child: &Hold<Process, Bare>, options: u32) -> Option<News> {
    let keeps = options & option::NOWAIT != 0;
    let news = |status| Some(News { child: child.clone(), status });
    if let State::Zombie(status) = child.memory.state() {
        if options & option::EXITED == 0 {
            return None;
        }
        if !keeps {
            let whom = WaitFor::Pid(Pid(child.pid()));
            // Another thread may have been quicker.
            parent.memory.wait(&system().kernel.vm, whom, true).ok()??;
            parent.usage.add_child(child.used_with_children());
            system().strike(child.pid());
        }
        return news(status);
    }
    let said = child.report.load(Ordering::SeqCst);
    let wanted = match said {
        report::NOTHING => return None,
        report::CONTINUED => option::CONTINUED,
        _ => option::STOPPED,
    };
    if options & wanted == 0 {
        return None;
    }
    if !keeps {
        child.report.compare_exchange(said, report::NOTHING, Ordering::SeqCst).ok()?;
    }
    news(said.cast_signed())
}
