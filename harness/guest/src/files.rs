//! Files with known contents, in a folder that goes when the workload does.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;

use rumpvm::map::MapFlags;
use rumpvm_arch::{Prot, VirtAddr};

use super::board::Board;
use super::pattern;
use super::stop::Stop;
use super::system;
use super::worker::{Source, Worker};

/// The files of one workload; file `n` starts out as the content called `key(seed, n)`.
pub(super) struct Files {
    seed: u64,
    length: u64,
    count: u64,
}

/// Where they are: all processes of a run know the same page of numbers.
fn folder() -> PathBuf {
    PathBuf::from(format!("/tmp/load-{}", system::run_number()))
}

/// Removes all of them.
pub(super) fn remove() -> io::Result<()> {
    match fs::remove_dir_all(folder()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl Files {
    /// Makes `count` files of `length` bytes, unless another process of the run has.
    pub(super) fn create(seed: u64, count: u64, length: u64) -> io::Result<Self> {
        let files = Self { seed, length, count };
        let done = Board::new(1);
        if done.get(0) == 0 {
            fs::create_dir(folder())?;
            (0..count)
                .try_for_each(|file| pattern::write(&files.path(file), files.key(file), length))?;
            done.set(0, 1);
        }
        Ok(files)
    }

    /// What file `file` held at the start.
    pub(super) fn key(&self, file: u64) -> u64 {
        pattern::key(self.seed, file)
    }

    /// Length of each file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn path(&self, file: u64) -> PathBuf {
        folder().join(file.to_string())
    }

    /// Opens `file`.
    pub(super) fn open(&self, _: &Worker<'_>, file: u64) -> Result<Open, Stop> {
        let open = OpenOptions::new().read(true).write(true).open(self.path(file));
        open.map(Open).map_err(|error| Stop::call("open", error))
    }

    /// Maps `length` bytes of `file` from `offset` on, and closes it again: the mapping alone keeps it.
    pub(super) fn map(
        &self,
        worker: &mut Worker<'_>,
        file: u64,
        (offset, length): (u64, u64),
        prot: Prot,
        flags: MapFlags,
    ) -> Result<VirtAddr, Stop> {
        let open = self.open(worker, file)?;
        worker.map(VirtAddr(0), length, prot, flags, open.from(offset))
    }

    /// What is in `file` now.
    pub(super) fn contents(&self, file: u64) -> Result<Vec<u8>, String> {
        fs::read(self.path(file)).map_err(|error| format!("file {file}: {error}"))
    }
}

/// An open file.
pub(super) struct Open(File);

impl Open {
    /// The file as what a mapping shows, from `offset` on.
    pub(super) fn from(&self, offset: u64) -> Source<'_> {
        (Some(&self.0), offset)
    }
}
