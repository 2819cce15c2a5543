//! `/proc/sys`: settings of the kernel. Those of memory that the component knows can be changed; others are what they are.

use rumpvm::{CommitPolicy, Overcommit};
use rumpvm_files::{Errno, FileType};

use super::{Made, Of, Out, named, put, template};
use crate::linux::calls::RELEASE;
use crate::linux::system::{PID_MAX, system};
use rumpvm_bare::Bare;
use rumpvm_files::synthetic::Named;

pub(super) fn root(of: &Of) -> Made {
    template(of, 0o555).table(of.clone(), &ROOT)
}

static ROOT: [Named<Bare, Of>; 3] = [
    named("kernel", FileType::Directory, |of| template(of, 0o555).table(of.clone(), &KERNEL)),
    named("vm", FileType::Directory, |of| template(of, 0o555).table(of.clone(), &VM)),
    named("fs", FileType::Directory, |of| template(of, 0o555).table(of.clone(), &FS)),
];

/// A file with a fixed text. Nobody is told that what he writes was heard.
fn fixed(of: &Of, text: &'static str) -> Made {
    template(of, 0o444)
        .writable(move |out| put(out, format_args!("{text}\n")), |_| Err(Errno::EPERM))
}

/// A file that asks for what is the case anyway: no page of a file is in memory that could be dropped.
fn drop_caches(of: &Of) -> Made {
    template(of, 0o200).writable(|_| Ok(()), |_| Ok(()))
}

/// A file with a number.
fn counted(of: &Of, number: impl Fn() -> u64 + Send + Sync + 'static) -> Made {
    template(of, 0o444).file(move |out| put(out, format_args!("{}\n", number())))
}

static KERNEL: [Named<Bare, Of>; 14] = [
    named("pid_max", FileType::Regular, |of| counted(of, || u64::from(PID_MAX))),
    named("threads-max", FileType::Regular, |of| fixed(of, "30000")),
    named("core_pattern", FileType::Regular, |of| fixed(of, "core")),
    named("core_uses_pid", FileType::Regular, |of| fixed(of, "0")),
    named("tainted", FileType::Regular, |of| fixed(of, "0")),
    named("ostype", FileType::Regular, |of| fixed(of, "Linux")),
    named("osrelease", FileType::Regular, |of| fixed(of, RELEASE)),
    named("hostname", FileType::Regular, |of| fixed(of, "rumpvm")),
    named("domainname", FileType::Regular, |of| fixed(of, "(none)")),
    named("randomize_va_space", FileType::Regular, |of| fixed(of, "2")),
    named("ngroups_max", FileType::Regular, |of| fixed(of, "65536")),
    named("shmmax", FileType::Regular, |of| {
        counted(of, || system().kernel.vm.segments().limits().bytes)
    }),
    named("shmall", FileType::Regular, |of| {
        counted(of, || system().kernel.vm.segments().limits().pages)
    }),
    named("shmmni", FileType::Regular, |of| {
        counted(of, || system().kernel.vm.segments().limits().segments)
    }),
];

static FS: [Named<Bare, Of>; 4] = [
    named("file-max", FileType::Regular, |of| fixed(of, "9223372036854775807")),
    named("nr_open", FileType::Regular, |of| fixed(of, "1048576")),
    named("pipe-max-size", FileType::Regular, |of| fixed(of, "1048576")),
    named("suid_dumpable", FileType::Regular, |of| fixed(of, "0")),
];

/// A part of the policy of promises.
fn policy(
    of: &Of,
    get: fn(&CommitPolicy) -> u64,
    set: fn(&mut CommitPolicy, u64) -> Result<(), Errno>,
) -> Made {
    let show = move |out: &mut Out| {
        put(out, format_args!("{}\n", get(&system().kernel.vm.commit_policy())))
    };
    template(of, 0o644).writable(show, move |text| {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let number = text.trim().parse().map_err(|_| Errno::EINVAL)?;
        let mut policy = system().kernel.vm.commit_policy();
        set(&mut policy, number)?;
        system().kernel.vm.set_commit_policy(policy);
        Ok(())
    })
}

fn mode(policy: &CommitPolicy) -> u64 {
    match policy.mode {
        Overcommit::Heuristic => 0,
        Overcommit::Always => 1,
        Overcommit::Never => 2,
    }
}

fn set_mode(policy: &mut CommitPolicy, number: u64) -> Result<(), Errno> {
    policy.mode = match number {
        0 => Overcommit::Heuristic,
        1 => Overcommit::Always,
        2 => Overcommit::Never,
        _ => return Err(Errno::EINVAL),
    };
    Ok(())
}

fn kib(number: u64) -> Result<u64, Errno> {
    number.checked_mul(1024).ok_or(Errno::EINVAL)
}

static VM: [Named<Bare, Of>; 13] = [
    named("overcommit_memory", FileType::Regular, |of| policy(of, mode, set_mode)),
    named("overcommit_ratio", FileType::Regular, |of| {
        policy(
            of,
            |policy| policy.ratio,
            |policy, number| {
                policy.ratio = number;
                Ok(())
            },
        )
    }),
    named("overcommit_kbytes", FileType::Regular, |of| {
        policy(
            of,
            |policy| policy.bytes / 1024,
            |policy, number| {
                policy.bytes = kib(number)?;
                Ok(())
            },
        )
    }),
    named("admin_reserve_kbytes", FileType::Regular, |of| {
        policy(
            of,
            |policy| policy.admin_reserve / 1024,
            |policy, number| {
                policy.admin_reserve = kib(number)?;
                Ok(())
            },
        )
    }),
    named("user_reserve_kbytes", FileType::Regular, |of| {
        policy(
            of,
            |policy| policy.user_reserve / 1024,
            |policy, number| {
                policy.user_reserve = kib(number)?;
                Ok(())
            },
        )
    }),
    named("max_map_count", FileType::Regular, |of| fixed(of, "65530")),
    named("mmap_min_addr", FileType::Regular, |of| fixed(of, "65536")),
    named("mmap_rnd_bits", FileType::Regular, |of| fixed(of, "28")),
    named("nr_hugepages", FileType::Regular, |of| fixed(of, "0")),
    named("nr_overcommit_hugepages", FileType::Regular, |of| fixed(of, "0")),
    named("swappiness", FileType::Regular, |of| fixed(of, "60")),
    named("panic_on_oom", FileType::Regular, |of| fixed(of, "0")),
    named("drop_caches", FileType::Regular, drop_caches),
];
