//! Sockets, which are pairs: socketpair(2), and send(2), recv(2) and shutdown(2) with their flags.

use rumpvm::Hold;
use rumpvm_bare::Bare;
use rumpvm_files::node::Call;
use rumpvm_files::socket::{Manner, Socket, Take};
use rumpvm_files::{Errno, Open, OpenFlags, Rights};

use super::files::{add_pair, get, written};
use super::{Answer, Args};
use crate::linux::system::system;
use crate::linux::thread::Thread;

/// Flags of send(2) and recv(2).
mod flag {
    pub(super) const PEEK: u32 = 0x2;
    pub(super) const TRUNCATED: u32 = 0x20;
    pub(super) const DONT_WAIT: u32 = 0x40;
    pub(super) const END_OF_RECORD: u32 = 0x80;
    pub(super) const WAIT_ALL: u32 = 0x100;
    pub(super) const NO_SIGNAL: u32 = 0x4000;
    /// A hint that more comes.
    pub(super) const MORE: u32 = 0x8000;
    pub(super) const CLOSE_ON_EXEC: u32 = 0x4000_0000;
}

pub(super) fn socketpair(thread: &mut Thread, args: Args) -> Answer {
    const UNIX: u32 = 1;
    let flags = OpenFlags::from_bits_retain(args.half(1))
        & (OpenFlags::NONBLOCK | OpenFlags::CLOSE_ON_EXEC);
    if args.half(0) != UNIX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if args.half(2) > 1 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let manner = match args.half(1) & !flags.bits() {
        1 => Manner::Stream,
        2 => Manner::Datagram,
        5 => Manner::Packets,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    let who = thread.task.process.credentials()?;
    let pair = system().tree.socket_pair(manner, flags, &who)?;
    add_pair(thread, pair, (args, 3), flags)
}

/// The socket behind an open file.
fn socket(open: &Hold<Open<Bare>, Bare>) -> Result<&Socket<Bare>, Errno> {
    if open.is_path() {
        return Err(Errno::EBADF);
    }
    open.special::<Socket<Bare>>().ok_or(Errno::ENOTSOCK)
}

/// How a call on `open` with these flags waits.
fn call<'a>(thread: &'a Thread, open: &Open<Bare>, flags: u32) -> Call<'a, Bare> {
    let nonblocking = flags & flag::DONT_WAIT != 0 || open.flags().contains(OpenFlags::NONBLOCK);
    Call { waker: &thread.task.waker, nonblocking }
}

pub(super) fn sendto(thread: &mut Thread, args: Args) -> Answer {
    const KNOWN: u32 = flag::DONT_WAIT | flag::END_OF_RECORD | flag::NO_SIGNAL | flag::MORE;
    let open = get(thread, args.half(0))?;
    let (socket, flags) = (socket(&open)?, args.half(3));
    if flags & !KNOWN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    // Who is at the other end is settled.
    if args.word(4) != 0 && args.word(5) != 0 {
        let is_stream = socket.manner() == Manner::Stream;
        return Err(if is_stream { Errno::EISCONN } else { Errno::EOPNOTSUPP });
    }
    let mut from = thread.user().buffer(args.at(1), args.word(2))?;
    match socket.send(&call(thread, &open, flags), &mut from) {
        Err(Errno::EPIPE) if flags & flag::NO_SIGNAL != 0 => Err(Errno::EPIPE),
        outcome => written(thread, outcome),
    }
}

pub(super) fn recvfrom(thread: &mut Thread, args: Args) -> Answer {
    const KNOWN: u32 =
        flag::PEEK | flag::TRUNCATED | flag::DONT_WAIT | flag::WAIT_ALL | flag::CLOSE_ON_EXEC;
    use rumpvm_files::Sink;
    let open = get(thread, args.half(0))?;
    let (socket, flags) = (socket(&open)?, args.half(3));
    if flags & !KNOWN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let take = if flags & flag::PEEK != 0 { Take::Look } else { Take::Away };
    let is_stream = socket.manner() == Manner::Stream;
    let waits_for_all = is_stream && take == Take::Away && flags & flag::WAIT_ALL != 0;
    let mut into = thread.user().buffer(args.at(1), args.word(2))?;
    let call = call(thread, &open, flags);
    let mut done = 0;
    loop {
        let received = match socket.receive(&call, &mut into, take) {
            Ok(received) => received,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        };
        done += received.count as u64;
        if flags & flag::TRUNCATED != 0 && !is_stream {
            done = received.length as u64;
        }
        if !waits_for_all || received.count == 0 || into.room() == 0 {
            break;
        }
    }
    // Whoever asks who sent it is told that the sender has no name.
    if args.word(4) != 0 && args.word(5) != 0 {
        thread.user().put_half(args.at(5), 0)?;
    }
    Ok(done)
}

pub(super) fn shutdown(thread: &mut Thread, args: Args) -> Answer {
    let open = get(thread, args.half(0))?;
    let rights = match args.half(1) {
        0 => Rights::READ,
        1 => Rights::WRITE,
        2 => Rights::READ | Rights::WRITE,
        _ => return Err(Errno::EINVAL),
    };
    socket(&open)?.shut_down(rights);
    Ok(0)
}
