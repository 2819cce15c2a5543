//! Who one is: numbers of processes and threads, users, groups, capabilities.

use alloc::vec::Vec;

use rumpvm::sync::try_reserve;
use rumpvm_arch::VirtAddr;
use rumpvm_bare::Bare;
use rumpvm_files::Errno;

use super::{Answer, Args};
use crate::linux::ids::{ALL, Capable, Four, Ids, capability};
use crate::linux::system::system;
use crate::linux::thread::Thread;

pub(super) fn getpid(thread: &mut Thread, _: Args) -> Answer {
    Ok(u64::from(thread.task.process.pid()))
}

pub(super) fn gettid(thread: &mut Thread, _: Args) -> Answer {
    Ok(u64::from(thread.number()))
}

pub(super) fn getppid(thread: &mut Thread, _: Args) -> Answer {
    Ok(u64::from(thread.task.process.parent_pid()))
}

/// Calls `work` with who the caller is.
fn with_ids<T>(thread: &Thread, work: impl FnOnce(&mut Ids) -> T) -> T {
    work(&mut thread.task.process.ids.lock())
}

pub(super) fn getuid(thread: &mut Thread, _: Args) -> Answer {
    Ok(u64::from(with_ids(thread, |ids| ids.user.real)))
}

pub(super) fn geteuid(thread: &mut Thread, _: Args) -> Answer {
    Ok(u64::from(with_ids(thread, |ids| ids.user.effective)))
}

pub(super) fn getgid(thread: &mut Thread, _: Args) -> Answer {
    Ok(u64::from(with_ids(thread, |ids| ids.group.real)))
}

pub(super) fn getegid(thread: &mut Thread, _: Args) -> Answer {
    Ok(u64::from(with_ids(thread, |ids| ids.group.effective)))
}

/// Whether the ids of `old` may become `new` for who is not privileged: each is one that he has.
fn may_become(old: Four, new: [Option<u32>; 3]) -> bool {
    let has = |id: &u32| [old.real, old.effective, old.saved].contains(id);
    new.iter().flatten().all(has)
}

/// What setreuid(2), setresuid(2) and their kind make of the four.
fn become_ids(old: Four, [real, effective, saved]: [Option<u32>; 3]) -> Four {
    let effective = effective.unwrap_or(old.effective);
    Four {
        real: real.unwrap_or(old.real),
        effective,
        saved: saved.unwrap_or(old.saved),
        files: effective,
    }
}

fn set_users(thread: &Thread, new: [Option<u32>; 3]) -> Answer {
    with_ids(thread, |ids| {
        if !ids.can(capability::SETUID) && !may_become(ids.user, new) {
            return Err(Errno::EPERM);
        }
        let users = become_ids(ids.user, new);
        ids.set_users(users);
        Ok(0)
    })
}

fn set_groups(thread: &Thread, new: [Option<u32>; 3]) -> Answer {
    with_ids(thread, |ids| {
        if !ids.can(capability::SETGID) && !may_become(ids.group, new) {
            return Err(Errno::EPERM);
        }
        ids.group = become_ids(ids.group, new);
        Ok(0)
    })
}

