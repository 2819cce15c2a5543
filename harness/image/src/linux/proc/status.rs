//! status, stat and statm: a process in numbers.

use core::ops::ControlFlow;

use rumpvm::sync::Ordering;
use rumpvm::{AreaFlags, State};
use rumpvm_arch::{PAGE_SIZE, Prot};
use rumpvm_files::{Errno, Table};

use super::process::with_memory;
use super::{Out, put};
use crate::linux::process::Process;
use crate::linux::schedule::Schedule;
use crate::linux::signal::{Set, Signal, actions};
use crate::linux::system::system;

const KIB: u64 = PAGE_SIZE / 1024;

/// Sizes, in pages.
#[derive(Clone, Copy, Default)]
struct Sizes {
    mapped: u64,
    locked: u64,
    resident: u64,
    shared: u64,
    code: u64,
    data: u64,
    stack: u64,
    tables: u64,
}

fn sizes(process: &Process) -> Result<Sizes, Errno> {
    let stack_at = process.image.lock().stack;
    let sizes = with_memory(process, |memory| {
        let (vm, space) = (&system().kernel.vm, memory.space());
        let mut sizes = Sizes {
            mapped: space.mapped_bytes() / PAGE_SIZE,
            locked: space.locked_bytes() / PAGE_SIZE,
            resident: space.resident_pages(vm),
            data: space.data_bytes() / PAGE_SIZE,
            tables: space.table_pages(vm),
            ..Sizes::default()
        };
        let _: ControlFlow<()> = space.areas(vm, |area| {
            let pages = area.range.pages();
            if area.prot.contains(Prot::EXEC) {
                sizes.code += pages;
            }
            if area.flags.contains(AreaFlags::SHARED) {
                sizes.shared += pages;
            }
            if area.range.start.0 <= stack_at && stack_at < area.range.end.0 {
                sizes.stack += pages;
            }
            ControlFlow::Continue(())
        });
        process.usage.note_pages(sizes.resident);
        Ok(sizes)
    })?;
    Ok(sizes.unwrap_or_default())
}

/// The letter of a process's state, and its word.
fn state(process: &Process) -> (char, &'static str) {
    match process.memory.state() {
        State::Zombie(_) => ('Z', "zombie"),
        State::Reaped => ('X', "dead"),
        State::Running if process.stopped.load(Ordering::Relaxed) != 0 => ('T', "stopped"),
        State::Running if process.is_ready() => ('R', "running"),
        State::Running => ('S', "sleeping"),
    }
}

/// Sets of signals: pending of the first thread and of the process, blocked, ignored, caught.
fn signals(process: &Process) -> [Set; 5] {
    let first = process.first_task();
    let own = first.as_ref().map_or(0, |task| task.pending.lock().set());
    let blocked = first.as_ref().map_or(0, |task| task.mask.load(Ordering::Relaxed));
    let all = process.actions.lock().clone();
    let (mut ignored, mut caught) = (0, 0);
    for number in 1..=64 {
        let Some(signal) = Signal::new(number) else { continue };
        match all.get(signal).handler {
            actions::IGNORE => ignored |= signal.bit(),
            actions::DEFAULT => {}
            _ => caught |= signal.bit(),
        }
    }
    [own, process.pending.lock().set(), blocked, ignored, caught]
}

