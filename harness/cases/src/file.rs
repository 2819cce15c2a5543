//! A file in memory, for cases: contents, counts, and failures, on the case's demand and on the home's.
//!
//! Cases run one after another on one CPU, but a file must be `Sync`; a spin lock of the component will
//! do, since nothing here waits.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::panic::Location;

use rumpvm::sync::Spin;
use rumpvm_platform::{File, FileId, IoError, LockClass, LockKind, Scarce, Seam};

/// What a failure of a [`RamFile`] says: `EIO`.
pub(crate) const EIO: IoError = IoError(5);

/// After every lock of the component.
static FILE: LockClass =
    LockClass { name: "file in memory", rank: u8::MAX, kind: LockKind::Spin, nests: false };

/// Volume number of these files.
const DEVICE: u64 = 77;

/// A file in memory.
pub struct RamFile<S> {
    inode: u64,
    state: Spin<State, S>,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    reads: u64,
    writes: u64,
    syncs: u64,
    fail_reads: bool,
    fail_writes: bool,
}

impl<S: Seam> RamFile<S> {
    /// File number `inode` with these contents. Two files of one number are one file to the component.
    pub fn new(inode: u64, bytes: &[u8]) -> Arc<Self> {
        let state = State { bytes: bytes.to_vec(), ..State::default() };
        Arc::new(Self { inode, state: Spin::new(&FILE, state) })
    }

    /// A file of `pages` pages, of which page `n` is filled with the byte `n + 1`.
    pub fn numbered(inode: u64, pages: u8) -> Arc<Self> {
        let page = |number: u8| core::iter::repeat_n(number + 1, crate::PAGE as usize);
        let bytes: Vec<u8> = (0..pages).flat_map(page).collect();
        Self::new(inode, &bytes)
    }

    /// The byte at `at`.
    pub fn byte(&self, at: u64) -> u8 {
        self.state.lock().bytes[at as usize]
    }

    /// Its length now.
    pub fn size(&self) -> u64 {
        self.state.lock().bytes.len() as u64
    }

    /// Reads, writes and syncs so far, failed ones included.
    pub fn counts(&self) -> (u64, u64, u64) {
        let state = self.state.lock();
        (state.reads, state.writes, state.syncs)
    }

    /// From now on reads fail, or work again.
    pub fn fail_reads(&self, fail: bool) {
        self.state.lock().fail_reads = fail;
    }

    /// From now on writes fail, or work again.
    pub fn fail_writes(&self, fail: bool) {
        self.state.lock().fail_writes = fail;
    }
}

impl<S: Seam> File for RamFile<S> {
    fn id(&self) -> FileId {
        FileId { device: DEVICE, inode: self.inode }
    }

    fn length(&self) -> u64 {
        self.size()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        let mut state = self.state.lock();
        state.reads += 1;
        if state.fail_reads || S::fails(Scarce::Io, Location::caller()) {
            return Err(EIO);
        }
        let rest = state.bytes.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result<(), IoError> {
        let mut state = self.state.lock();
        state.writes += 1;
        if state.fail_writes || S::fails(Scarce::Io, Location::caller()) {
            return Err(EIO);
        }
        let place =
            state.bytes.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..from.len()));
        place.expect("no write reaches beyond the end").copy_from_slice(from);
        Ok(())
    }

    fn set_length(&self, bytes: u64) -> Result<(), IoError> {
        let mut state = self.state.lock();
        if state.fail_writes || S::fails(Scarce::Io, Location::caller()) {
            return Err(EIO);
        }
        state.bytes.resize(bytes as usize, 0);
        Ok(())
    }

    fn sync(&self) -> Result<(), IoError> {
        self.state.lock().syncs += 1;
        if S::fails(Scarce::Io, Location::caller()) { Err(EIO) } else { Ok(()) }
    }

    fn can_punch(&self) -> bool {
        true
    }

    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        let mut state = self.state.lock();
        state.writes += 1;
        if state.fail_writes {
            return Err(EIO);
        }
        let range = offset as usize..(offset + length) as usize;
        state.bytes.get_mut(range).expect("no hole reaches beyond the end").fill(0);
        Ok(())
    }
}