/// An id; all bits stand for "as it is".
fn given(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

/// setuid(2): all of them for who may, the effective one for others.
fn plain(id: u32, can: bool) -> Result<[Option<u32>; 3], Errno> {
    let id = Some(given(id).ok_or(Errno::EINVAL)?);
    Ok(if can { [id, id, id] } else { [None, id, None] })
}

/// setreuid(2): the saved one follows if the real one is set, or the effective one to another than the real one was.
fn pair(old: Four, args: Args) -> [Option<u32>; 3] {
    let (real, effective) = (given(args.half(0)), given(args.half(1)));
    let follows = real.is_some() || effective.is_some_and(|effective| effective != old.real);
    let saved = follows.then_some(effective.unwrap_or(old.effective));
    [real, effective, saved]
}

fn triple(args: Args) -> [Option<u32>; 3] {
    [given(args.half(0)), given(args.half(1)), given(args.half(2))]
}

pub(super) fn setuid(thread: &mut Thread, args: Args) -> Answer {
    let can = with_ids(thread, |ids| ids.can(capability::SETUID));
    set_users(thread, plain(args.half(0), can)?)
}

pub(super) fn setgid(thread: &mut Thread, args: Args) -> Answer {
    let can = with_ids(thread, |ids| ids.can(capability::SETGID));
    set_groups(thread, plain(args.half(0), can)?)
}

pub(super) fn setreuid(thread: &mut Thread, args: Args) -> Answer {
    let old = with_ids(thread, |ids| ids.user);
    let new = pair(old, args);
    // The saved one may become what the effective one may.
    let allowed = may_become(old, [new[0], new[1], None]);
    with_ids(thread, |ids| {
        if !ids.can(capability::SETUID) && !allowed {
            return Err(Errno::EPERM);
        }
        let users = become_ids(old, new);
        ids.set_users(users);
        Ok(0)
    })
}

pub(super) fn setregid(thread: &mut Thread, args: Args) -> Answer {
    let old = with_ids(thread, |ids| ids.group);
    let new = pair(old, args);
    let allowed = may_become(old, [new[0], new[1], None]);
    with_ids(thread, |ids| {
        if !ids.can(capability::SETGID) && !allowed {
            return Err(Errno::EPERM);
        }
        ids.group = become_ids(old, new);
        Ok(0)
    })
}

pub(super) fn setresuid(thread: &mut Thread, args: Args) -> Answer {
    set_users(thread, triple(args))
}

pub(super) fn setresgid(thread: &mut Thread, args: Args) -> Answer {
    set_groups(thread, triple(args))
}

fn put_three(thread: &Thread, args: Args, four: Four) -> Answer {
    for (place, id) in [four.real, four.effective, four.saved].into_iter().enumerate() {
        thread.user().put_half(args.at(place), id)?;
    }
    Ok(0)
}

pub(super) fn getresuid(thread: &mut Thread, args: Args) -> Answer {
    let user = with_ids(thread, |ids| ids.user);
    put_three(thread, args, user)
}

pub(super) fn getresgid(thread: &mut Thread, args: Args) -> Answer {
    let group = with_ids(thread, |ids| ids.group);
    put_three(thread, args, group)
}

pub(super) fn setfsuid(thread: &mut Thread, args: Args) -> Answer {
    let id = args.half(0);
    Ok(u64::from(with_ids(thread, |ids| {
        let old = ids.user;
        let allowed = may_become(old, [Some(id), None, None]) || id == old.files;
        if id != u32::MAX && (allowed || ids.can(capability::SETUID)) {
            ids.set_users(Four { files: id, ..old });
        }
        old.files
    })))
}

pub(super) fn setfsgid(thread: &mut Thread, args: Args) -> Answer {
    let id = args.half(0);
    Ok(u64::from(with_ids(thread, |ids| {
        let old = ids.group;
        let allowed = may_become(old, [Some(id), None, None]) || id == old.files;
        if id != u32::MAX && (allowed || ids.can(capability::SETGID)) {
            ids.group.files = id;
        }
        old.files
    })))
}

pub(super) fn getgroups(thread: &mut Thread, args: Args) -> Answer {
    let groups = thread.task.process.ids.lock().try_clone()?.groups;
    let room = args.int(0);
    if room == 0 {
        return Ok(groups.len() as u64);
    }
    if room < 0 || (room as usize) < groups.len() {
        return Err(Errno::EINVAL);
    }
    for (number, group) in groups.iter().enumerate() {
        let at = VirtAddr(args.word(1).saturating_add(4 * number as u64));
        thread.user().put_half(at, *group)?;
    }
    Ok(groups.len() as u64)
}

pub(super) fn setgroups(thread: &mut Thread, args: Args) -> Answer {
    /// `NGROUPS_MAX`.
    const MOST: u64 = 65_536;
    if !thread.task.process.can(capability::SETGID) {
        return Err(Errno::EPERM);
    }
    let count = args.word(0);
    if count > MOST {
        return Err(Errno::EINVAL);
    }
    let mut groups = Vec::new();
    try_reserve::<_, Bare>(&mut groups, count as usize)?;
    for number in 0..count {
        groups.push(thread.user().half(VirtAddr(args.word(1).saturating_add(4 * number)))?);
    }
    let before = core::mem::replace(&mut thread.task.process.ids.lock().groups, groups);
    drop(before);
    Ok(0)
}

/// Versions of the sets: with one word, and twice with two.
const VERSIONS: [u32; 3] = [0x1998_0330, 0x2007_1026, 0x2008_0522];

/// The version and the process of capget(2) and capset(2), and how many words the sets have.
fn capability_header(thread: &Thread, at: VirtAddr) -> Result<(u32, usize), Errno> {
    let version = thread.user().half(at)?;
    let pid = thread.user().half(VirtAddr(at.0.saturating_add(4)))?;
    let Some(known) = VERSIONS.iter().position(|known| *known == version) else {
        thread.user().put_half(at, VERSIONS[2])?;
        return Err(Errno::EINVAL);
    };
    Ok((pid, if known == 0 { 1 } else { 2 }))
}

pub(super) fn capget(thread: &mut Thread, args: Args) -> Answer {
    let header = capability_header(thread, args.at(0));
    if args.word(1) == 0 {
        // Who only asks for the version has his answer.
        return match header {
            Err(Errno::EFAULT) => Err(Errno::EFAULT),
            _ => Ok(0),
        };
    }
    let (pid, words) = header?;
    let capable = match pid {
        0 => thread.task.process.capable(),
        pid if pid > i32::MAX as u32 => return Err(Errno::EINVAL),
        pid => system().find(pid).ok_or(Errno::ESRCH)?.capable(),
    };
    for word in 0..words {
        let sets = [capable.effective, capable.permitted, capable.inheritable];
        for (place, set) in sets.into_iter().enumerate() {
            let at = args.word(1).saturating_add((word * 12 + place * 4) as u64);
            thread.user().put_half(VirtAddr(at), (set >> (32 * word)) as u32)?;
        }
    }
    Ok(0)
}

pub(super) fn capset(thread: &mut Thread, args: Args) -> Answer {
    let (pid, words) = capability_header(thread, args.at(0))?;
    if pid != 0 && pid != thread.task.process.pid() {
        return Err(Errno::EPERM);
    }
    let mut sets = [0; 3];
    for word in 0..words {
        for (place, set) in sets.iter_mut().enumerate() {
            let at = args.word(1).saturating_add((word * 12 + place * 4) as u64);
            *set |= u64::from(thread.user().half(VirtAddr(at))?) << (32 * word);
        }
    }
    let [effective, permitted, inheritable] = sets.map(|set| set & ALL);
    with_ids(thread, |ids| {
        let old = ids.capable;
        let gains = permitted & !old.permitted != 0
            || effective & !permitted != 0
            || inheritable & !(old.inheritable | old.permitted) != 0;
        if gains
            && !(ids.can(capability::SETPCAP)
                && permitted & !old.permitted == 0
                && effective & !permitted == 0)
        {
            return Err(Errno::EPERM);
        }
        ids.capable = Capable { effective, permitted, inheritable };
        Ok(0)
    })
}
