//! poll(2), and what select(2) is made of: which of several files could be read or written at once.

use alloc::vec::Vec;
use core::cell::Cell;

use rumpvm::Hold;
use rumpvm::sync::try_push;
use rumpvm_platform::Platform;

use crate::errno::Errno;
use crate::node::Ready;
use crate::open::Open;
use crate::wait::{Queue, Waker, wait};

/// What is asked of one file, and what came out.
pub struct Polled<P: Platform> {
    open: Option<Hold<Open<P>, P>>,
    wanted: Ready,
    found: Cell<Ready>,
}

impl<P: Platform> Polled<P> {
    /// Asks `open` for `wanted`; a descriptor that is none is always ready to say so.
    pub fn new(open: Option<Hold<Open<P>, P>>, wanted: Ready) -> Self {
        Self { open, wanted, found: Cell::new(Ready::empty()) }
    }

    /// What was found. Of what was not asked for, only that nobody is left on the other side, or no such descriptor.
    pub fn found(&self) -> Ready {
        self.found.get()
    }

    /// Looks, and says whether anything was found.
    fn look(&self) -> bool {
        let ready = self.open.as_ref().map_or(Ready::INVALID, |open| open.ready());
        let unasked = Ready::ERROR | Ready::HANG_UP | Ready::INVALID;
        self.found.set(ready & (self.wanted | unasked));
        !self.found.get().is_empty()
    }

    fn queues(&self) -> impl Iterator<Item = &Queue<P>> {
        let special = self.open.as_ref().and_then(|open| open.driver());
        special.into_iter().flat_map(|special| special.queues()).flatten()
    }
}

/// Waits until something is found of one of `files`, and returns of how many; 0 at the time `until`. [`Errno::EINTR`],
/// [`Errno::ENOMEM`]. A descriptor that is not to be looked at is left out by the caller.
pub fn poll<P: Platform>(
    files: &[Polled<P>],
    waker: &Hold<Waker<P>, P>,
    until: Option<u64>,
) -> Result<usize, Errno> {
    let look = || {
        let found = files.iter().map(Polled::look).filter(|found| *found).count();
        (found > 0).then_some(found)
    };
    if let Some(found) = look() {
        return Ok(found);
    }
    let mut queues = Vec::new();
    for queue in files.iter().flat_map(Polled::queues) {
        try_push::<_, P>(&mut queues, queue)?;
    }
    match wait(waker, &queues, until, look) {
        Err(Errno::ETIMEDOUT) => Ok(0),
        outcome => outcome,
    }
}
