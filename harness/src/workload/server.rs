//! server, after the preforking network servers of the 1990s (Apache's prefork model): a master loads
//! its data once, forks children that share it copy-on-write, and replaces each child that has
//! answered its share of requests.
//!
//! A request reads pages of the inherited data, writes some of them, takes memory and gives it back,
//! and enters itself on a shared scoreboard. A child must see its own writes and nobody else's; the
//! master must find its data as it left it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rumpvm::map::MapFlags;
use rumpvm::process::Pid;
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

use super::stop::Stop;
use super::worker::{ANONYMOUS, Worker};
use super::{Job, Settings, pattern};

/// Children alive at once.
const CHILDREN: u64 = 8;
/// Requests that a child answers before it ends.
const REQUESTS: u64 = 100;
/// Pages of the data that a request reads, and that it writes.
const READS: u64 = 8;
const WRITES: u64 = 2;
/// Most pages that a request takes for itself.
const ARENA: u64 = 16;
/// The data: an eighth of memory, and not more than this.
const DATA: u64 = 16 << 20;

pub(super) struct Server {
    data: u64,
    key: u64,
}

/// What the master prepares and every child inherits.
#[derive(Clone, Copy)]
struct Inherited {
    data: VirtAddr,
    scoreboard: VirtAddr,
}

impl Server {
    pub(super) fn prepare(settings: &Settings) -> Self {
        let data = (settings.memory / 8).min(DATA).next_multiple_of(PAGE_SIZE);
        Self { data, key: pattern::key(settings.seed, 0) }
    }

    fn pages(&self) -> u64 {
        self.data / PAGE_SIZE
    }

    /// One child's life.
    fn child(&self, worker: &mut Worker<'_>, has: Inherited, slot: u64) -> Result<(), Stop> {
        let mut own = BTreeMap::new();
        for request in 0..REQUESTS {
            for _ in 0..READS {
                let page = worker.rng.random_range(0..self.pages());
                self.read(worker, has, &own, page)?;
            }
            for _ in 0..WRITES {
                let page = worker.rng.random_range(0..self.pages());
                let key = worker.rng.random();
                own.insert(page, key);
                worker.fill(has.data + page * PAGE_SIZE, PAGE_SIZE, key, 0)?;
            }
            self.arena(worker)?;
            score(worker, has.scoreboard + slot * 8, request)?;
        }
        let written: Vec<u64> = own.keys().copied().collect();
        written.into_iter().try_for_each(|page| self.read(worker, has, &own, page))
    }

    /// Compares a page with what this child wrote there, or else with the master's data.
    fn read(
        &self,
        worker: &mut Worker<'_>,
        has: Inherited,
        own: &BTreeMap<u64, u64>,
        page: u64,
    ) -> Result<(), Stop> {
        let at = has.data + page * PAGE_SIZE;
        match own.get(&page) {
            Some(key) => worker.verify(at, PAGE_SIZE, *key, 0),
            None => worker.verify(at, PAGE_SIZE, self.key, page * PAGE_SIZE),
        }
    }

    /// Memory for one request, new and therefore zero.
    fn arena(&self, worker: &mut Worker<'_>) -> Result<(), Stop> {
        let length = worker.rng.random_range(1..=ARENA) * PAGE_SIZE;
        let key = worker.rng.random();
        let at = worker.map_anonymous(length)?;
        worker.verify_zero(at, PAGE_SIZE)?;
        worker.fill(at, length, key, 0)?;
        worker.verify(at, length, key, 0)?;
        worker.unmap(at, length)
    }
}

/// Counts a request on the shared scoreboard, where this child alone has the place `at`.
fn score(worker: &mut Worker<'_>, at: VirtAddr, request: u64) -> Result<(), Stop> {
    let answered = worker.load_number(at)?;
    if answered != request {
        return Err(Stop::Broken(format!("scoreboard: {answered} requests, not {request}")));
    }
    worker.store_number(at, request + 1)
}

/// Waits for a child, looks at what it left on the scoreboard, and returns its slot, now free.
fn reap(worker: &mut Worker<'_>, has: Inherited, alive: &mut Vec<(Pid, u64)>) -> Result<u64, Stop> {
    let (pid, status) = worker.wait()?;
    let Some(index) = alive.iter().position(|(child, _)| *child == pid) else {
        return Err(Stop::Broken(format!("wait returned {pid:?}, which is no child")));
    };
    let (_, slot) = alive.swap_remove(index);
    let place = has.scoreboard + slot * 8;
    let answered = worker.load_number(place)?;
    if status == 0 && answered != REQUESTS {
        return Err(Stop::Broken(format!("{pid:?} ended well after {answered} requests")));
    }
    worker.store_number(place, 0)?;
    Ok(slot)
}

impl Job for Server {
    fn start(self: Arc<Self>, worker: &mut Worker<'_>) -> Result<(), Stop> {
        let data = worker.map_anonymous(self.data)?;
        worker.fill(data, self.data, self.key, 0)?;
        let flags = MapFlags::SHARED | MapFlags::ANONYMOUS;
        let scoreboard = worker.map(VirtAddr(0), PAGE_SIZE, Prot::RW, flags, ANONYMOUS)?;
        let has = Inherited { data, scoreboard };

        worker.load.plan(1);
        let (mut born, mut alive) = (0, Vec::new());
        while worker.load.goes_on(born) {
            let slot = if born < CHILDREN { born } else { reap(worker, has, &mut alive)? };
            let job = self.clone();
            let pid = worker.fork(1 + born, move |worker| job.child(worker, has, slot))?;
            alive.push((pid, slot));
            born += 1;
        }
        while !alive.is_empty() {
            reap(worker, has, &mut alive)?;
        }
        worker.verify(data, self.data, self.key, 0)
    }
}
