//! System calls: from a number to what carries it out.
//!
//! Flow:  registers -> [`call`] -> the table -> one function for each call -> a number, or an error's -> the first register.
//! Sleep: as the calls do.
//!
//! C1. No call begins with so little heap left that a small record could not be made; see [`ROOM`].

mod attributes;
mod clone;
mod descriptors;
mod files;
mod futex;
mod ids;
pub(crate) mod job;
mod limits;
mod locks;
mod memory;
mod misc;
mod names;
mod nice;
mod paths;
mod pidfd;
mod poll;
mod process;
mod schedule;
mod shm;
mod signal;
mod sockets;
mod time;
mod timers;
mod wait;

use core::sync::atomic::{AtomicU64, Ordering};

use rumpvm::Hold;
use rumpvm_arch::VirtAddr;
use rumpvm_bare::{Bare, heap};
use rumpvm_files::{Entry, Errno};

use super::process::Process;
use super::signal::deliver::Restart;
use super::thread::Thread;

pub(crate) use misc::{RELEASE, VERSION};

/// What a call returns.
type Answer = Result<u64, Errno>;
/// What carries out a call.
type Work = fn(&mut Thread, Args) -> Answer;

/// Room on the heap for the small records of one call that are made without asking: names of signals' senders, threads'
/// bodies. Large ones are asked for.
const ROOM: usize = 16 << 10;

/// The arguments of a call.
#[derive(Clone, Copy)]
struct Args([u64; 6]);

impl Args {
    /// As a number of 64 bits.
    fn word(self, number: usize) -> u64 {
        self.0[number]
    }

    /// As a number of 32 bits.
    fn half(self, number: usize) -> u32 {
        self.0[number] as u32
    }

    /// As a number that may be negative.
    fn int(self, number: usize) -> i32 {
        self.half(number).cast_signed()
    }

    /// As an address.
    fn at(self, number: usize) -> VirtAddr {
        VirtAddr(self.0[number])
    }
}

/// A call of the table.
#[derive(Clone, Copy)]
struct Call {
    work: Work,
    restart: Restart,
}

/// Numbers end here.
const END: usize = 512;

macro_rules! table {
    ($($number:literal $file:ident :: $work:ident $($never:ident)?,)+) => {
        static TABLE: [Option<Call>; END] = {
            let mut table = [None; END];
            $(table[$number] = Some(Call { work: $file::$work, restart: table!(@ $($never)?) });)+
            table
        };
    };
    (@) => { Restart::IfAsked };
    (@ never) => { Restart::Never };
}

