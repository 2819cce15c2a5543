//! bulkbuild, after a parallel package build (pkgsrc's pbulk on DragonFly BSD, `make -j`): storms of
//! fork, exec, map, dirty and exit.
//!
//! Each job is a make that starts a compiler by vfork and exec. The compiler maps its program text,
//! its data and a few headers, works on heap and arenas, and forks an assembler, which inherits all of
//! that copy-on-write and writes the object file through a shared mapping. Everyone compares what it
//! reads; make reads the object file when its compiler is done, and in the end all of them are compared
//! on the host's disk.

use std::io;
use std::sync::Arc;

use rand::RngExt;
use rumpvm::map::MapFlags;
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

use super::board::Board;
use super::files::Files;
use super::stop::Stop;
use super::worker::Worker;
use super::{Job, Settings, pattern};

/// Makes at work.
const JOBS: u64 = 4;
/// Files 0 and 1 are the compiler's text and data, the next ones headers, the last ones object files.
const TEXT: u64 = 0;
const DATA: u64 = 1;
const HEADERS: std::ops::Range<u64> = 2..6;
const FIRST_OBJECT: u64 = 6;
/// Length of each file; a compiler's text is larger, and is touched in places only.
const LENGTH: u64 = 64 * PAGE_SIZE;
/// Pages of heap, and of each arena.
const HEAP: u64 = 24 * PAGE_SIZE;
const ARENA: u64 = 12 * PAGE_SIZE;
const ARENAS: u64 = 3;

/// In place of a compiler's number.
const BEING_WRITTEN: u64 = u64::MAX;

pub(super) struct Bulkbuild {
    files: Files,
    seed: u64,
    /// Who wrote each object file last: its compiler's number, zero for nobody, or [`BEING_WRITTEN`].
    objects: Board,
}

impl Bulkbuild {
    /// Makes the files.
    pub(super) fn prepare(settings: &Settings) -> io::Result<Self> {
        let files = Files::create(settings.seed, FIRST_OBJECT + JOBS, LENGTH)?;
        Ok(Self { files, seed: settings.seed, objects: Board::new(JOBS) })
    }

    /// The content of an object file; none while its assembler writes it.
    fn object(&self, job: u64) -> Option<u64> {
        match self.objects.get(job) {
            0 => Some(self.files.key(FIRST_OBJECT + job)),
            BEING_WRITTEN => None,
            number => Some(self.content(number)),
        }
    }

    /// What compiler `number` makes its assembler write.
    fn content(&self, number: u64) -> u64 {
        pattern::key(!self.seed, number)
    }

    /// Maps the whole of `file`.
    fn map(
        &self,
        worker: &mut Worker<'_>,
        file: u64,
        prot: Prot,
        flags: MapFlags,
    ) -> Result<VirtAddr, Stop> {
        self.files.map(worker, file, (0, LENGTH), prot, flags)
    }

    /// `make`: compiles until it is time to stop.
    fn make(self: Arc<Self>, worker: &mut Worker<'_>, job: u64) -> Result<(), Stop> {
        let mut round = 0;
        while worker.load.goes_on(round) {
            let number = JOBS + 1 + 2 * (round * JOBS + job);
            worker.spawn(number, self.clone(), job)?;
            worker.wait()?;
            self.read_object(worker, job)?;
            round += 1;
        }
        Ok(())
    }

    /// `cc`, in a space of its own.
    fn compile(
        self: Arc<Self>,
        worker: &mut Worker<'_>,
        job: u64,
        number: u64,
    ) -> Result<(), Stop> {
        self.read_text(worker)?;
        self.write_data(worker, number)?;
        for header in HEADERS {
            let at = self.map(worker, header, Prot::READ, MapFlags::PRIVATE)?;
            worker.verify(at, LENGTH, self.files.key(header), 0)?;
            worker.unmap(at, LENGTH)?;
        }
        let key = pattern::key(self.seed, number);
        let heap = worker.grow_heap(HEAP)?;
        worker.fill(heap, HEAP, key, 0)?;
        self.arenas(worker)?;

        let assembler = self.clone();
        worker.fork(number + 1, move |worker| assembler.assemble(worker, job, number, heap))?;
        worker.wait()?;
        worker.verify(heap, HEAP, key, 0)
    }

