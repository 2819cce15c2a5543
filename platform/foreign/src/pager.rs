//! Pagers: files of the host's, as the component asks for their contents.
//!
//! Flow:  component -> [`Pager`]'s callbacks -> host.
//! Sleep: as the host's callbacks do; they are called with no lock held.
//! Owns:  the host's cookie, until `close`.

use core::ffi::c_void;

use rumpvm_platform::{File, FileId, IoError};

use crate::errno::{RUMPVM_EIO, RUMPVM_EOPNOTSUPP};

/// How rumpvm reaches the contents of a file of the host's. Callbacks get the cookie of rumpvm_object_open, may sleep,
/// are called with no lock of rumpvm held, from several CPUs at once, but never twice at once for the same page. They
/// return 0, or an error number, negative, which the caller of rumpvm gets as -EIO. They must not use memory that only
/// this file maps.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pager {
    /// Bytes in this table: sizeof(struct rumpvm_pager).
    pub size: u64,
    /// How many bytes the file has now. Must be given.
    pub length: Option<unsafe extern "C" fn(cookie: *mut c_void) -> u64>,
    /// Fills `into` from byte `offset` on; returns how many bytes there were, fewer than `length` only at the end of
    /// the file. Must be given.
    pub read: Option<
        unsafe extern "C" fn(cookie: *mut c_void, offset: u64, into: *mut u8, length: usize) -> i64,
    >,
    /// Writes all of `from` at byte `offset`, never beyond the file's length. Left out: -EOPNOTSUPP, and what was
    /// stored in shared mappings stays in memory until the machine ends.
    pub write: Option<
        unsafe extern "C" fn(
            cookie: *mut c_void,
            offset: u64,
            from: *const u8,
            length: usize,
        ) -> i32,
    >,
    /// Cuts the file off at `bytes`, or extends it with zeros. Left out: -EOPNOTSUPP.
    pub set_length: Option<unsafe extern "C" fn(cookie: *mut c_void, bytes: u64) -> i32>,
    /// Makes what has been written durable. Left out: it is when it is written.
    pub sync: Option<unsafe extern "C" fn(cookie: *mut c_void) -> i32>,
    /// rumpvm uses the cookie no more. May come with locks of rumpvm held: takes note, and does not call rumpvm nor
    /// sleep. Left out: nobody wants to know.
    pub close: Option<unsafe extern "C" fn(cookie: *mut c_void)>,
}

/// A file of the host's.
pub(crate) struct HostFile {
    pub(crate) pager: Pager,
    pub(crate) cookie: *mut c_void,
    pub(crate) id: FileId,
}

// SAFETY: the cookie is the host's, which was promised calls from any CPU.
unsafe impl Send for HostFile {}
// SAFETY: as above.
unsafe impl Sync for HostFile {}

/// An error number of the host's.
fn done(returned: i32) -> Result<(), IoError> {
    if returned < 0 { Err(IoError(returned.saturating_neg())) } else { Ok(()) }
}

const UNSUPPORTED: Result<(), IoError> = Err(IoError(RUMPVM_EOPNOTSUPP));

impl File for HostFile {
    fn id(&self) -> FileId {
        self.id
    }

    fn length(&self) -> u64 {
        // SAFETY: the host's own function, with its cookie.
        self.pager.length.map_or(0, |length| unsafe { length(self.cookie) })
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        let read = self.pager.read.ok_or(IoError(RUMPVM_EOPNOTSUPP))?;
        // SAFETY: the host's own function, with its cookie and so many bytes.
        let returned = unsafe { read(self.cookie, offset, into.as_mut_ptr(), into.len()) };
        match usize::try_from(returned) {
            Ok(count) if count <= into.len() => Ok(count),
            // More than there is room for.
            Ok(_) => Err(IoError(RUMPVM_EIO)),
            Err(_) => Err(IoError(i32::try_from(returned.saturating_neg()).unwrap_or(RUMPVM_EIO))),
        }
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result<(), IoError> {
        self.pager.write.map_or(UNSUPPORTED, |write| {
            // SAFETY: the host's own function, with its cookie and so many bytes.
            done(unsafe { write(self.cookie, offset, from.as_ptr(), from.len()) })
        })
    }

    fn set_length(&self, bytes: u64) -> Result<(), IoError> {
        // SAFETY: the host's own function, with its cookie.
        self.pager.set_length.map_or(UNSUPPORTED, |set| done(unsafe { set(self.cookie, bytes) }))
    }

    fn sync(&self) -> Result<(), IoError> {
        // SAFETY: the host's own function, with its cookie.
        self.pager.sync.map_or(Ok(()), |sync| done(unsafe { sync(self.cookie) }))
    }
}

impl Drop for HostFile {
    fn drop(&mut self) {
        if let Some(close) = self.pager.close {
            // SAFETY: the host's own function, with its cookie, for the last time.
            unsafe { close(self.cookie) };
        }
    }
}
