//! What a home keeps of each of its threads for the component.

use core::cell::Cell;

/// Most tokens that one thread holds at a time; DragonFly's threads have room for as many.
pub const MAX_TOKENS: usize = 32;

/// One use of a token by a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenUse {
    /// The token's address.
    pub address: usize,
    /// Other holders are admitted beside this one.
    pub shared: bool,
}

/// The component's part of a thread. A home makes one with each thread and keeps it where it is.
#[derive(Debug)]
pub struct ThreadLocal {
    id: u64,
    /// Tokens of the thread, oldest first; given up while it sleeps.
    pub tokens: [Cell<Option<TokenUse>>; MAX_TOKENS],
    /// Number of them.
    pub depth: Cell<usize>,
}

impl ThreadLocal {
    /// Of a thread with this number, unique in its machine and not zero.
    pub fn new(id: u64) -> Self {
        assert_ne!(id, 0, "number 0 stands for no thread");
        Self { id, tokens: [const { Cell::new(None) }; MAX_TOKENS], depth: Cell::new(0) }
    }

    /// Number of the thread.
    pub fn id(&self) -> u64 {
        self.id
    }
}
