//! tuxload, after DragonFly BSD's test/stress/tuxload: many files, each mapped shared, dirtied a byte
//! here and there, synchronised, and never unmapped.
//!
//! The original makes the files from random blocks of 32 KiB, maps each whole, increments one byte in
//! every 65,535 (so that the place in the page drifts back by one each step) and calls msync; it
//! leaks address space and descriptors until it dies. Ours dies after each loop instead, and the next
//! process goes on: what was not synchronised must then reach the file by the last unmap and the close.
//! Several processes do so at once to the same files, each to bytes of its own. Other bytes are
//! compared with the file's first content on the way, and in the end every file is compared whole, on
//! the host's disk.

use std::io;
use std::sync::Arc;

use rumpvm::map::MapFlags;
use rumpvm_arch::{Prot, VirtAddr};

use super::board::Board;
use super::files::Files;
use super::stop::Stop;
use super::worker::Worker;
use super::{Job, Settings, pattern};

/// Processes at work; each dirties bytes of its own.
const LANES: u64 = 4;
/// Distance between two dirtied bytes: the original's.
const STEP: u64 = 65_535;
/// Bytes behind each dirtied place that nobody dirties, and that are compared.
const QUIET: u64 = 64;
const FILES: u64 = 32;

pub(super) struct Tuxload {
    files: Files,
    /// What was stored last at each place that is dirtied: one more than the byte, or zero.
    stored: Board,
}

impl Tuxload {
    /// Makes the files; together they fill at most half of memory, and at most 32 MiB of disk.
    pub(super) fn prepare(settings: &Settings) -> io::Result<Self> {
        let length = (settings.memory / 2 / FILES).clamp(2 * STEP, 1 << 20);
        let files = Files::create(settings.seed, FILES, length)?;
        let stored = Board::new(FILES * steps(length) * LANES);
        Ok(Self { files, stored })
    }

    /// Where the board has what `lane` stored in step `step` of `file`.
    fn place(&self, file: u64, step: u64, lane: u64) -> u64 {
        (file * steps(self.files.length()) + step) * LANES + lane
    }

    /// One process of the original: maps every file, dirties and synchronises it. What reaches the file
    /// by msync, by the last unmap at exit, and by the close is a third each.
    fn once(&self, worker: &mut Worker<'_>, lane: u64, round: u64) -> Result<(), Stop> {
        let length = self.files.length();
        for file in 0..self.files.count() {
            let open = self.files.open(worker, file)?;
            let at = worker.map(VirtAddr(0), length, Prot::RW, MapFlags::SHARED, open.from(0))?;
            self.dirty(worker, at, file, lane, round)?;
            match (file + round) % 3 {
                0 => worker.sync(at, length)?,
                1 => worker.unmap(at, length)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn dirty(
        &self,
        worker: &mut Worker<'_>,
        at: VirtAddr,
        file: u64,
        lane: u64,
        round: u64,
    ) -> Result<(), Stop> {
        for step in 0..steps(self.files.length()) {
            let (offset, place) = (step * STEP + lane, self.place(file, step, lane));
            let mut byte = [0];
            worker.load(at + offset, &mut byte)?;
            self.compare(file, offset, place, byte[0])?;
            let byte = pattern::key(round, offset) as u8;
            worker.store(at + offset, &[byte])?;
            self.stored.set(place, u64::from(byte) + 1);
            let quiet = step * STEP + LANES;
            worker.verify(at + quiet, QUIET, self.files.key(file), quiet)?;
        }
        Ok(())
    }

    /// Compares a byte of this lane with what was stored there last, or with the file's first content.
    fn compare(&self, file: u64, offset: u64, place: u64, found: u8) -> Result<(), Stop> {
        let expected = self.last(place).unwrap_or_else(|| {
            let mut first = [0];
            pattern::fill(self.files.key(file), offset, &mut first);
            first[0]
        });
        if found == expected {
            return Ok(());
        }
        let story = format!("file {file}, byte {offset}: {found:#04x}, stored {expected:#04x}");
        Err(Stop::Broken(story))
    }
}

impl Tuxload {
    /// What was stored last at a place of the board.
    fn last(&self, place: u64) -> Option<u8> {
        self.stored.get(place).checked_sub(1).map(|byte| byte as u8)
    }
}

/// Places that are dirtied in a file of `length` bytes, by each lane.
fn steps(length: u64) -> u64 {
    (length - LANES - QUIET).div_ceil(STEP)
}

impl Job for Tuxload {
    fn start(self: Arc<Self>, worker: &mut Worker<'_>) -> Result<(), Stop> {
        worker.load.plan(LANES);
        for lane in 0..LANES {
            let job = self.clone();
            worker.fork(1 + lane, move |worker| {
                let mut round = 0;
                while worker.load.goes_on(round) {
                    let (job, number) = (job.clone(), 1 + lane + LANES * (round + 1));
                    worker.fork(number, move |worker| job.once(worker, lane, round))?;
                    worker.wait()?;
                    round += 1;
                }
                Ok(())
            })?;
        }
        (0..LANES).try_for_each(|_| worker.wait().map(drop))
    }

    fn verify(&self) -> Result<(), String> {
        for file in 0..self.files.count() {
            let mut expected = vec![0; self.files.length() as usize];
            pattern::fill(self.files.key(file), 0, &mut expected);
            for (step, lane) in (0..steps(self.files.length()))
                .flat_map(|step| (0..LANES).map(move |lane| (step, lane)))
            {
                if let Some(byte) = self.last(self.place(file, step, lane)) {
                    expected[(step * STEP + lane) as usize] = byte;
                }
            }
            let found = self.files.contents(file)?;
            if let Some(at) = expected.iter().zip(&found).position(|(a, b)| a != b) {
                let (found, expected) = (found[at], expected[at]);
                return Err(format!(
                    "file {file} on disk, byte {at}: {found:#04x}, stored {expected:#04x}"
                ));
            }
        }
        Ok(())
    }
}
