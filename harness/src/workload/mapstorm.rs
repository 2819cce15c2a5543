//! mapstorm, after stress2's mmap tests (FreeBSD, tools/test/stress2/misc/mmap2): a hundred threads of
//! one process map, protect, discard and unmap at random, and touch what they have.
//!
//! Each thread owns a slot of pages at a fixed place and keeps a model of it: which page is mapped,
//! with which rights, and what must be in it. Slots are apart, but their map entries and page tables are
//! not: neighbours share page-table pages. Now and then a thread also maps somewhere else, where the
//! machine likes. A thread that finds no memory gives back all that it has and goes on.

use std::io;
use std::sync::Arc;

use rand::RngExt;
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

use super::files::Files;
use super::slot::{Content, Slot};
use super::stop::Stop;
use super::worker::{ANONYMOUS, Worker};
use super::{Job, Settings};

/// Threads: mmap2's number.
const THREADS: u64 = 100;
/// Pages of a slot. Ten slots share a page-table page, and one lies across two.
const PAGES: usize = 48;
/// First byte of the first slot: far below where the machine places what may lie anywhere.
const BASE: VirtAddr = VirtAddr(0x1000_0000_0000);
/// Steps between two looks at the clock.
const STEPS: u64 = 64;
/// Most pages of a mapping elsewhere.
const ELSEWHERE: u64 = 32;

pub(super) struct Mapstorm {
    file: Files,
}

impl Mapstorm {
    /// Makes the file that some mappings show: as long as a slot.
    pub(super) fn prepare(settings: &Settings) -> io::Result<Self> {
        let length = PAGES as u64 * PAGE_SIZE;
        Ok(Self { file: Files::create(settings.seed, 1, length)? })
    }

    fn thread(&self, worker: &mut Worker<'_>, number: u64) -> Result<(), Stop> {
        let at = BASE + number * PAGES as u64 * PAGE_SIZE;
        let mut slot = Slot::new(at, PAGES, self.file.key(0));
        let mut round = 0;
        while worker.load.goes_on(round) {
            for _ in 0..STEPS {
                match self.step(worker, &mut slot) {
                    Err(Stop::OutOfMemory) => give_back(worker, &mut slot)?,
                    other => other?,
                }
            }
            worker.user.yield_now();
            round += 1;
        }
        slot.verify(worker)?;
        slot.unmap(worker, 0..PAGES)
    }

    /// One thing at random. What is frequent in programs is frequent here: mostly accesses.
    fn step(&self, worker: &mut Worker<'_>, slot: &mut Slot) -> Result<(), Stop> {
        let range = slot.random_range(&mut worker.rng);
        let page = worker.rng.random_range(0..PAGES);
        match worker.rng.random_range(0..32u32) {
            0..2 => slot.map(worker, range, Content::Zero, ANONYMOUS),
            2 => {
                let (file, offset) = (self.file.open(worker, 0)?, range.start as u64 * PAGE_SIZE);
                slot.map(worker, range, Content::File, file.from(offset))
            }
            3..5 => slot.unmap(worker, range),
            5..8 => slot.protect(worker, range),
            8 => slot.discard(worker, range),
            9 => elsewhere(worker),
            10..20 => slot.store(worker, page),
            _ => slot.load(worker, page),
        }
    }
}

/// Maps where the machine likes, uses it, and unmaps it in two parts.
fn elsewhere(worker: &mut Worker<'_>) -> Result<(), Stop> {
    let length = worker.rng.random_range(2..=ELSEWHERE) * PAGE_SIZE;
    let key = worker.rng.random();
    let at = worker.map_anonymous(length)?;
    let used = elsewhere_used(worker, at, length, key);
    worker.unmap(at, PAGE_SIZE)?;
    worker.unmap(at + PAGE_SIZE, length - PAGE_SIZE)?;
    used
}

fn elsewhere_used(
    worker: &mut Worker<'_>,
    at: VirtAddr,
    length: u64,
    key: u64,
) -> Result<(), Stop> {
    worker.verify_zero(at, PAGE_SIZE)?;
    worker.fill(at, length, key, 0)?;
    worker.protect(at, length, Prot::READ)?;
    let refused = worker.user.store(at, &[0]);
    worker.refused(refused)?;
    worker.verify(at, length, key, 0)
}

/// Counts that memory ran out, and gives back the whole slot.
fn give_back(worker: &mut Worker<'_>, slot: &mut Slot) -> Result<(), Stop> {
    worker.ran_out();
    slot.unmap(worker, 0..PAGES)
}

impl Job for Mapstorm {
    fn start(self: Arc<Self>, worker: &mut Worker<'_>) -> Result<(), Stop> {
        worker.load.plan(THREADS);
        for number in 0..THREADS {
            let job = self.clone();
            worker.thread(1 + number, move |worker| job.thread(worker, number));
        }
        Ok(())
    }
}
