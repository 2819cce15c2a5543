//! The directory of a process, and those of its files that are short.

use core::fmt;

use rumpvm::Hold;
use rumpvm::sync::Ordering;
use rumpvm_arch::VirtAddr;
use rumpvm_bare::Bare;
use rumpvm_files::node::{Item, Listing};
use rumpvm_files::synthetic::Named;
use rumpvm_files::volume::MountFlags;
use rumpvm_files::{Entry, Errno, FileType, Node};

use super::{
    FIRST_PROCESS, Made, Of, Out, ROOT, decimal, descriptors, maps, memory, named, number, put,
    status,
};
use crate::linux::process::Process;
use crate::linux::system::system;
use crate::linux::user::Memory;

/// A process, and where its nodes are.
#[derive(Clone)]
pub(super) struct About {
    pub(super) volume: Of,
    pub(super) process: Hold<Process, Bare>,
    /// The thread of it, if it is about one.
    task: Option<u32>,
}

/// The directory of `process`.
pub(super) fn directory(volume: &Of, process: Hold<Process, Bare>) -> Made {
    let pid = process.pid();
    let about = About { volume: volume.clone(), process, task: None };
    let number = Some(FIRST_PROCESS + u64::from(pid));
    rumpvm_files::synthetic::Template { volume, number, mode: 0o555, owner: &ROOT }
        .table(about, &NAMES)
}

impl About {
    /// A file of the process.
    pub(super) fn file(
        &self,
        make: impl Fn(&Process, &mut Out) -> Result<(), Errno> + Send + Sync + 'static,
    ) -> Made {
        let process = self.process.clone();
        super::file(&self.volume, move |out| make(&process, out))
    }

    /// A link to what `find` finds.
    fn jump(
        &self,
        find: impl Fn(&Process) -> Option<Hold<Entry<Bare>, Bare>> + Send + Sync + Copy + 'static,
    ) -> Made {
        let (text_of, target_of) = (self.process.clone(), self.process.clone());
        let text = move |out: &mut Out| {
            let entry = find(&text_of).ok_or(Errno::ENOENT)?;
            Ok(out.push(&system().path_of(&entry)?)?)
        };
        super::template(&self.volume, 0o777).jump(text, move || Ok(find(&target_of)))
    }
}

/// Calls `work` with the memory of `process`, as long as there is any.
pub(super) fn with_memory<T>(
    process: &Process,
    work: impl FnOnce(&Memory) -> Result<T, Errno>,
) -> Result<Option<T>, Errno> {
    let Some(space) = process.memory.space() else { return Ok(None) };
    if !space.try_enter() {
        return Ok(None);
    }
    let outcome = work(&Memory::new(space.clone()));
    system().kernel.vm.leave_space(&space);
    outcome.map(Some)
}

/// The last one is left out of a thread's directory.
static NAMES: [Named<Bare, About>; 22] = [
    named("status", FileType::Regular, |about| about.file(status::status)),
    named("stat", FileType::Regular, |about| about.file(status::stat)),
    named("statm", FileType::Regular, |about| about.file(status::statm)),
    named("maps", FileType::Regular, |about| about.file(maps::maps)),
    named("smaps", FileType::Regular, |about| about.file(maps::smaps)),
    named("mem", FileType::Regular, memory::mem),
    named("pagemap", FileType::Regular, memory::pagemap),
    named("fd", FileType::Directory, descriptors::links),
    named("fdinfo", FileType::Directory, descriptors::infos),
    named("exe", FileType::Link, |about| {
        about.jump(|process| process.image.lock().file.as_ref().map(|file| file.entry().clone()))
    }),
    named("cwd", FileType::Link, |about| {
        about.jump(|process| process.place.lock().as_ref().map(|place| place.here.clone()))
    }),
    named("root", FileType::Link, |about| {
        about.jump(|process| process.place.lock().as_ref().map(|place| place.root.clone()))
    }),
    named("comm", FileType::Regular, comm),
    named("cmdline", FileType::Regular, |about| {
        about.file(|process, out| range(process, out, |process| process.image.lock().arguments))
    }),
    named("environ", FileType::Regular, |about| {
        about.file(|process, out| range(process, out, |process| process.image.lock().environment))
    }),
    named("auxv", FileType::Regular, |about| {
        about.file(|process, out| range(process, out, |process| process.image.lock().vector))
    }),
    named("limits", FileType::Regular, |about| about.file(limits)),
    named("mounts", FileType::Regular, |about| about.file(mounts)),
    named("oom_score", FileType::Regular, |about| {
        about.file(|_, out| put(out, format_args!("0\n")))
    }),
    named("oom_score_adj", FileType::Regular, oom_score_adj),
    named("personality", FileType::Regular, |about| {
        about.file(|process, out| {
            put(out, format_args!("{:08x}\n", process.personality.load(Ordering::Relaxed)))
        })
    }),
    named("task", FileType::Directory, tasks),
];

/// What is told of a thread is told of its process; but it has no threads.
fn of_thread() -> &'static [Named<Bare, About>] {
    NAMES.split_last().map_or(&[], |(_, others)| others)
}

fn oom_score_adj(about: &About) -> Made {
    const MOST: i32 = 1000;
    let (shown, stored) = (about.process.clone(), about.process.clone());
    let show = move |out: &mut Out| {
        let adjusted = shown.oom_adjustment.load(Ordering::Relaxed).cast_signed();
        put(out, format_args!("{adjusted}\n"))
    };
    super::template(&about.volume, 0o644).writable(show, move |text| {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let adjusted: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
        if !(-MOST..=MOST).contains(&adjusted) {
            return Err(Errno::EINVAL);
        }
        stored.oom_adjustment.store(adjusted.cast_unsigned(), Ordering::Relaxed);
        Ok(())
    })
}

