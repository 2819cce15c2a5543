//! Sockets in pairs: socketpair(2), which is all there is of them.
//!
//! Locks: one way's `state`, while bytes move.
//! Sleep: as pipes.
//! Owns:  both ends own what lies between them.

use alloc::boxed::Box;
use core::any::Any;

use rumpvm::Hold;
use rumpvm::sync::{Mutex, try_box};
use rumpvm_platform::Platform;

use crate::access::{Credentials, Rights};
use crate::class;
use crate::errno::Errno;
use crate::name::Name;
use crate::node::{Call, FileType, Ready, Special, partly};
use crate::open::{Open, OpenFlags};
use crate::pipe::FIONREAD;
use crate::ring::Ring;
use crate::transfer::{Exchange, Sink, Source};
use crate::tree::Tree;
use crate::wait::Queue;

/// How a socket keeps what is sent apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Not at all (`SOCK_STREAM`).
    Stream,
    /// As messages (`SOCK_DGRAM`).
    Datagram,
    /// As messages, with an end (`SOCK_SEQPACKET`).
    Packets,
}

/// One end.
pub struct Socket<P: Platform> {
    pair: Hold<Pair<P>, P>,
    side: usize,
}

struct Pair<P: Platform> {
    manner: Manner,
    /// What each side receives.
    ways: [Way<P>; 2],
}

struct Way<P: Platform> {
    state: Mutex<State, P>,
    readers: Queue<P>,
    writers: Queue<P>,
}

struct State {
    ring: Ring,
    /// The sender has ended, or shut down.
    is_ended: bool,
    /// The receiver has ended, or shut down.
    is_deaf: bool,
}

/// What one side keeps for the other, as on Linux.
const CAPACITY: usize = 212_992;
/// The length before each message.
const HEAD: usize = 4;

/// What was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// Bytes that were taken.
    pub count: usize,
    /// Bytes of the message.
    pub length: usize,
}

/// Whether what is received is gone then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Take {
    /// It is.
    Away,
    /// It can be received again (`MSG_PEEK`).
    Look,
}

impl<P: Platform> Socket<P> {
    /// How it keeps messages apart.
    pub fn manner(&self) -> Manner {
        self.pair.manner
    }

    fn incoming(&self) -> &Way<P> {
        &self.pair.ways[self.side]
    }

    fn outgoing(&self) -> &Way<P> {
        &self.pair.ways[1 - self.side]
    }

    /// recv(2).
    pub fn receive(
        &self,
        call: &Call<'_, P>,
        into: &mut dyn Sink,
        take: Take,
    ) -> Result<Received, Errno> {
        let (way, manner) = (self.incoming(), self.pair.manner);
        if into.room() == 0 && manner == Manner::Stream {
            return Ok(Received { count: 0, length: 0 });
        }
        let received = call.wait(&way.readers, || {
            let mut state = way.state.lock();
            match state.ring.len() {
                0 if state.is_deaf || (state.is_ended && manner != Manner::Datagram) => {
                    Some(Ok(Received { count: 0, length: 0 }))
                }
                0 => None,
                _ if manner == Manner::Stream => Some(state.receive_bytes(into, take)),
                _ => Some(state.receive_message(into, take)),
            }
        })?;
        if received.is_ok() {
            way.writers.wake();
        }
        received
    }

    /// send(2). To nobody: [`Errno::EPIPE`], and the signal is the caller's to send.
    pub fn send(&self, call: &Call<'_, P>, from: &mut dyn Source) -> Result<usize, Errno> {
        let (way, manner) = (self.outgoing(), self.pair.manner);
        let all = from.left();
        if manner != Manner::Stream && all + HEAD > CAPACITY {
            return Err(Errno::EMSGSIZE);
        }
        let mut done = 0;
        loop {
            let sent = call.wait(&way.writers, || {
                let mut state = way.state.lock();
                let needed = if manner == Manner::Stream { 1 } else { HEAD + all };
                match () {
                    () if state.is_deaf && manner == Manner::Datagram => {
                        Some(Err(Errno::ECONNREFUSED))
                    }
                    () if state.is_deaf || state.is_ended => Some(Err(Errno::EPIPE)),
                    () if state.ring.room() < needed => None,
                    () if manner == Manner::Stream => Some(state.ring.fill::<P>(from, usize::MAX)),
                    () => Some(state.send_message::<P>(from, all)),
                }
            });
            match sent.and_then(|sent| sent) {
                Ok(count) => {
                    way.readers.wake();
                    done += count;
                    if done >= all || count == 0 || manner != Manner::Stream {
                        return Ok(done);
                    }
                }
                Err(error) => return partly(done, error),
            }
        }
    }

