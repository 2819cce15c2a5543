//! The lock table of the Linux layer. All come before those of `rumpvm-files` and of the component; see there.
//!
//! | rank | lock | guards |
//! |---|---|---|
//! | 1 | `PROCESSES` | which processes there are |
//! | 2 | `NAMES` | names of what is mapped |
//! | 30 | `DISK` | what is on its way to or from one disk |
//! | 50 | `TASKS` | threads of one process |
//! | 51 | `ACTIONS` | what a process does about signals |
//! | 52 | `PENDING` | signals on their way to one process, or to one thread |
//! | 53 | `RECORD` | who a process is, what it runs, its limits and timers |
//! | 54 | `FUTEX` | who waits for a word of memory |
//! | 55 | `FUTEX_KEY` | which word that is |
//! | 56 | `TIMERS` | all timers |
//! | 57 | `CONSOLE` | what was typed |

use rumpvm_platform::{LockClass, LockKind};

macro_rules! classes {
    ($($name:ident: $rank:literal $kind:ident, $says:literal;)+) => {
        $(
            pub(crate) static $name: LockClass =
                LockClass { name: $says, rank: $rank, kind: LockKind::$kind, nests: false };
        )+
    };
}

classes! {
    PROCESSES: 1 Sleep, "process list";
    NAMES: 2 Sleep, "names of objects";
    DISK: 30 Sleep, "buffer of a disk";
    TASKS: 50 Spin, "threads";
    ACTIONS: 51 Spin, "signal actions";
    PENDING: 52 Spin, "pending signals";
    RECORD: 53 Spin, "process record";
    FUTEX: 54 Spin, "futexes";
    FUTEX_KEY: 55 Spin, "word of a futex";
    TIMERS: 56 Spin, "timers";
    CONSOLE: 57 Spin, "what was typed";
}
