//! What comes and goes through pointers of the host's: null is refused, everything else believed.

use crate::errno::{Errno, RUMPVM_EINVAL};

/// What `from` points to.
///
/// # Safety
/// `from` is null, or points to a `T` that nobody changes meanwhile.
pub(crate) unsafe fn get<T: Copy>(from: *const T) -> Result<T, Errno> {
    // SAFETY: by the caller's promise.
    unsafe { from.as_ref() }.copied().ok_or(Errno(RUMPVM_EINVAL))
}

/// Stores what `make` makes at `into`, which is looked at first: what cannot be stored is not made.
///
/// # Safety
/// `into` is null, or there is room for a `T`.
pub(crate) unsafe fn put<T>(
    into: *mut T,
    make: impl FnOnce() -> Result<T, Errno>,
) -> Result<(), Errno> {
    if into.is_null() {
        return Err(Errno(RUMPVM_EINVAL));
    }
    let made = make()?;
    // SAFETY: by the caller's promise.
    unsafe { into.write(made) };
    Ok(())
}
