//! Linux's error numbers, as system calls give them back.

use core::fmt;

use rumpvm::{CallError, FaultError, NoMemory};

/// Why a call failed, by Linux's number for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

macro_rules! errors {
    ($($name:ident = $number:literal, $says:literal;)+) => {
        impl Errno {
            $(#[doc = $says] pub const $name: Self = Self($number);)+

            /// Its name, as in `errno.h`.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)+
                    _ => "unknown error",
                }
            }
        }
    };
}

errors! {
    EPERM = 1, "Operation not permitted.";
    ENOENT = 2, "No such file or directory.";
    ESRCH = 3, "No such process.";
    EINTR = 4, "Interrupted by a signal.";
    EIO = 5, "Input or output error.";
    ENXIO = 6, "No such device or address.";
    E2BIG = 7, "Argument list too long.";
    ENOEXEC = 8, "Not an executable format.";
    EBADF = 9, "Bad file descriptor.";
    ECHILD = 10, "No child processes.";
    EAGAIN = 11, "Try again; it would block.";
    ENOMEM = 12, "Out of memory.";
    EACCES = 13, "Permission denied.";
    EFAULT = 14, "Bad address.";
    ENOTBLK = 15, "Block device required.";
    EBUSY = 16, "Device or resource busy.";
    EEXIST = 17, "File exists.";
    EXDEV = 18, "Link across devices.";
    ENODEV = 19, "No such device.";
    ENOTDIR = 20, "Not a directory.";
    EISDIR = 21, "Is a directory.";
    EINVAL = 22, "Invalid argument.";
    ENFILE = 23, "Too many open files in the system.";
    EMFILE = 24, "Too many open files.";
    ENOTTY = 25, "Not a terminal; no such ioctl.";
    ETXTBSY = 26, "Text file busy.";
    EFBIG = 27, "File too large.";
    ENOSPC = 28, "No space left on device.";
    ESPIPE = 29, "Illegal seek.";
    EROFS = 30, "Read-only file system.";
    EMLINK = 31, "Too many links.";
    EPIPE = 32, "Broken pipe.";
    EDOM = 33, "Argument out of domain.";
    ERANGE = 34, "Result out of range.";
    EDEADLK = 35, "Deadlock avoided.";
    ENAMETOOLONG = 36, "File name too long.";
    ENOLCK = 37, "No locks available.";
    ENOSYS = 38, "Function not implemented.";
    ENOTEMPTY = 39, "Directory not empty.";
    ELOOP = 40, "Too many symbolic links.";
    ENOMSG = 42, "No message of that type.";
    EIDRM = 43, "Identifier removed.";
    ENODATA = 61, "No data available.";
    ETIME = 62, "Timer expired.";
    EPROTO = 71, "Protocol error.";
    EOVERFLOW = 75, "Value too large for its type.";
    EILSEQ = 84, "Illegal byte sequence.";
    EUSERS = 87, "Too many users.";
    ENOTSOCK = 88, "Not a socket.";
    EDESTADDRREQ = 89, "Destination address required.";
    EMSGSIZE = 90, "Message too long.";
    EPROTOTYPE = 91, "Wrong protocol type for socket.";
    ENOPROTOOPT = 92, "Protocol not available.";
    EPROTONOSUPPORT = 93, "Protocol not supported.";
    ESOCKTNOSUPPORT = 94, "Socket type not supported.";
    EOPNOTSUPP = 95, "Operation not supported.";
    EAFNOSUPPORT = 97, "Address family not supported.";
    EADDRINUSE = 98, "Address in use.";
    ENETUNREACH = 101, "Network unreachable.";
    ECONNRESET = 104, "Connection reset by peer.";
    ENOBUFS = 105, "No buffer space.";
    EISCONN = 106, "Already connected.";
    ENOTCONN = 107, "Not connected.";
    ESHUTDOWN = 108, "Shut down.";
    ETIMEDOUT = 110, "Timed out.";
    ECONNREFUSED = 111, "Connection refused.";
    EALREADY = 114, "Already in progress.";
    EINPROGRESS = 115, "In progress.";
    ESTALE = 116, "Stale handle.";
    EDQUOT = 122, "Quota exceeded.";
    ECANCELED = 125, "Canceled.";
    EOWNERDEAD = 130, "Owner died.";
    ENOTRECOVERABLE = 131, "State not recoverable.";
    EHWPOISON = 133, "Memory page has a hardware error.";
}

impl Errno {
    /// Linux's number for it.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// What a system call returns in its register.
    pub const fn returned(self) -> u64 {
        -(self.0 as i64) as u64
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl core::error::Error for Errno {}

impl From<CallError> for Errno {
    fn from(error: CallError) -> Self {
        Self(error.errno())
    }
}

impl From<NoMemory> for Errno {
    fn from(NoMemory: NoMemory) -> Self {
        Self::ENOMEM
    }
}

/// The kernel met a bad address on behalf of its caller.
impl From<FaultError> for Errno {
    fn from(_: FaultError) -> Self {
        Self::EFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_component_keep_their_numbers() {
        assert_eq!(Errno::from(CallError::Exists), Errno::EEXIST);
        assert_eq!(Errno::from(CallError::Unsupported), Errno::EOPNOTSUPP);
        assert_eq!(Errno::from(NoMemory), Errno::ENOMEM);
        assert_eq!(Errno::EPERM.returned(), u64::MAX);
    }
}
