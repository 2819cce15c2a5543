//! Files that are not bytes in memory: what they have to do, and what they may leave out.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;

use bitflags::bitflags;
use rumpvm::{Hold, Object};
use rumpvm_platform::Platform;

use super::{FileType, Node};
use crate::access::Rights;
use crate::entry::Entry;
use crate::errno::Errno;
use crate::transfer::{Exchange, Sink, Source};
use crate::wait::{Queue, Waker, wait};

bitflags! {
    /// What can be done with a file at once, with the values of poll(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Ready: u32 {
        /// It can be read.
        const IN = 1;
        /// Something urgent can be read.
        const PRIORITY = 2;
        /// It can be written.
        const OUT = 4;
        /// Writing fails: nobody reads.
        const ERROR = 8;
        /// Nobody writes any more.
        const HANG_UP = 0x10;
        /// There is no such descriptor.
        const INVALID = 0x20;
        /// As [`Ready::IN`].
        const READ_NORMAL = 0x40;
        /// Urgent data, which there is none of.
        const READ_BAND = 0x80;
        /// As [`Ready::OUT`].
        const WRITE_NORMAL = 0x100;
        /// As [`Ready::OUT`].
        const WRITE_BAND = 0x200;
        /// The other side sends nothing more.
        const READ_HANG_UP = 0x2000;
        /// Reading or writing, as it is always possible.
        const ALWAYS = 1 | 4 | 0x40 | 0x100;
    }
}

/// Who calls, and how long he is ready to wait.
pub struct Call<'a, P: Platform> {
    /// What wakes him.
    pub waker: &'a Hold<Waker<P>, P>,
    /// He would rather have [`Errno::EAGAIN`] than wait.
    pub nonblocking: bool,
}

impl<P: Platform> Call<'_, P> {
    /// Waits on one queue for what `look` looks for; [`Errno::EAGAIN`] if the caller does not want to.
    pub fn wait<T>(&self, queue: &Queue<P>, look: impl FnMut() -> Option<T>) -> Result<T, Errno> {
        self.wait_until(queue, None, look)
    }

    /// The same until a moment of the home's clock: [`Errno::ETIMEDOUT`].
    pub fn wait_until<T>(
        &self,
        queue: &Queue<P>,
        until: Option<u64>,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, Errno> {
        if self.nonblocking {
            return look().ok_or(Errno::EAGAIN);
        }
        wait(self.waker, &[queue], until, look)
    }
}

/// What mmap(2) of a file maps.
pub enum Memory<P: Platform> {
    /// This.
    Object(Hold<Object<P>, P>),
    /// As if there were no file: `/dev/zero`.
    Anonymous,
}

/// A device, pipe, socket, counter, made-up file: anything that has its own way to be read and written.
pub trait Special<P: Platform>: Send + Sync {
    /// Somebody opens it, with these rights. What is returned, if anything, stands behind that open file from then on.
    fn opened(
        &self,
        call: &Call<'_, P>,
        rights: Rights,
    ) -> Result<Option<Box<dyn Special<P>>>, Errno> {
        let _ = (call, rights);
        Ok(None)
    }

    /// The last descriptor of what was opened with these rights has gone. Only called of what was opened.
    fn closed(&self, rights: Rights) {
        let _ = rights;
    }

    /// Reads from byte `at` on, which means nothing unless it has a position.
    fn read(&self, call: &Call<'_, P>, at: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        let _ = (call, at, into);
        Err(Errno::EINVAL)
    }

    /// Writes from byte `at` on, likewise.
    fn write(&self, call: &Call<'_, P>, at: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let _ = (call, at, from);
        Err(Errno::EINVAL)
    }

    /// Whether lseek(2), pread(2) and pwrite(2) mean anything.
    fn has_position(&self) -> bool {
        false
    }

    /// Its length, for stat(2) and seeking from the end.
    fn length(&self) -> u64 {
        0
    }

    /// What whoever has it open with these rights could do at once.
    fn ready(&self, rights: Rights) -> Ready {
        let _ = rights;
        Ready::ALWAYS
    }

    /// Woken when [`Special::ready`] says more: one queue for readers, one for writers.
    fn queues(&self) -> [Option<&Queue<P>>; 2] {
        [None, None]
    }

    /// fsync(2): makes what has been written durable, if that means anything.
    fn sync(&self) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// ioctl(2).
    fn control(&self, request: u32, argument: &mut dyn Exchange) -> Result<u64, Errno> {
        let _ = (request, argument);
        Err(Errno::ENOTTY)
    }

    /// What mmap(2) maps.
    fn memory(&self) -> Result<Memory<P>, Errno> {
        Err(Errno::ENODEV)
    }

    /// Itself, if others may want to find out what it is ([`Open::special`](crate::Open::special)).
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

macro_rules! forwards {
    ($($generics:tt)*) => {
        $($generics)* {
            fn opened(
                &self,
                call: &Call<'_, P>,
                rights: Rights,
            ) -> Result<Option<Box<dyn Special<P>>>, Errno> {
                (**self).opened(call, rights)
            }
            fn closed(&self, rights: Rights) {
                (**self).closed(rights);
            }
            fn read(&self, call: &Call<'_, P>, at: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
                (**self).read(call, at, into)
            }
            fn write(
                &self,
                call: &Call<'_, P>,
                at: u64,
                from: &mut dyn Source,
            ) -> Result<usize, Errno> {
                (**self).write(call, at, from)
            }
            fn has_position(&self) -> bool {
                (**self).has_position()
            }
            fn length(&self) -> u64 {
                (**self).length()
            }
            fn ready(&self, rights: Rights) -> Ready {
                (**self).ready(rights)
            }
            fn queues(&self) -> [Option<&Queue<P>>; 2] {
                (**self).queues()
            }
            fn sync(&self) -> Result<(), Errno> {
                (**self).sync()
            }
            fn control(&self, request: u32, argument: &mut dyn Exchange) -> Result<u64, Errno> {
                (**self).control(request, argument)
            }
            fn memory(&self) -> Result<Memory<P>, Errno> {
                (**self).memory()
            }
            fn as_any(&self) -> Option<&dyn Any> {
                (**self).as_any()
            }
        }
    };
}

forwards!(impl<P: Platform, T: Special<P>> Special<P> for Hold<T, P>);
forwards!(impl<P: Platform, T: Special<P>> Special<P> for &'static T);

/// One name of a directory, for who lists it.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Where to go on after it.
    pub cookie: u64,
    /// Number of its node.
    pub number: u64,
    /// What it is.
    pub file_type: FileType,
    /// The name.
    pub name: &'a [u8],
}

/// A directory whose names are made when somebody asks.
pub trait Listing<P: Platform>: Send + Sync {
    /// The node of that name, if there is one.
    fn lookup(&self, name: &[u8]) -> Result<Option<Hold<Node<P>, P>>, Errno>;

    /// Calls `each` with the names whose cookies are greater than `after`, in order of cookies, which are greater than 0,
    /// until it says false.
    fn list(&self, after: u64, each: &mut dyn FnMut(Item<'_>) -> bool) -> Result<(), Errno>;
}

/// A symbolic link whose target is made when somebody asks.
pub trait Jump<P: Platform>: Send + Sync {
    /// What readlink(2) says.
    fn text(&self) -> Result<Vec<u8>, Errno>;

    /// Where it leads; `None` if its text says so.
    fn target(&self) -> Result<Option<Hold<Entry<P>, P>>, Errno> {
        Ok(None)
    }
}
