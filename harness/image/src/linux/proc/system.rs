//! Files about the system as a whole.

use rumpvm_arch::PAGE_SIZE;
use rumpvm_bare::{Bare, calendar};
use rumpvm_files::Errno;
use rumpvm_platform::{CpuId, Platform};

use super::{Out, put};
use crate::linux::block;
use crate::linux::calls::{RELEASE, VERSION};
use crate::linux::system::system;

const KIB: u64 = PAGE_SIZE / 1024;
/// Nanoseconds of what times are told in.
const TICK: u64 = 10_000_000;

/// What the component says in pages, told as Linux does: in KiB.
pub(super) fn meminfo(out: &mut Out) -> Result<(), Errno> {
    let vm = &system().kernel.vm;
    let statistics = vm.statistics();
    let (total, free) = system().kernel.frames();
    let (total, free) = (total * KIB, free * KIB);
    let tables = statistics.tables_made.saturating_sub(statistics.tables_freed) * KIB;
    let (mut file_pages, mut shared_pages) = (0, 0);
    vm.objects.for_each(|object| {
        let pages = object.resident_pages(&vm.mmu);
        if object.is_memory() { shared_pages += pages } else { file_pages += pages }
    });
    let cached = (file_pages + shared_pages) * KIB;
    let anonymous = total.saturating_sub(free + tables + cached);
    let heap = rumpvm_bare::heap::usage().0 as u64 / 1024;
    let rows = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", cached),
        ("SwapCached", 0),
        ("Active", anonymous),
        ("Inactive", cached),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", anonymous),
        ("Mapped", cached),
        ("Shmem", shared_pages * KIB),
        ("Slab", heap),
        ("SReclaimable", 0),
        ("SUnreclaim", heap),
        ("PageTables", tables),
        ("CommitLimit", vm.commit_limit() / 1024),
        ("Committed_AS", vm.committed() / 1024),
        ("VmallocTotal", 0),
        ("AnonHugePages", 0),
        ("Hugepagesize", 2048),
    ];
    for (name, kib) in rows {
        put(out, format_args!("{name}:{kib:>width$} kB\n", width = 23 - name.len()))?;
        if name == "AnonHugePages" {
            for name in ["HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"] {
                put(out, format_args!("{name}:{:>width$}\n", 0, width = 23 - name.len()))?;
            }
        }
    }
    Ok(())
}

pub(super) fn vmstat(out: &mut Out) -> Result<(), Errno> {
    let vm = &system().kernel.vm;
    let s = vm.statistics();
    let faults = s.faults_zero_fill
        + s.faults_zero_page
        + s.faults_copy
        + s.faults_reuse
        + s.faults_soft
        + s.faults_spurious;
    let rows = [
        ("nr_free_pages", s.frames_free),
        ("nr_page_table_pages", s.tables_made.saturating_sub(s.tables_freed)),
        ("nr_mlock", 0),
        ("nr_dirty", 0),
        ("nr_writeback", 0),
        ("pgpgin", s.pages_in * KIB),
        ("pgpgout", s.pages_out * KIB),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfault", faults + s.faults_pager),
        ("pgmajfault", s.faults_pager),
        ("thp_fault_alloc", 0),
        ("thp_collapse_alloc", 0),
        ("thp_split_page", 0),
        ("rumpvm_faults_zero_fill", s.faults_zero_fill),
        ("rumpvm_faults_zero_page", s.faults_zero_page),
        ("rumpvm_faults_copy", s.faults_copy),
        ("rumpvm_faults_reuse", s.faults_reuse),
        ("rumpvm_faults_soft", s.faults_soft),
        ("rumpvm_mapped_around", s.mapped_around),
        ("rumpvm_tables_shared", s.tables_shared),
        ("rumpvm_tables_unshared", s.tables_unshared),
        ("rumpvm_flushes", s.flushes),
        ("rumpvm_flushes_remote", s.flushes_remote),
        ("rumpvm_forks", s.forks),
    ];
    rows.iter().try_for_each(|(name, count)| put(out, format_args!("{name} {count}\n")))
}