    /// shutdown(2), of what it receives, what it sends, or both.
    pub fn shut_down(&self, rights: Rights) {
        if rights.contains(Rights::READ) {
            self.incoming().state.lock().is_deaf = true;
        }
        if rights.contains(Rights::WRITE) {
            self.outgoing().state.lock().is_ended = true;
        }
        for way in &self.pair.ways {
            way.readers.wake();
            way.writers.wake();
        }
    }
}

impl State {
    fn receive_bytes(&mut self, into: &mut dyn Sink, take: Take) -> Result<Received, Errno> {
        let count = self.ring.show(0, into, usize::MAX)?;
        if take == Take::Away {
            self.ring.skip(count);
        }
        Ok(Received { count, length: count })
    }

    /// What there is no room for is lost with its message.
    fn receive_message(&mut self, into: &mut dyn Sink, take: Take) -> Result<Received, Errno> {
        let mut head = [0; HEAD];
        self.ring.show(0, &mut &mut head[..], HEAD)?;
        let length = u32::from_le_bytes(head) as usize;
        let count = self.ring.show(HEAD, into, length)?;
        if take == Take::Away {
            self.ring.skip(HEAD + length);
        }
        Ok(Received { count, length })
    }

    /// All of it or nothing.
    fn send_message<P: Platform>(
        &mut self,
        from: &mut dyn Source,
        length: usize,
    ) -> Result<usize, Errno> {
        let before = self.ring.len();
        let head = (length as u32).to_le_bytes();
        self.ring.fill::<P>(&mut &head[..], HEAD)?;
        match self.ring.fill::<P>(from, length) {
            Ok(count) if count == length => Ok(count),
            outcome => {
                self.ring.cut_off(before);
                outcome.and(Err(Errno::EFAULT))
            }
        }
    }
}

impl<P: Platform> Special<P> for Socket<P> {
    /// An end is opened once, when it is made.
    fn opened(&self, _: &Call<'_, P>, _: Rights) -> Result<Option<Box<dyn Special<P>>>, Errno> {
        Err(Errno::ENXIO)
    }

    fn closed(&self, _: Rights) {
        self.shut_down(Rights::READ | Rights::WRITE);
    }

    fn read(&self, call: &Call<'_, P>, _: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        self.receive(call, into, Take::Away).map(|received| received.count)
    }

    fn write(&self, call: &Call<'_, P>, _: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        self.send(call, from)
    }

    fn ready(&self, _: Rights) -> Ready {
        let mut ready = Ready::empty();
        let is_stream = self.pair.manner != Manner::Datagram;
        let incoming = self.incoming().state.lock();
        let ended = incoming.is_deaf || (incoming.is_ended && is_stream);
        if incoming.ring.len() > 0 || ended {
            ready |= Ready::IN | Ready::READ_NORMAL;
        }
        if ended {
            ready |= Ready::READ_HANG_UP;
        }
        drop(incoming);
        let outgoing = self.outgoing().state.lock();
        if outgoing.is_deaf && is_stream && ended {
            ready |= Ready::HANG_UP;
        }
        // Linux says so when three quarters are free.
        if outgoing.ring.room() >= CAPACITY / 4 * 3 || outgoing.is_deaf {
            ready |= Ready::OUT | Ready::WRITE_NORMAL;
        }
        ready
    }

    fn queues(&self) -> [Option<&Queue<P>>; 2] {
        [Some(&self.incoming().readers), Some(&self.outgoing().writers)]
    }

    fn control(&self, request: u32, argument: &mut dyn Exchange) -> Result<u64, Errno> {
        match request {
            FIONREAD => {
                let count = self.incoming().state.lock().ring.len() as u32;
                argument.store(&count.to_le_bytes()).map(|()| 0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl<P: Platform> Tree<P> {
    /// socketpair(2) of `AF_UNIX`.
    pub fn socket_pair(
        &self,
        manner: Manner,
        flags: OpenFlags,
        who: &Credentials,
    ) -> Result<[Hold<Open<P>, P>; 2], Errno> {
        let way = || Way {
            state: Mutex::new(
                &class::STREAM,
                State { ring: Ring::new(CAPACITY), is_ended: false, is_deaf: false },
            ),
            readers: Queue::new(),
            writers: Queue::new(),
        };
        let pair = Hold::try_new(Pair { manner, ways: [way(), way()] })?;
        let end = |side| {
            let socket = Socket { pair: pair.clone(), side };
            let special: Box<dyn Special<P>> = try_box::<_, P>(socket)?;
            let label = Name::try_format::<P>(format_args!("socket:[{}]", self.unnamed().next()))?;
            let flags = flags | OpenFlags::READ_WRITE;
            Open::unnamed(self.unnamed(), FileType::Socket, special, &label, flags, who)
        };
        Ok([end(0)?, end(1)?])
    }
}
