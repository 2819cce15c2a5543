//! A flush request and its acknowledgement, as `rumpvm::pmap::shootdown` has them (S2), with its own lock and
//! atomics: the mailbox itself needs a machine.

use std::sync::Arc;

use rumpvm::sync::{Atomic, Ordering, Spin};

use crate::home::{Home, LOCK, Watched, model, on};

/// Number of the newest request, and of the newest that was carried out.
struct Mailbox {
    posted: Spin<u64, Home>,
    done: Atomic<u64, Home>,
}

/// Two frames. The CPU that serves uses each until it serves the request that covers it.
struct Shared {
    mailbox: Mailbox,
    frames: [Watched; 2],
}

impl Shared {
    /// Asks for a flush of frame `at`, waits for it, and takes the frame away.
    fn ask(&self, at: usize) {
        let mut posted = self.mailbox.posted.lock();
        *posted += 1;
        let number = *posted;
        drop(posted);
        self.mailbox.done.wait_while(Ordering::Acquire, |done| done < number);
        self.frames[at].change();
    }

    /// Serves what was asked; returns its number.
    fn serve(&self) -> u64 {
        let posted = *self.mailbox.posted.lock();
        if self.mailbox.done.get() < posted {
            self.mailbox.done.store(posted, Ordering::Release);
        }
        posted
    }
}

#[test]
fn whoever_is_acknowledged_may_take_away_what_the_other_used() {
    model(|| {
        let mailbox = Mailbox { posted: Spin::new(&LOCK, 0), done: Atomic::new(0) };
        let shared = Arc::new(Shared { mailbox, frames: [Watched::new(), Watched::new()] });
        let asker = {
            let shared = Arc::clone(&shared);
            on(1, move || (0..2).for_each(|at| shared.ask(at)))
        };
        let mut served = 0;
        while served < 2 {
            // What no flush has covered yet may be used.
            shared.frames[served..].iter().for_each(Watched::look);
            loom::thread::yield_now();
            served = shared.serve() as usize;
        }
        asker.join().unwrap();
    });
}
