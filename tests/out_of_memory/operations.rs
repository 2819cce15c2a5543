//! The operations, each with what it may leave behind when it is refused.

use rumpvm::MemoryFlags;
use rumpvm::shm::{AttachFlags, Caller, PRIVATE, Rank, SegmentFlags};

use super::*;

pub(super) const MAYMOVE: RemapFlags = RemapFlags::MAYMOVE;

pub(super) const MOVE_TO: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::FIXED);

pub(super) const MOVE_LEAVING: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::DONTUNMAP);

const SHARED_AT_ONCE: MapFlags = MapFlags::SHARED.union(MapFlags::POPULATE);

pub(super) fn nothing(_: &Stage<'_>) -> Outcome {
    Ok(())
}

/// Marks three areas that a child does not get.
pub(super) fn leave_out(stage: &Stage<'_>) -> Outcome {
    stage.advise(ANON + 2 * PAGE, 3, DONTFORK)?;
    stage.advise(ANON + 12 * PAGE, 2, DONTFORK)?;
    stage.advise(PRIVATE_FILE + PAGE, 1, DONTFORK)
}

/// A hundred areas of a page each, with different rights, of which some are in use.
pub(super) fn scatter(stage: &Stage<'_>) -> Outcome {
    stage.map(AWAY, 100, MapFlags::PRIVATE)?;
    (30..40).try_for_each(|page| stage.store(AWAY + page * PAGE))?;
    (0..50).try_for_each(|pair| stage.protect(AWAY + 2 * pair * PAGE, 1, Prot::READ))
}

/// Makes four of every record that the machine keeps a list of: that is the room a list begins with.
pub(super) fn fill_lists(stage: &Stage<'_>) -> Outcome {
    for _ in 0..3 {
        stage.vm.first_process()?;
    }
    for _ in 0..2 {
        stage.keep(stage.vm.shared_memory(PAGE))?;
    }
    Ok(())
}

/// `result`, where Linux has `told` for a file that cannot be read.
fn failed_as(told: CallError, result: Result<(), CallError>) -> Outcome {
    const EIO: IoError = IoError(5);
    result.map_err(|error| if error == told { CallError::Io(EIO) } else { error }.into())
}

const CALLER: Caller<'static> =
    Caller { uid: 0, gid: 0, groups: &[], rank: Rank::Administrator, pid: 1, now: 0 };

/// Attaches a segment that nobody will find.
fn attach_new_segment(on: &Stage<'_>) -> Outcome {
    let (segments, make) = (on.vm.segments(), SegmentFlags::CREATE);
    let id = segments.get(on.vm, &CALLER, PRIVATE, 3 * PAGE, make, 0o600)?;
    let flags = AttachFlags::empty();
    let attached = segments.attach(on.vm, &CALLER, &on.space, id, AWAY, flags);
    segments.remove(on.vm, &CALLER, id)?;
    attached?;
    Ok(())
}

