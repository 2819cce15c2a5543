//! Protection keys: pkey_alloc(2), pkey_free(2), pkey_mprotect(2), on machines that have none.
//!
//! The answers are those of Linux on a processor without them, which are not quite those of its manual:
//! `pkey_alloc` says that its arguments are wrong, and no key is ever allocated. Long mode has room for a
//! key in bits 59 to 62 of an entry; DESIGN says what that waits for.

use rumpvm_platform::Platform;

use super::Map;
use crate::error::CallError;

impl<P: Platform> Map<P> {
    /// Allocates a key: there is none. Takes no lock.
    pub fn pkey_alloc(&self, _flags: u64, _rights: u64) -> Result<i32, CallError> {
        Err(CallError::Invalid)
    }

    /// Gives a key back: nobody has one. Takes no lock.
    pub fn pkey_free(&self, _key: i32) -> Result<(), CallError> {
        Err(CallError::Invalid)
    }
}
