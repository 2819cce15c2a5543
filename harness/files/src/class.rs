//! The lock table of this crate, outermost first. Ranks leave room for those of who uses it; all of them come before the
//! component's ([`rumpvm::sync::class::FIRST`]).
//!
//! What moves bytes from and to its caller's memory, and what makes made-up files, is called with `POSITION` held, and with
//! `STREAM` if it is the memory of a pipe's user: locks that are taken there have ranks from 20 on, sleeping ones below 40,
//! spinning ones from 49 to 63.
//!
//! | rank | lock | guards |
//! |---|---|---|
//! | 8 | `POSITION` | where the next read or write of one open file begins; held while bytes move |
//! | 10 | `MOUNTS` | which volumes are mounted |
//! | 12 | `CHANGES` | who changes the names of one volume |
//! | 14 | `DIRECTORY` | names of one directory; of two while something moves, by who has `CHANGES` |
//! | 16 | `APPENDING` | the end of one file, for those who write there |
//! | 18 | `STREAM` | what is in one pipe, socket or event counter |
//! | 40 | `TABLE` | descriptors of one process |
//! | 42 | `PLACE` | where one entry is |
//! | 44 | `ATTRIBUTES` | mode, owner, times of one node |
//! | 45 | `LOCKS` | locks of one volume's files |
//! | 46 | `TERMINAL` | lines and settings of one terminal |
//! | 48 | `QUEUE` | who waits |

use rumpvm_platform::{LockClass, LockKind};

macro_rules! classes {
    ($($name:ident: $rank:literal $kind:ident $nests:literal, $says:literal;)+) => {
        $(
            pub(crate) static $name: LockClass =
                LockClass { name: $says, rank: $rank, kind: LockKind::$kind, nests: $nests };
        )+
    };
}

classes! {
    POSITION: 8 Sleep false, "file position";
    MOUNTS: 10 Sleep false, "mounts";
    CHANGES: 12 Sleep false, "changes of a volume";
    DIRECTORY: 14 Sleep true, "directory";
    APPENDING: 16 Sleep false, "end of a file";
    STREAM: 18 Sleep false, "stream";
    TABLE: 40 Spin false, "descriptors";
    PLACE: 42 Spin false, "place of an entry";
    ATTRIBUTES: 44 Spin false, "attributes of a file";
    LOCKS: 45 Spin false, "locks of files";
    TERMINAL: 46 Spin false, "terminal";
    QUEUE: 48 Spin false, "queue";
}