pub(super) fn status(process: &Process, out: &mut Out) -> Result<(), Errno> {
    let image = process.image.lock().clone();
    put(out, format_args!("Name:\t"))?;
    out.push(image.name())?;
    let mask = process.place.lock().as_ref().map_or(0, |place| place.mask);
    let (letter, word) = state(process);
    let (pid, parent) = (process.pid(), process.parent_pid());
    put(
        out,
        format_args!("\nUmask:\t{mask:04o}\nState:\t{letter} ({word})\nTgid:\t{pid}\nNgid:\t0\n"),
    )?;
    put(out, format_args!("Pid:\t{pid}\nPPid:\t{parent}\nTracerPid:\t0\n"))?;
    let ids = process.ids.lock().try_clone()?;
    for (name, four) in [("Uid", ids.user), ("Gid", ids.group)] {
        let (real, effective) = (four.real, four.effective);
        put(out, format_args!("{name}:\t{real}\t{effective}\t{}\t{}\n", four.saved, four.files))?;
    }
    let places = process.files.lock().clone().map_or(0, |table| Table::count(&table).1.max(64));
    put(out, format_args!("FDSize:\t{places}\nGroups:\t"))?;
    ids.groups.iter().try_for_each(|group| put(out, format_args!("{group} ")))?;
    put(out, format_args!("\n"))?;
    let sizes = sizes(process)?;
    let largest = process.usage.own().largest.max(sizes.resident);
    for (name, pages) in [
        ("VmPeak", sizes.mapped),
        ("VmSize", sizes.mapped),
        ("VmLck", sizes.locked),
        ("VmPin", 0),
        ("VmHWM", largest),
        ("VmRSS", sizes.resident),
        ("RssAnon", sizes.resident.saturating_sub(sizes.shared.min(sizes.resident))),
        ("RssFile", 0),
        ("RssShmem", sizes.shared.min(sizes.resident)),
        ("VmData", sizes.data),
        ("VmStk", sizes.stack),
        ("VmExe", sizes.code),
        ("VmLib", 0),
        ("VmPTE", sizes.tables),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ] {
        put(out, format_args!("{name}:\t{:>8} kB\n", pages * KIB))?;
    }
    put(
        out,
        format_args!("CoreDumping:\t0\nTHP_enabled:\t1\nThreads:\t{}\n", process.task_count()),
    )?;
    let [own, shared, blocked, ignored, caught] = signals(process);
    let queued = process.pending.lock().count();
    let most = process.limits.lock().signals();
    put(
        out,
        format_args!("SigQ:\t{queued}/{most}\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\n"),
    )?;
    put(
        out,
        format_args!("SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"),
    )?;
    let capable = ids.capable;
    put(
        out,
        format_args!(
            "CapInh:\t{:016x}\nCapPrm:\t{:016x}\n",
            capable.inheritable, capable.permitted
        ),
    )?;
    let all = crate::linux::ids::ALL;
    put(
        out,
        format_args!(
            "CapEff:\t{:016x}\nCapBnd:\t{all:016x}\nCapAmb:\t{:016x}\n",
            capable.effective, 0
        ),
    )?;
    let fixed = process.no_new_rights.load(Ordering::Relaxed);
    put(out, format_args!("NoNewPrivs:\t{fixed}\nSeccomp:\t0\n"))?;
    let cpus = rumpvm_platform::Platform::cpu_count(&rumpvm_bare::Bare).min(64);
    put(
        out,
        format_args!(
            "Cpus_allowed:\t{:x}\nCpus_allowed_list:\t0-{}\n",
            u64::MAX >> (64 - cpus),
            cpus - 1
        ),
    )?;
    put(out, format_args!("Mems_allowed:\t1\nMems_allowed_list:\t0\n"))?;
    put(out, format_args!("voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n"))
}

pub(super) fn statm(process: &Process, out: &mut Out) -> Result<(), Errno> {
    let sizes = sizes(process)?;
    let shared = sizes.shared.min(sizes.resident);
    let data = sizes.data + sizes.stack;
    let (mapped, resident, code) = (sizes.mapped, sizes.resident, sizes.code);
    put(out, format_args!("{mapped} {resident} {shared} {code} 0 {data} 0\n"))
}

pub(super) fn stat(process: &Process, out: &mut Out) -> Result<(), Errno> {
    const TICK: u64 = 10_000_000;
    let image = process.image.lock().clone();
    put(out, format_args!("{} (", process.pid()))?;
    out.push(image.name())?;
    let (letter, _) = state(process);
    let (parent, group) = (process.parent_pid(), process.group.load(Ordering::Relaxed));
    let session = process.session.load(Ordering::Relaxed);
    let (own, children) = (process.used(), process.usage.children());
    let sizes = sizes(process)?;
    // Terminal, its foreground group, flags.
    put(out, format_args!(") {letter} {parent} {group} {session} 0 -1 4194304 "))?;
    put(out, format_args!("{} {} 0 0 ", own.faults, children.faults))?;
    put(out, format_args!("{} 0 {} 0 ", own.nanoseconds / TICK, children.nanoseconds / TICK))?;
    let (threads, born) = (process.task_count(), process.usage.born / TICK);
    let schedule = process.first_task().map_or(Schedule::USUAL, |task| task.scheduled.get());
    let (nice, level) = (schedule.nice, schedule.level.cast_signed());
    let priority = if schedule.policy.is_real_time() { -1 - level } else { 20 + nice };
    put(
        out,
        format_args!(
            "{priority} {nice} {threads} 0 {born} {} {} ",
            sizes.mapped * PAGE_SIZE,
            sizes.resident
        ),
    )?;
    let [own, _, blocked, ignored, caught] = signals(process);
    let (code, stack) = (image.code, image.stack);
    put(out, format_args!("{} {} {} {stack} 0 0 ", u64::MAX, code.0, code.1))?;
    put(
        out,
        format_args!(
            "{own} {blocked} {ignored} {caught} 0 0 0 17 0 {level} {} 0 0 0 ",
            schedule.policy as u32
        ),
    )?;
    let heap = with_memory(process, |memory| Ok(memory.space().brk_base().0))?.unwrap_or(0);
    put(out, format_args!("{} {} {heap} ", image.data.0, image.data.1))?;
    put(out, format_args!("{} {} ", image.arguments.0, image.arguments.1))?;
    put(out, format_args!("{} {} 0\n", image.environment.0, image.environment.1))
}