fn cpus() -> impl Iterator<Item = CpuId> {
    (0..Bare.cpu_count() as u32).map(CpuId)
}

/// Ticks of a hundredth of a second that a CPU has had something to do, and nothing.
fn busy_and_idle(cpu: CpuId) -> (u64, u64) {
    let idle = Bare::idle_time(cpu) / TICK;
    ((calendar::since_start() / TICK).saturating_sub(idle), idle)
}

pub(super) fn stat(out: &mut Out) -> Result<(), Errno> {
    let all = cpus().map(busy_and_idle).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    put(out, format_args!("cpu  {} 0 0 {} 0 0 0 0 0 0\n", all.0, all.1))?;
    for cpu in cpus() {
        let (busy, idle) = busy_and_idle(cpu);
        put(out, format_args!("cpu{} {busy} 0 0 {idle} 0 0 0 0 0 0\n", cpu.0))?;
    }
    let begin = (calendar::now() - calendar::since_start()) / 1_000_000_000;
    let mut ready = 0;
    system().for_each(|process| {
        process.for_each_task(|task| ready += u32::from(task.scheduled.standing.is_ready()));
    });
    put(out, format_args!("intr 0\nctxt 0\nbtime {begin}\nprocesses 0\n"))?;
    put(out, format_args!("procs_running {ready}\nprocs_blocked 0\nsoftirq 0\n"))
}

pub(super) fn uptime(out: &mut Out) -> Result<(), Errno> {
    let up = calendar::since_start() / TICK;
    let idle: u64 = cpus().map(|cpu| busy_and_idle(cpu).1).sum();
    let both = [up / 100, up % 100, idle / 100, idle % 100];
    put(out, format_args!("{}.{:02} {}.{:02}\n", both[0], both[1], both[2], both[3]))
}

pub(super) fn loadavg(out: &mut Out) -> Result<(), Errno> {
    let (_, threads) = system().counts();
    put(out, format_args!("0.00 0.00 0.00 1/{threads} 1\n"))
}

pub(super) fn version(out: &mut Out) -> Result<(), Errno> {
    put(out, format_args!("Linux version {RELEASE} {VERSION}\n"))
}

pub(super) fn cpuinfo(out: &mut Out) -> Result<(), Errno> {
    for cpu in 0..Bare.cpu_count() {
        put(out, format_args!("processor\t: {cpu}\nvendor_id\t: unknown\ncpu family\t: 6\n"))?;
        put(out, format_args!("address sizes\t: 40 bits physical, 48 bits virtual\n\n"))?;
    }
    Ok(())
}

pub(super) fn filesystems(out: &mut Out) -> Result<(), Errno> {
    put(out, format_args!("nodev\ttmpfs\nnodev\tproc\nnodev\tramfs\n"))
}

pub(super) fn cmdline(out: &mut Out) -> Result<(), Errno> {
    put(out, format_args!("linux\n"))
}

pub(super) fn swaps(out: &mut Out) -> Result<(), Errno> {
    put(out, format_args!("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"))
}

pub(super) fn devices(out: &mut Out) -> Result<(), Errno> {
    put(out, format_args!("Character devices:\n  1 mem\n  5 /dev/tty\n\nBlock devices:\n"))?;
    match block::disks() {
        [] => Ok(()),
        _ => put(out, format_args!("{} virtblk\n", block::major())),
    }
}

pub(super) fn partitions(out: &mut Out) -> Result<(), Errno> {
    if !block::disks().is_empty() {
        put(out, format_args!("major minor  #blocks  name\n\n"))?;
    }
    block::names().try_for_each(|(letter, minor, disk)| {
        let (major, kib) = (block::major(), disk.bytes() / 1024);
        put(out, format_args!("{major:4}  {minor:7} {kib:10} vd{letter}\n"))
    })
}

/// `/proc/sysrq-trigger`: `c` makes the kernel panic, so that one sees what comes of it. Other letters mean nothing here.
pub(super) fn trigger(letters: &[u8]) -> Result<(), Errno> {
    assert!(letters.first() != Some(&b'c'), "asked for by /proc/sysrq-trigger");
    Ok(())
}
