//! bigbuffer, after the report `dd if=/dev/zero of=/dev/null bs=N` with N about 12 MB less than memory
//! (FreeBSD): one buffer that takes almost every frame, again and again, with a neighbour beside it.
//!
//! There, the neighbour was the daemon that walks spaces while they are torn down. Here each round is a process that maps
//! the buffer, fills it, reads it back and ends; by turns it gives the buffer back itself or leaves
//! that to its exit. A small sibling forks at the same time, for the frames that are left. Every fourth
//! buffer is larger than memory: that process must run out of memory cleanly, and the next must find
//! every frame again.

use std::sync::Arc;

use rand::RngExt;
use rumpvm_arch::PAGE_SIZE;

use super::stop::Stop;
use super::worker::Worker;
use super::{Job, Settings, pattern};

/// What the report left free; at most a quarter, of a machine that has little more than that.
const SPARE: u64 = 12 << 20;
/// The component's own share: a record of 64 bytes for each frame (1/64), page tables and maps (1/512
/// each), and what the caches of the CPUs hold back.
const OWN: u64 = 32;
/// In so many rounds, one asks for as much as the machine has, of which the component needs some
/// itself, and one for more, which is refused at once.
const TOO_LARGE: u64 = 8;
/// Size of the sibling's own memory.
const SMALL: u64 = 16 * PAGE_SIZE;

pub(super) struct Bigbuffer {
    memory: u64,
    seed: u64,
}

impl Bigbuffer {
    pub(super) fn prepare(settings: &Settings) -> Self {
        Self { memory: settings.memory, seed: settings.seed }
    }

    /// A size that fits, a little different each time.
    fn size(&self, worker: &mut Worker<'_>, round: u64) -> u64 {
        match round % TOO_LARGE {
            3 => return self.memory,
            7 => return self.memory + SPARE,
            _ => {}
        }
        let spare = SPARE.min(self.memory / 4) + self.memory / OWN;
        let vary = worker.rng.random_range(0..=self.memory / 64);
        (self.memory - spare - vary).next_multiple_of(PAGE_SIZE)
    }

    /// `dd`: reads one block of `size` and writes it.
    fn copy(&self, worker: &mut Worker<'_>, size: u64, round: u64) -> Result<(), Stop> {
        let key = pattern::key(self.seed, round);
        let buffer = worker.map_anonymous(size)?;
        worker.fill(buffer, size, key, 0)?;
        worker.verify(buffer, size, key, 0)?;
        if round.is_multiple_of(2) {
            worker.unmap(buffer, size)?;
        }
        Ok(())
    }

    /// The sibling: forks, and each side checks that it sees its own memory only.
    fn bystander(&self, worker: &mut Worker<'_>, number: u64) -> Result<(), Stop> {
        let (own, childs) = (pattern::key(self.seed, number), pattern::key(self.seed, !number));
        let at = worker.map_anonymous(SMALL)?;
        worker.fill(at, SMALL, own, 0)?;
        worker.fork(number + 1, move |worker| {
            worker.verify(at, SMALL, own, 0)?;
            worker.fill(at, SMALL / 2, childs, 0)?;
            worker.verify(at, SMALL / 2, childs, 0)
        })?;
        worker.wait()?;
        worker.verify(at, SMALL, own, 0)
    }
}

impl Job for Bigbuffer {
    fn start(self: Arc<Self>, worker: &mut Worker<'_>) -> Result<(), Stop> {
        worker.load.plan(1);
        let mut round = 0;
        while worker.load.goes_on(round) {
            let size = self.size(worker, round);
            let (dd, bystander, number) = (self.clone(), self.clone(), 1 + 3 * round);
            worker.fork(number, move |worker| dd.copy(worker, size, round))?;
            worker.fork(number + 1, move |worker| bystander.bystander(worker, number + 1))?;
            worker.wait()?;
            worker.wait()?;
            round += 1;
        }
        Ok(())
    }
}