pub(super) const fn op(
    name: &'static str,
    refused: Refused,
    act: fn(&Stage<'_>) -> Outcome,
) -> Operation {
    Operation { name, refused, prepare: nothing, act }
}

pub(super) const OPERATIONS: &[Operation] = &[
    op("mmap anonymous", Whole, |on| on.map(AWAY, 4, MapFlags::PRIVATE)),
    op("mmap anonymous at once", Whole, |on| {
        on.map(AWAY, 4, MapFlags::PRIVATE | MapFlags::POPULATE)
    }),
    op("mmap shared", Whole, |on| on.map(AWAY, 4, MapFlags::SHARED)),
    op("mmap of a file", Whole, |on| {
        on.map_file(AWAY, MapFlags::PRIVATE, &on.object_at(SHARED_FILE), 0)
    }),
    op("mmap over a populated part", Whole, |on| on.map(ANON + 4 * PAGE, 8, MapFlags::PRIVATE)),
    op("mmap over parts of two objects", Whole, |on| {
        on.map(PRIVATE_FILE + 2 * PAGE, (SHARED_FILE - PRIVATE_FILE) / PAGE, MapFlags::SHARED)
    }),
    op("munmap of a middle part", Whole, |on| on.unmap(ANON + 4 * PAGE, 8)),
    op("munmap of a middle page", Whole, |on| on.unmap(ANON + 3 * PAGE, 1)),
    op("munmap of a part of a file", Whole, |on| on.unmap(SHARED_FILE + PAGE, 2)),
    op("munmap of everything", Whole, |on| on.unmap(ANON, (STACK - ANON) / PAGE + 2)),
    op("mprotect", Whole, |on| on.protect(ANON + 3 * PAGE, 2, Prot::READ)),
    op("mprotect of two parts of objects", Partly, |on| {
        on.protect(PRIVATE_FILE + PAGE, 2, Prot::READ)?;
        on.protect(SHARED_FILE + PAGE, 2, Prot::READ)
    }),
    op("mremap grows in place", Whole, |on| on.remap(ANON, (16, 20), MAYMOVE, AWAY)),
    op("mremap shrinks", Whole, |on| on.remap(ANON, (16, 3), MAYMOVE, AWAY)),
    op("mremap moves", Whole, |on| on.remap(ANON + 4 * PAGE, (8, 12), MAYMOVE, AWAY)),
    op("mremap moves to", Whole, |on| on.remap(ANON + 4 * PAGE, (8, 8), MOVE_TO, AWAY)),
    op("mremap moves to a place far away", Whole, |on| {
        on.remap(ANON + 4 * PAGE, (8, 8), MOVE_TO, AWAY + (1 << 39))
    }),
    // What is there goes first, whatever comes after.
    op("mremap moves over a file", Partly, |on| {
        on.remap(ANON + 4 * PAGE, (8, 8), MOVE_TO, PRIVATE_FILE)
    }),
    op("mremap moves pages and leaves the area", Whole, |on| {
        on.remap(ANON + 2 * PAGE, (12, 12), MOVE_LEAVING, AWAY)
    }),
    op("mremap moves a private file", Whole, |on| {
        on.remap(PRIVATE_FILE + PAGE, (2, 5), MAYMOVE, AWAY)
    }),
    op("mremap maps an object again", Whole, |on| on.remap(SHARED, (0, 4), MAYMOVE, AWAY)),
    op("madvise throws away", Whole, |on| on.advise(ANON + 4 * PAGE, 8, DONTNEED)),
    Operation {
        name: "madvise throws away parts of several areas",
        refused: Whole,
        prepare: |on| on.protect(ANON + 4 * PAGE, 8, Prot::READ),
        act: |on| on.advise(ANON + 2 * PAGE, 12, DONTNEED),
    },
    op("madvise puts guards", Whole, |on| on.advise(ANON + 4 * PAGE, 8, GUARD)),
    op("madvise puts guards far away", Partly, |on| {
        // Over the edge of a leaf.
        let at = AWAY + (1 << 39) + 400 * PAGE;
        on.map(at, 300, MapFlags::PRIVATE)?;
        on.advise(at, 300, GUARD)
    }),
    op("madvise puts guards on shared memory", Whole, |on| on.advise(SHARED + PAGE, 2, GUARD)),
    Operation {
        name: "madvise takes guards away after a fork",
        refused: Whole,
        prepare: |on| {
            on.advise(ANON + 4 * PAGE, 3, GUARD)?;
            Ok(on.process.fork(on.vm).map(drop)?)
        },
        act: |on| on.advise(ANON, 16, UNGUARD),
    },
    Operation {
        name: "madvise throws away around guards after a fork",
        refused: Whole,
        prepare: |on| {
            on.advise(ANON + 4 * PAGE, 1, GUARD)?;
            on.advise(ANON + 9 * PAGE, 2, GUARD)?;
            Ok(on.process.fork(on.vm).map(drop)?)
        },
        act: |on| on.advise(ANON + PAGE, 14, DONTNEED),
    },
    Operation {
        name: "mremap moves guards",
        refused: Whole,
        prepare: |on| on.advise(SHARED + PAGE, 2, GUARD),
        act: |on| on.remap(SHARED, (4, 4), MAYMOVE | RemapFlags::DONTUNMAP, AWAY),
    },
    op("madvise makes a hole", Whole, |on| on.advise(SHARED, 4, REMOVE)),
    op("madvise makes a hole in a file", Partly, |on| on.advise(SHARED_FILE, 4, REMOVE)),
    // One area after the other: who tries again moves what is still there.
    Operation {
        name: "mremap moves several areas",
        refused: Partly,
        prepare: |on| on.protect(ANON + 4 * PAGE, 4, Prot::READ),
        act: |on| {
            let Some(moved) = (0..10).find(|page| on.is_mapped(ANON + (2 + page) * PAGE)) else {
                return Ok(());
            };
            let left = 10 - moved;
            on.remap(ANON + (2 + moved) * PAGE, (left, left), MOVE_TO, AWAY + moved * PAGE)
        },
    },
    op("remap_file_pages", Whole, |on| {
        let flags = MapFlags::NONBLOCK;
        Ok(on.space.remap_file_pages(on.vm, SHARED_FILE + PAGE, 2 * PAGE, 0, 1, flags)?)
    }),
    op("minherit", Whole, |on| {
        Ok(on.space.minherit(on.vm, ANON + 4 * PAGE, 8 * PAGE, Inheritance::Zero)?)
    }),
    op("reserve", Whole, |on| {
        Ok(on.space.reserve(on.vm, ANON + 4 * PAGE, 8 * PAGE, MapFlags::FIXED).map(drop)?)
    }),
    // What is to be shared can be an object by then.
    Operation {
        name: "fork with memory to share",
        refused: Partly,
        prepare: |on| {
            on.space.minherit(on.vm, ANON + 4 * PAGE, 8 * PAGE, Inheritance::Share)?;
            Ok(on.space.minherit(on.vm, SHARED, 2 * PAGE, Inheritance::Copy)?)
        },
        act: |on| Ok(on.process.fork(on.vm).map(drop)?),
    },
    op("fork with wiped memory", Partly, |on| {
        on.advise(ANON + 4 * PAGE, 8, WIPEONFORK)?;
        Ok(on.process.fork(on.vm).map(drop)?)
    }),
    op("mlockall", Partly, |on| Ok(on.space.mlockall(on.vm, LockAllFlags::all())?)),
    op("mlockall as pages come in", Whole, |on| {
        let flags = LockAllFlags::CURRENT | LockAllFlags::ONFAULT;
        Ok(on.space.mlockall(on.vm, flags)?)
    }),
    Operation {
        name: "munlockall",
        refused: Whole,
        prepare: |on| Ok(on.space.mlockall(on.vm, LockAllFlags::all())?),
        act: |on| Ok(on.space.munlockall(on.vm)?),
    },
    op("madvise marks", Whole, |on| on.advise(ANON + 4 * PAGE, 8, DONTFORK)),
    // Locked it is, but not every page is there.
    op("mlock", Partly, |on| Ok(on.space.mlock(on.vm, ANON + 4 * PAGE, 8 * PAGE)?)),
    Operation {
        name: "munlock",
        refused: Whole,
        prepare: |on| Ok(on.space.mlock(on.vm, ANON, 16 * PAGE)?),
        act: |on| Ok(on.space.munlock(on.vm, ANON + 4 * PAGE, 8 * PAGE)?),
    },
    op("brk up", Whole, |on| {
        let end = HEAP + 5 * PAGE;
        if on.space.brk(on.vm, end) == end { Ok(()) } else { Err(Refusal::Break) }
    }),
    op("store to a fresh page", Whole, |on| on.store(ANON + 7 * PAGE)),
    op("store to a page in use", Whole, |on| on.store(ANON + 3 * PAGE)),
    op("store far away", Partly, |on| {
        on.map(AWAY + (1 << 39), 1, MapFlags::PRIVATE)?;
        on.store(AWAY + (1 << 39))
    }),
    op("load of a fresh page", Whole, |on| on.load(ANON + 7 * PAGE)),
    op("load of a page in use", Whole, |on| on.load(ANON + 3 * PAGE)),
    op("load of a file page", Whole, |on| on.load(SHARED_FILE + 3 * PAGE)),
    op("store to a private file page", Whole, |on| on.store(PRIVATE_FILE + 3 * PAGE)),
    op("store to a copied file page", Whole, |on| on.store(PRIVATE_FILE + PAGE)),
    op("store to a shared file page", Whole, |on| on.store(SHARED_FILE + 3 * PAGE)),
    op("store to a shared page", Whole, |on| on.store(SHARED + 3 * PAGE)),
    op("stack growth", Partly, |on| on.store(STACK - 3 * PAGE)),
    Operation {
        name: "load of a page that is mapped often",
        refused: Whole,
        prepare: |on| {
            on.map_object_often()?;
            (0..8).try_for_each(|number| on.load(AWAY + (2 * number + 1) * LEAF))
        },
        act: |on| on.load(AWAY + 17 * LEAF),
    },
    Operation {
        name: "munmap among many areas",
        refused: Whole,
        prepare: scatter,
        act: |on| on.unmap(AWAY + 31 * PAGE, 38),
    },
    Operation {
        name: "mprotect of many areas",
        refused: Whole,
        prepare: scatter,
        act: |on| on.protect(AWAY + 20 * PAGE, 40, Prot::READ),
    },
    Operation {
        name: "madvise marks some of many areas",
        refused: Whole,
        prepare: scatter,
        act: |on| on.advise(AWAY + 21 * PAGE, 50, DONTFORK),
    },
    Operation {
        name: "mmap between many areas",
        refused: Whole,
        prepare: scatter,
        act: |on| on.map(AWAY + 41 * PAGE, 3, MapFlags::PRIVATE),
    },
    // A prefix has been copied.
    op("copy out", Partly, |on| Ok(on.space.copy_out(on.vm, ANON + 5 * PAGE, &[7; 6 << 12])?)),
    op("fork", Whole, |on| Ok(on.process.fork(on.vm).map(drop)?)),
    Operation {
        name: "fork with areas left out",
        refused: Whole,
        prepare: leave_out,
        act: |on| Ok(on.process.fork(on.vm).map(drop)?),
    },
    op("vfork", Whole, |on| Ok(on.process.vfork(on.vm).map(drop)?)),
    op("exec", Whole, |on| Ok(on.process.exec(on.vm)?)),
    op("first process", Whole, |on| Ok(on.vm.first_process().map(drop)?)),
    Operation {
        name: "exit and wait",
        refused: Whole,
        prepare: |on| Ok(on.process.fork(on.vm).map(drop)?),
        act: |on| {
            let mut youngest = on.process.clone();
            on.vm.for_each_process(|process| youngest = process.clone());
            youngest.exit(on.vm, 3);
            let reaped = on.process.wait(on.vm, WaitFor::Pid(youngest.pid()), true)?;
            assert_eq!(reaped, Some((youngest.pid(), 3)));
            Ok(())
        },
    },
    op("a file is cut off behind its first page", Whole, |on| {
        Ok(on.vm.resize(&on.object_at(PRIVATE_FILE), PAGE)?)
    }),
    Operation {
        name: "a file is cut off whose copies a fork shares",
        refused: Whole,
        prepare: |on| Ok(on.process.fork(on.vm).map(drop)?),
        act: |on| Ok(on.vm.resize(&on.object_at(PRIVATE_FILE), PAGE)?),
    },
    op("a file grows", Whole, |on| Ok(on.vm.resize(&on.object_at(SHARED_FILE), 9 * PAGE)?)),
    op("write to a shared object", Whole, |on| {
        Ok(on.vm.write_object(&on.object_at(SHARED), 3 * PAGE, &[1; 9]).map(drop)?)
    }),
    op("read of a file's object", Whole, |on| {
        Ok(on.vm.read_object(&on.object_at(SHARED_FILE), 7 * PAGE, &mut [0; 9]).map(drop)?)
    }),
    op("memory file", Whole, |on| on.keep(on.vm.memory_file(MemoryFlags::ALLOW_SEALING))),
    op("a segment is made, attached and removed", Whole, attach_new_segment),
    Operation {
        name: "shmdt",
        refused: Whole,
        prepare: attach_new_segment,
        act: |on| Ok(on.vm.segments().detach(on.vm, &CALLER, &on.space, AWAY)?),
    },
    op("open a file", Whole, |on| on.keep(on.vm.open_file(MemoryFile::zeroed(9)))),
    op("shared memory", Whole, |on| on.keep(on.vm.shared_memory(3 * PAGE))),
    Operation {
        name: "msync",
        refused: Whole,
        prepare: |on| on.store(SHARED_FILE + 3 * PAGE),
        act: |on| Ok(on.space.msync(on.vm, SHARED_FILE, 4 * PAGE, SyncFlags::SYNC)?),
    },
    op("madvise reads a file", Whole, |on| on.advise(SHARED_FILE, 4, WILLNEED)),
    op("madvise brings a file in", Whole, |on| {
        let brought = on.space.madvise(on.vm, SHARED_FILE, 4 * PAGE, POPULATE_READ);
        failed_as(CallError::BadAddress, brought)
    }),
    op("mmap of a file at once", Whole, |on| {
        on.map_file(AWAY, SHARED_AT_ONCE, &on.object_at(SHARED_FILE), 0)
    }),
    // Locked it is, but not every page is there.
    op("mlock of a file", Partly, |on| {
        failed_as(CallError::Unmapped, on.space.mlock(on.vm, SHARED_FILE, 4 * PAGE))
    }),
    op("truncation of a file", Whole, |on| {
        Ok(on.vm.resize(&on.object_at(SHARED_FILE), 5 * PAGE + 100)?)
    }),
    // From here on the last user of the file goes, unless a child has it too.
    op("munmap of a file", Whole, |on| on.unmap(PRIVATE_FILE, 10)),
    op("mmap over a file", Whole, |on| on.map(PRIVATE_FILE, 10, MapFlags::PRIVATE)),
    // What was mapped is not any more, and the file is closed.
    op("close of a file", Partly, |on| {
        let file = on.open()?;
        let unmapped = on.unmap(PRIVATE_FILE, 10);
        let closed = on.vm.close(&file);
        unmapped?;
        Ok(closed?)
    }),
    op("exit", Whole, |on| {
        on.end();
        Ok(())
    }),
];

/// Operations that make one more of a record when every list of the machine is full.
pub(super) const ONE_MORE: &[Operation] = &[
    Operation {
        name: "fork when the lists are full",
        refused: Whole,
        prepare: fill_lists,
        act: |on| Ok(on.process.fork(on.vm).map(drop)?),
    },
    Operation {
        name: "vfork when the lists are full",
        refused: Whole,
        prepare: fill_lists,
        act: |on| Ok(on.process.vfork(on.vm).map(drop)?),
    },
    Operation {
        name: "first process when the lists are full",
        refused: Whole,
        prepare: fill_lists,
        act: |on| Ok(on.vm.first_process().map(drop)?),
    },
    Operation {
        name: "exec when the lists are full",
        refused: Whole,
        prepare: fill_lists,
        act: |on| Ok(on.process.exec(on.vm)?),
    },
    Operation {
        name: "shared memory when the lists are full",
        refused: Whole,
        prepare: fill_lists,
        act: |on| on.keep(on.vm.shared_memory(PAGE)),
    },
    Operation {
        name: "mmap shared when the lists are full",
        refused: Whole,
        prepare: fill_lists,
        act: |on| on.map(ANON, 4, MapFlags::SHARED),
    },
    Operation {
        name: "open a file when the lists are full",
        refused: Whole,
        prepare: fill_lists,
        act: |on| on.keep(on.vm.open_file(MemoryFile::zeroed(9))),
    },
];