    /// Program text: fetched and read in places.
    fn read_text(&self, worker: &mut Worker<'_>) -> Result<(), Stop> {
        let at = self.map(worker, TEXT, Prot::READ | Prot::EXEC, MapFlags::PRIVATE)?;
        for _ in 0..8 {
            let page = worker.rng.random_range(0..LENGTH / PAGE_SIZE) * PAGE_SIZE;
            worker.fetch(at + page)?;
            worker.verify(at + page, PAGE_SIZE, self.files.key(TEXT), page)?;
        }
        Ok(())
    }

    /// Initialised data: the file's, until this process stores its own.
    fn write_data(&self, worker: &mut Worker<'_>, number: u64) -> Result<(), Stop> {
        let at = self.map(worker, DATA, Prot::RW, MapFlags::PRIVATE)?;
        let (half, first) = (LENGTH / 2, self.files.key(DATA));
        worker.verify(at, half, first, 0)?;
        worker.fill(at, half, number, 0)?;
        worker.protect(at, half, Prot::READ)?;
        worker.verify(at, half, number, 0)?;
        worker.verify(at + half, half, first, half)
    }

    /// Memory that a compiler takes and gives back while it works.
    fn arenas(&self, worker: &mut Worker<'_>) -> Result<(), Stop> {
        for _ in 0..ARENAS {
            let key = worker.rng.random();
            let at = worker.map_anonymous(ARENA)?;
            worker.fill(at, ARENA, key, 0)?;
            worker.verify(at, ARENA, key, 0)?;
            worker.unmap(at + PAGE_SIZE, ARENA - PAGE_SIZE)?;
        }
        Ok(())
    }

    /// `as`, with its parent's memory: writes the object file. Every other one leaves it to the last
    /// unmap to write it back.
    fn assemble(
        &self,
        worker: &mut Worker<'_>,
        job: u64,
        number: u64,
        heap: VirtAddr,
    ) -> Result<(), Stop> {
        worker.verify(heap, HEAP, pattern::key(self.seed, number), 0)?;
        worker.fill(heap, HEAP / 2, !number, 0)?;
        worker.verify(heap, HEAP / 2, !number, 0)?;

        let at = self.map(worker, FIRST_OBJECT + job, Prot::RW, MapFlags::SHARED)?;
        self.objects.set(job, BEING_WRITTEN);
        worker.fill(at, LENGTH, self.content(number), 0)?;
        if (number / 2).is_multiple_of(2) {
            worker.sync(at, LENGTH)?;
        }
        self.objects.set(job, number);
        Ok(())
    }

    /// What make finds in the object file.
    fn read_object(&self, worker: &mut Worker<'_>, job: u64) -> Result<(), Stop> {
        let Some(content) = self.object(job) else { return Ok(()) };
        let at = self.map(worker, FIRST_OBJECT + job, Prot::READ, MapFlags::SHARED)?;
        worker.verify(at, LENGTH, content, 0)?;
        worker.unmap(at, LENGTH)
    }
}

impl Job for Bulkbuild {
    fn start(self: Arc<Self>, worker: &mut Worker<'_>) -> Result<(), Stop> {
        worker.load.plan(JOBS);
        for job in 0..JOBS {
            let make = self.clone();
            worker.fork(1 + job, move |worker| make.make(worker, job))?;
        }
        (0..JOBS).try_for_each(|_| worker.wait().map(drop))
    }

    fn program(self: Arc<Self>, worker: &mut Worker<'_>, job: u64) -> Result<(), Stop> {
        let number = worker.number;
        self.compile(worker, job, number)
    }

    fn verify(&self) -> Result<(), String> {
        for job in 0..JOBS {
            let Some(content) = self.object(job) else { continue };
            let found = self.files.contents(FIRST_OBJECT + job)?;
            if let Some(at) = pattern::difference(content, 0, &found) {
                return Err(format!("object file {job} on disk differs at byte {at}"));
            }
        }
        (0..FIRST_OBJECT).try_for_each(|file| {
            let found = self.files.contents(file)?;
            match pattern::difference(self.files.key(file), 0, &found) {
                None => Ok(()),
                Some(at) => {
                    Err(format!("file {file}, mapped private, changed on disk at byte {at}"))
                }
            }
        })
    }
}