// `never`: what a handler interrupts is not made once more, whatever the handler says; signal(7).
table! {
    0 files::read,
    1 files::write,
    2 paths::open,
    3 descriptors::close,
    4 attributes::stat,
    5 attributes::fstat,
    6 attributes::lstat,
    7 poll::poll never,
    8 files::lseek,
    9 memory::mmap,
    10 memory::mprotect,
    11 memory::munmap,
    12 memory::brk,
    13 signal::rt_sigaction,
    14 signal::rt_sigprocmask,
    15 signal::rt_sigreturn,
    16 descriptors::ioctl,
    17 files::pread64,
    18 files::pwrite64,
    19 files::readv,
    20 files::writev,
    21 paths::access,
    22 files::pipe,
    23 poll::select never,
    24 schedule::sched_yield,
    25 memory::mremap,
    26 memory::msync,
    27 memory::mincore,
    28 memory::madvise,
    29 shm::shmget,
    30 shm::shmat,
    31 shm::shmctl,
    32 descriptors::dup,
    33 descriptors::dup2,
    34 signal::pause never,
    35 time::nanosleep never,
    36 timers::getitimer,
    37 timers::alarm,
    38 timers::setitimer,
    39 ids::getpid,
    40 files::sendfile,
    44 sockets::sendto,
    45 sockets::recvfrom,
    48 sockets::shutdown,
    53 sockets::socketpair,
    56 clone::clone,
    57 clone::fork,
    58 clone::vfork,
    59 process::execve,
    60 process::exit,
    61 wait::wait4,
    62 signal::kill,
    63 misc::uname,
    67 shm::shmdt,
    72 descriptors::fcntl,
    73 locks::flock,
    74 files::fsync,
    75 files::fsync,
    76 attributes::truncate,
    77 files::ftruncate,
    79 paths::getcwd,
    80 paths::chdir,
    81 paths::fchdir,
    82 paths::rename,
    83 paths::mkdir,
    84 paths::rmdir,
    85 paths::creat,
    86 paths::link,
    87 paths::unlink,
    88 paths::symlink,
    89 paths::readlink,
    90 attributes::chmod,
    91 attributes::fchmod,
    92 attributes::chown,
    93 attributes::fchown,
    94 attributes::lchown,
    95 paths::umask,
    96 time::gettimeofday,
    97 limits::getrlimit,
    98 time::getrusage,
    99 misc::sysinfo,
    100 time::times,
    102 ids::getuid,
    104 ids::getgid,
    105 ids::setuid,
    106 ids::setgid,
    107 ids::geteuid,
    108 ids::getegid,
    109 job::setpgid,
    110 ids::getppid,
    111 job::getpgrp,
    112 job::setsid,
    113 ids::setreuid,
    114 ids::setregid,
    115 ids::getgroups,
    116 ids::setgroups,
    117 ids::setresuid,
    118 ids::getresuid,
    119 ids::setresgid,
    120 ids::getresgid,
    121 job::getpgid,
    122 ids::setfsuid,
    123 ids::setfsgid,
    124 job::getsid,
    125 ids::capget,
    126 ids::capset,
    127 signal::rt_sigpending,
    128 signal::rt_sigtimedwait never,
    129 signal::rt_sigqueueinfo,
    130 signal::rt_sigsuspend never,
    131 signal::sigaltstack,
    132 attributes::utime,
    133 paths::mknod,
    135 process::personality,
    137 attributes::statfs,
    138 attributes::fstatfs,
    140 nice::getpriority,
    141 nice::setpriority,
    142 schedule::sched_setparam,
    143 schedule::sched_getparam,
    144 schedule::sched_setscheduler,
    145 schedule::sched_getscheduler,
    146 schedule::sched_get_priority_max,
    147 schedule::sched_get_priority_min,
    148 schedule::sched_rr_get_interval,
    149 memory::mlock,
    150 memory::munlock,
    151 memory::mlockall,
    152 memory::munlockall,
    157 process::prctl,
    158 process::arch_prctl,
    160 limits::setrlimit,
    161 paths::chroot,
    162 files::sync,
    164 time::set_clock,
    165 misc::mount,
    166 misc::umount2,
    169 misc::refused,
    170 misc::refused,
    186 ids::gettid,
    200 signal::tkill,
    201 time::time,
    202 futex::futex,
    203 schedule::sched_setaffinity,
    204 schedule::sched_getaffinity,
    216 memory::remap_file_pages,
    217 files::getdents64,
    218 process::set_tid_address,
    221 files::fadvise64,
    222 timers::timer_create,
    223 timers::timer_settime,
    224 timers::timer_gettime,
    225 timers::timer_getoverrun,
    226 timers::timer_delete,
    227 time::set_clock,
    228 time::clock_gettime,
    229 time::clock_getres,
    230 time::clock_nanosleep never,
    231 process::exit_group,
    234 signal::tgkill,
    235 attributes::utimes,
    247 wait::waitid,
    257 paths::openat,
    258 paths::mkdirat,
    259 paths::mknodat,
    260 attributes::fchownat,
    262 attributes::newfstatat,
    263 paths::unlinkat,
    264 paths::renameat,
    265 paths::linkat,
    266 paths::symlinkat,
    267 paths::readlinkat,
    268 attributes::fchmodat,
    269 paths::faccessat,
    270 poll::pselect6 never,
    271 poll::ppoll never,
    273 process::set_robust_list,
    274 process::get_robust_list,
    280 attributes::utimensat,
    284 files::eventfd,
    285 files::fallocate,
    290 files::eventfd2,
    292 descriptors::dup3,
    293 files::pipe2,
    295 files::preadv,
    296 files::pwritev,
    297 signal::rt_tgsigqueueinfo,
    302 limits::prlimit64,
    306 files::fsync,
    309 schedule::getcpu,
    310 memory::process_vm_readv,
    311 memory::process_vm_writev,
    314 schedule::sched_setattr,
    315 schedule::sched_getattr,
    316 paths::renameat2,
    318 misc::getrandom,
    319 memory::memfd_create,
    322 process::execveat,
    324 memory::membarrier,
    325 memory::mlock2,
    329 memory::pkey_mprotect,
    330 memory::pkey_alloc,
    331 memory::pkey_free,
    332 attributes::statx,
    334 process::rseq,
    424 pidfd::pidfd_send_signal,
    434 pidfd::pidfd_open,
    435 clone::clone3,
    436 descriptors::close_range,
    439 paths::faccessat2,
    440 memory::process_madvise,
}

/// Carries out the call that the program's registers ask for.
#[inline]
pub(crate) fn call(thread: &mut Thread) {
    let registers = thread.program.registers();
    let number = registers.rax;
    let args = Args([
        registers.rdi,
        registers.rsi,
        registers.rdx,
        registers.r10,
        registers.r8,
        registers.r9,
    ]);
    let known = usize::try_from(number).ok().and_then(|number| *TABLE.get(number)?);
    let answer = match known {
        Some(_) if !heap::make_room(ROOM) && !gives_back(number) => Err(Errno::ENOMEM),
        Some(call) => (call.work)(thread, args),
        None => {
            tell_unknown(number);
            Err(Errno::ENOSYS)
        }
    };
    if answer == Err(Errno::EINTR)
        && let Some(call) = known
    {
        thread.restart = Some((number, call.restart));
        // Even if somebody has looked at the interrupt already.
        thread.task.waker.interrupt();
    }
    thread.program.registers().rax = answer.unwrap_or_else(Errno::returned);
}

/// What `path` names for `process`.
pub(crate) fn find(process: &Process, path: &[u8]) -> Result<Hold<Entry<Bare>, Bare>, Errno> {
    paths::find(process, paths::HERE, path, 0)
}

/// Calls that need no memory, or give some back.
fn gives_back(number: u64) -> bool {
    matches!(number, 3 | 11 | 15 | 60 | 67 | 231)
}

/// Tells of a call that is not there, once.
fn tell_unknown(number: u64) {
    static TOLD: [AtomicU64; END / 64] = [const { AtomicU64::new(0) }; END / 64];
    let Some(word) = usize::try_from(number / 64).ok().and_then(|word| TOLD.get(word)) else {
        return;
    };
    let bit = 1 << (number % 64);
    if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        log::info!("system call {number} ({}) is not there", names::name(number));
    }
}