/// The name of the thread, or of the first one; the process itself may change it.
fn comm(about: &About) -> Made {
    let task = move |process: &Process, number: u32| process.task(number).ok_or(Errno::ESRCH);
    let number = about.task.unwrap_or(about.process.pid());
    let (shown, named) = (about.process.clone(), about.process.clone());
    let show = move |out: &mut Out| {
        let name =
            task(&shown, number).map_or_else(|_| shown.image.lock().name, |task| task.name());
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        out.push(&name[..end])?;
        put(out, format_args!("\n"))
    };
    super::template(&about.volume, 0o644).writable(show, move |text| {
        if super::asking() != named.pid() {
            return Err(Errno::EINVAL);
        }
        task(&named, number)?.set_name(text.strip_suffix(b"\n").unwrap_or(text));
        Ok(())
    })
}

/// A part of the process's own memory, as it is now.
fn range(process: &Process, out: &mut Out, place: fn(&Process) -> (u64, u64)) -> Result<(), Errno> {
    /// As much as is shown at most.
    const MOST: u64 = 128 << 10;
    let (mut at, end) = place(process);
    let end = end.min(at.saturating_add(MOST));
    with_memory(process, |memory| {
        let mut bytes = [0; 512];
        while at < end {
            let count = (end - at).min(512) as usize;
            memory.read(VirtAddr(at), &mut bytes[..count])?;
            out.push(&bytes[..count])?;
            at += count as u64;
        }
        Ok(())
    })?;
    Ok(())
}

fn limits(process: &Process, out: &mut Out) -> Result<(), Errno> {
    const ROWS: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    put(
        out,
        format_args!("{:<26}{:<21}{:<21}{:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units"),
    )?;
    let limits = process.limits.lock().clone();
    for (resource, (name, unit)) in ROWS.iter().enumerate() {
        let Some(limit) = limits.get(resource) else { continue };
        put(out, format_args!("{name:<26}"))?;
        for value in [limit.soft, limit.hard] {
            match value {
                u64::MAX => put(out, format_args!("{:<21}", "unlimited"))?,
                value => put(out, format_args!("{value:<21}"))?,
            }
        }
        put(out, format_args!("{unit:<10}\n"))?;
    }
    Ok(())
}

/// How a volume is mounted, in mount(8)'s words.
struct Manner(MountFlags);

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WORDS: [(MountFlags, &str); 6] = [
            (MountFlags::NO_SUID, ",nosuid"),
            (MountFlags::NO_DEVICES, ",nodev"),
            (MountFlags::NO_EXECUTE, ",noexec"),
            (MountFlags::SYNCHRONOUS, ",sync"),
            (MountFlags::NO_ACCESS_TIME, ",noatime"),
            (MountFlags::NO_DIRECTORY_ACCESS_TIME, ",nodiratime"),
        ];
        f.write_str(if self.0.contains(MountFlags::READ_ONLY) { "ro" } else { "rw" })?;
        let mut words = WORDS.iter().filter(|(flag, _)| self.0.contains(*flag));
        words.try_for_each(|(_, word)| f.write_str(word))
    }
}

fn mounts(_: &Process, out: &mut Out) -> Result<(), Errno> {
    put(out, format_args!("tmpfs / tmpfs rw 0 0\n"))?;
    let mut outcome = Ok(());
    system().tree.for_each_mount(|mount| {
        let mut row = || -> Result<(), Errno> {
            let source = if mount.source.is_empty() { &b"none"[..] } else { &mount.source };
            out.push(source)?;
            put(out, format_args!(" "))?;
            out.push(&system().path_of(&mount.root)?)?;
            let volume = mount.root.node().volume();
            put(out, format_args!(" {} {} 0 0\n", volume.style().name, Manner(volume.flags())))
        };
        if outcome.is_ok() {
            outcome = row();
        }
    });
    outcome
}

/// The directory of threads.
fn tasks(about: &About) -> Made {
    super::template(&about.volume, 0o555).directory(Tasks(about.clone()))
}

struct Tasks(About);

impl Listing<Bare> for Tasks {
    fn lookup(&self, name: &[u8]) -> Result<Option<Hold<Node<Bare>, Bare>>, Errno> {
        let task = number(name).filter(|number| self.0.process.task(*number).is_some());
        if task.is_none() {
            return Ok(None);
        }
        let about = About { task, ..self.0.clone() };
        super::template(&about.volume, 0o555).table(about.clone(), of_thread()).map(Some)
    }

    fn list(&self, after: u64, each: &mut dyn FnMut(Item<'_>) -> bool) -> Result<(), Errno> {
        let mut last = after as u32;
        loop {
            let mut next = None;
            self.0.process.for_each_task(|task| {
                let number = task.number();
                if number > last && next.is_none_or(|next| number < next) {
                    next = Some(number);
                }
            });
            let Some(number) = next else { return Ok(()) };
            last = number;
            let mut digits = [0; 10];
            let (file_type, name) = (FileType::Directory, decimal(number, &mut digits));
            let cookie = u64::from(number);
            if !each(Item { cookie, number: cookie, file_type, name }) {
                return Ok(());
            }
        }
    }
}
