//! Descriptors of processes: pidfd_open(2), pidfd_send_signal(2).

use alloc::boxed::Box;
use core::any::Any;

use rumpvm::Hold;
use rumpvm::State;
use rumpvm::sync::try_box;
use rumpvm_bare::Bare;
use rumpvm_files::{Errno, FileType, Open, OpenFlags, Queue, Ready, Rights, Special};

use super::{Answer, Args, files};
use crate::linux::process::Process;
use crate::linux::signal::{Info, Signal, code, send};
use crate::linux::system::system;
use crate::linux::thread::Thread;

/// What stands behind such a descriptor.
struct Handle(Hold<Process, Bare>);

impl Special<Bare> for Handle {
    /// It can be read, so poll(2) says, when the process has ended.
    fn ready(&self, _: Rights) -> Ready {
        match self.0.memory.state() {
            State::Running => Ready::empty(),
            State::Zombie(_) | State::Reaped => Ready::IN | Ready::READ_NORMAL,
        }
    }

    fn queues(&self) -> [Option<&Queue<Bare>>; 2] {
        [Some(&system().child_events), None]
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// The process behind descriptor `number`.
pub(super) fn process(thread: &Thread, number: u32) -> Result<Hold<Process, Bare>, Errno> {
    let open = files::get(thread, number)?;
    let handle = open.special::<Handle>().ok_or(Errno::EBADF)?;
    Ok(handle.0.clone())
}

pub(super) fn pidfd_open(thread: &mut Thread, args: Args) -> Answer {
    let flags = OpenFlags::from_bits_retain(args.half(1));
    if args.int(0) <= 0 || !OpenFlags::NONBLOCK.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let process = system().find(args.half(0)).ok_or(Errno::ESRCH)?;
    let special: Box<dyn Special<Bare>> = try_box::<_, Bare>(Handle(process))?;
    let who = thread.task.process.credentials()?;
    let flags = flags | OpenFlags::CLOSE_ON_EXEC | OpenFlags::READ_WRITE;
    let (volume, label) = (system().tree.unnamed(), b"anon_inode:[pidfd]");
    let open = Open::unnamed(volume, FileType::Regular, special, label, flags, &who)?;
    files::add(thread, open, flags)
}

pub(super) fn pidfd_send_signal(thread: &mut Thread, args: Args) -> Answer {
    let process = process(thread, args.half(0))?;
    if args.half(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let own = &thread.task.process;
    let info = match (args.word(1) as u32, args.word(2)) {
        (0, _) if process.memory.state() == State::Reaped => return Err(Errno::ESRCH),
        (0, _) => return super::signal::may_send(thread, &process, None).map(|()| 0),
        (number, at) => {
            let signal = Signal::new(u64::from(number)).ok_or(Errno::EINVAL)?;
            match at {
                0 => Info::from(signal, code::USER, own.pid(), own.user()),
                _ => {
                    let bytes = thread.user().load::<{ Info::BYTES }>(args.at(2))?;
                    Info::from_bytes(signal, &bytes)
                }
            }
        }
    };
    super::signal::may_send(thread, &process, Some(info.signal))?;
    if process.memory.state() == State::Reaped {
        return Err(Errno::ESRCH);
    }
    send::to_process(&process, info).map_err(|_| Errno::EAGAIN)?;
    Ok(0)
}
