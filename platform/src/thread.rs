//! What a home keeps of each of its threads for the component.

use core::cell::Cell;

use crate::{LockUse, Site};

/// Most tokens that one thread holds at a time; DragonFly's threads have room for as many.
pub const MAX_TOKENS: usize = 32;

/// Most sleep locks that one thread holds at a time.
pub const MAX_SLEEP_LOCKS: usize = 16;

/// The component's part of a thread. A home makes one with each thread and keeps it where it is.
#[derive(Debug)]
pub struct ThreadLocal {
    id: u64,
    /// Tokens of the thread, oldest first; given up while it sleeps. `shared` says how each one counts.
    pub tokens: [Cell<Option<LockUse>>; MAX_TOKENS],
    /// Number of them.
    pub depth: Cell<usize>,
    /// Where the thread has data of a token in its hands; it must not sleep then.
    pub looking: Cell<Option<Site>>,
    /// Sleep locks of the thread, in no order.
    pub locks: [Cell<Option<LockUse>>; MAX_SLEEP_LOCKS],
}

impl ThreadLocal {
    /// Of a thread with this number, unique in its machine and not zero.
    pub const fn new(id: u64) -> Self {
        assert!(id != 0, "number 0 stands for no thread");
        Self {
            id,
            tokens: [const { Cell::new(None) }; MAX_TOKENS],
            depth: Cell::new(0),
            looking: Cell::new(None),
            locks: [const { Cell::new(None) }; MAX_SLEEP_LOCKS],
        }
    }

    /// Number of the thread.
    pub fn id(&self) -> u64 {
        self.id
    }
}
