//! Pipes, with a name and without.
//!
//! Locks: `state`, while bytes move, so that a write of up to [`PIPE_BUF`] bytes is one piece.
//! Sleep: readers for bytes or the last writer's end, writers for room, whoever opens a name for the other side.
//! Owns:  the bytes.

use alloc::boxed::Box;
use core::any::Any;

use rumpvm::Hold;
use rumpvm::sync::{Mutex, try_box};
use rumpvm_platform::Platform;

use crate::access::{Credentials, Rights};
use crate::class;
use crate::entry::Entry;
use crate::errno::Errno;
use crate::name::Name;
use crate::node::{Call, FileType, Kind, Node, Ready, Special, partly};
use crate::open::{Open, OpenFlags};
use crate::ring::Ring;
use crate::transfer::{Exchange, Sink, Source};
use crate::tree::Tree;
use crate::wait::Queue;

/// A write of so many bytes is not mixed with others.
pub const PIPE_BUF: usize = 4096;
/// What a pipe holds at first.
const CAPACITY: usize = 64 << 10;
/// And at most.
const MOST: usize = 1 << 20;
/// ioctl(2): how many bytes can be read.
pub(crate) const FIONREAD: u32 = 0x541b;

/// Whether a pipe is opened by a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// Both sides come when they want to, and wait for each other.
    Named,
    /// Both have been there from the beginning. Who opens one of them once more, by `/proc/self/fd`, waits for nobody.
    Unnamed,
}

/// A pipe.
pub struct Pipe<P: Platform> {
    naming: Naming,
    state: Mutex<State, P>,
    readers: Queue<P>,
    writers: Queue<P>,
}

struct State {
    ring: Ring,
    /// Open for reading, and how often it was opened so.
    readers: Side,
    /// Open for writing.
    writers: Side,
}

#[derive(Clone, Copy, Default)]
struct Side {
    open: u32,
    ever: u64,
}

impl Side {
    fn come(&mut self) {
        self.open += 1;
        self.ever += 1;
    }
}

impl<P: Platform> Pipe<P> {
    fn new(naming: Naming) -> Self {
        let open = if naming == Naming::Named { 0 } else { 1 };
        let side = Side { open, ever: u64::from(open) };
        let state = State { ring: Ring::new(CAPACITY), readers: side, writers: side };
        Self {
            naming,
            state: Mutex::new(&class::STREAM, state),
            readers: Queue::new(),
            writers: Queue::new(),
        }
    }

    /// Bytes that it can hold: `F_GETPIPE_SZ`.
    pub fn capacity(&self) -> usize {
        self.state.lock().ring.most()
    }

    /// Makes it hold that many bytes, rounded up as Linux does: `F_SETPIPE_SZ`.
    pub fn set_capacity(&self, bytes: usize) -> Result<usize, Errno> {
        if bytes > MOST {
            return Err(Errno::EPERM);
        }
        let bytes = bytes.max(PIPE_BUF).next_power_of_two();
        self.state.lock().ring.set_most(bytes)?;
        self.writers.wake();
        Ok(bytes)
    }

    /// Waits until the side that `side` looks at is open, or was opened since `before`.
    fn await_other(
        &self,
        call: &Call<'_, P>,
        queue: &Queue<P>,
        side: impl Fn(&State) -> Side,
        before: u64,
    ) -> Result<(), Errno> {
        call.wait(queue, || {
            let other = side(&self.state.lock());
            (other.open > 0 || other.ever != before).then_some(())
        })
    }

    fn wake_all(&self) {
        self.readers.wake();
        self.writers.wake();
    }
}

impl<P: Platform> Special<P> for Pipe<P> {
    /// By the pipe's name, or by that of a descriptor.
    fn opened(
        &self,
        call: &Call<'_, P>,
        rights: Rights,
    ) -> Result<Option<Box<dyn Special<P>>>, Errno> {
        let (reads, writes) = (rights.contains(Rights::READ), rights.contains(Rights::WRITE));
        if !reads && !writes {
            return Err(Errno::EINVAL);
        }
        let meets = self.naming == Naming::Named;
        let mut state = self.state.lock();
        if meets && writes && !reads && call.nonblocking && state.readers.open == 0 {
            return Err(Errno::ENXIO);
        }
        if reads {
            state.readers.come();
        }
        if writes {
            state.writers.come();
        }
        let before = (state.readers.ever, state.writers.ever);
        drop(state);
        self.wake_all();
        let met = match (reads, writes) {
            _ if !meets => Ok(()),
            (true, false) if !call.nonblocking => {
                self.await_other(call, &self.readers, |state| state.writers, before.1)
            }
            (false, true) => self.await_other(call, &self.writers, |state| state.readers, before.0),
            _ => Ok(()),
        };
        if met.is_err() {
            self.closed(rights);
        }
        met.map(|()| None)
    }

