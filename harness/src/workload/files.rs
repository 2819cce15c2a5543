//! Files of the host with known contents, in a folder that goes when the workload does.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rumpvm::Hold;
use rumpvm::map::{Backing, MapFlags};
use rumpvm::object::Object;
use rumpvm_arch::{Prot, VirtAddr, X86_64};
use rumpvm_hosted::{HostFile, Hosted};
use tempfile::TempDir;

use super::load::Load;
use super::pattern;
use super::stop::Stop;
use super::worker::{Source, Worker};
use crate::machine::User;

/// The files of one workload; file `n` starts out as the content called `key(seed, n)`.
pub(super) struct Files {
    folder: TempDir,
    seed: u64,
    length: u64,
    count: u64,
}

impl Files {
    /// Makes `count` files of `length` bytes.
    pub(super) fn create(seed: u64, count: u64, length: u64) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("rumpvm-").tempdir()?;
        let files = Self { folder, seed, length, count };
        for file in 0..count {
            pattern::write(&files.path(file), files.key(file), length)?;
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
        self.folder.path().join(file.to_string())
    }

    /// Opens `file` in the machine.
    pub(super) fn open<'w>(&self, worker: &Worker<'w>, file: u64) -> Result<Open<'w>, Stop> {
        let host = HostFile::open_writable(self.path(file));
        let host = host.map_err(|error| Stop::Broken(format!("open: {error}")))?;
        let object = worker.user.vm().open_file(Arc::new(host));
        let object = object.map_err(|error| Stop::call("open", error))?;
        Ok(Open { user: worker.user, load: worker.load.clone(), object })
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

    /// What is on the host's disk now, in `file`.
    pub(super) fn contents(&self, file: u64) -> Result<Vec<u8>, String> {
        fs::read(self.path(file)).map_err(|error| format!("file {file}: {error}"))
    }
}

/// An open file: closed when dropped, by whichever way the worker leaves.
pub(super) struct Open<'w> {
    user: &'w User,
    load: Arc<Load>,
    object: Hold<Object<Hosted<X86_64>>, Hosted<X86_64>>,
}

impl Open<'_> {
    /// The file as what a mapping shows, from `offset` on.
    pub(super) fn from(&self, offset: u64) -> Source<'_> {
        (Backing::Object(&self.object), offset)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.user.vm().close(&self.object) {
            self.load.fail(format!("close: {error}"));
        }
    }
}