    fn closed(&self, rights: Rights) {
        let mut state = self.state.lock();
        if rights.contains(Rights::READ) {
            state.readers.open -= 1;
        }
        if rights.contains(Rights::WRITE) {
            state.writers.open -= 1;
        }
        if state.readers.open == 0 && state.writers.open == 0 {
            // Nobody will ever see these bytes.
            state.ring = Ring::new(state.ring.most());
        }
        drop(state);
        self.wake_all();
    }

    fn read(&self, call: &Call<'_, P>, _: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        if into.room() == 0 {
            return Ok(0);
        }
        let read = call.wait(&self.readers, || {
            let mut state = self.state.lock();
            match state.ring.len() {
                0 if state.writers.open == 0 => Some(Ok(0)),
                0 => None,
                _ => Some(state.ring.drain(into, usize::MAX)),
            }
        })?;
        if read.is_ok_and(|count| count > 0) {
            self.writers.wake();
        }
        read
    }

    fn write(&self, call: &Call<'_, P>, _: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let all = from.left();
        let mut done = 0;
        while done < all {
            let needed = if all <= PIPE_BUF { all } else { 1 };
            let written = call.wait(&self.writers, || {
                let mut state = self.state.lock();
                match () {
                    () if state.readers.open == 0 => Some(Err(Errno::EPIPE)),
                    () if state.ring.room() < needed => None,
                    () => Some(state.ring.fill::<P>(from, usize::MAX)),
                }
            });
            match written.and_then(|written| written) {
                Ok(0) => break,
                Ok(count) => {
                    done += count;
                    self.readers.wake();
                }
                Err(error) => return partly(done, error),
            }
        }
        Ok(done)
    }

    fn ready(&self, rights: Rights) -> Ready {
        let state = self.state.lock();
        let mut ready = Ready::empty();
        if rights.contains(Rights::READ) {
            if state.ring.len() > 0 {
                ready |= Ready::IN | Ready::READ_NORMAL;
            }
            if state.writers.open == 0 && state.writers.ever > 0 {
                ready |= Ready::HANG_UP;
            }
        }
        if rights.contains(Rights::WRITE) {
            if state.ring.room() >= PIPE_BUF {
                ready |= Ready::OUT | Ready::WRITE_NORMAL;
            }
            if state.readers.open == 0 {
                ready |= Ready::ERROR;
            }
        }
        ready
    }

    fn queues(&self) -> [Option<&Queue<P>>; 2] {
        [Some(&self.readers), Some(&self.writers)]
    }

    fn control(&self, request: u32, argument: &mut dyn Exchange) -> Result<u64, Errno> {
        match request {
            FIONREAD => {
                let count = self.state.lock().ring.len() as u32;
                argument.store(&count.to_le_bytes()).map(|()| 0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// What stands behind a pipe with a name.
pub(crate) fn named<P: Platform>() -> Result<Box<dyn Special<P>>, Errno> {
    Ok(try_box::<_, P>(Pipe::new(Naming::Named))?)
}

impl<P: Platform> Tree<P> {
    /// pipe(2): the end to read from and the end to write to.
    pub fn pipe(
        &self,
        flags: OpenFlags,
        who: &Credentials,
    ) -> Result<[Hold<Open<P>, P>; 2], Errno> {
        let allowed = OpenFlags::NONBLOCK | OpenFlags::CLOSE_ON_EXEC | OpenFlags::DIRECT;
        if !allowed.contains(flags) {
            return Err(Errno::EINVAL);
        }
        let special: Box<dyn Special<P>> = try_box::<_, P>(Pipe::new(Naming::Unnamed))?;
        let node =
            Node::try_new(self.unnamed(), Kind::Special(special), FileType::Pipe, 0o600, who)?;
        let label = Name::try_format::<P>(format_args!("pipe:[{}]", node.number()))?;
        let entry = Entry::unnamed(node, label)?;
        let writes = flags | OpenFlags::WRITE_ONLY;
        Ok([Open::opened(entry.clone(), flags, who)?, Open::opened(entry, writes, who)?])
    }
}
