//! What is done to a range.

use rumpvm::{Inheritance, LockAllFlags, LockFlags, MapFlags, ProtFlags, RemapFlags, SyncFlags};
use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr};

use super::alignments::{AWAY, LEAF, OBJECT_BYTES, START, Span};
use super::pair::{FILE, MEMORY, Pair, Verdict, What};

/// Done by whoever acts, to the range.
type Act<F> = Box<dyn Fn(&mut Pair<'_, F>, Span) -> Verdict>;

pub(crate) struct Operation<F: Format> {
    pub(crate) name: String,
    /// Largest range that it is tried on: no model holds what mmap makes of user memory as a whole.
    pub(crate) most: u64,
    pub(crate) act: Act<F>,
}

/// Collects operations.
pub(crate) struct Table<F: Format>(Vec<Operation<F>>);

const FIXED: MapFlags = MapFlags::FIXED;
const PRIVATE: MapFlags = MapFlags::PRIVATE;
const SHARED: MapFlags = MapFlags::SHARED;
const HERE: RemapFlags = RemapFlags::empty();
const MAYMOVE: RemapFlags = RemapFlags::MAYMOVE;
const MOVE: RemapFlags = MAYMOVE.union(RemapFlags::FIXED);
const LEAVE: RemapFlags = RemapFlags::DONTUNMAP;

impl<F: Format> Table<F> {
    fn add(
        &mut self,
        name: impl Into<String>,
        act: impl Fn(&mut Pair<'_, F>, Span) -> Verdict + 'static,
    ) {
        self.0.push(Operation { name: name.into(), most: u64::MAX, act: Box::new(act) });
    }

    fn add_map(&mut self, name: &str, prot: Prot, flags: MapFlags, what: What) {
        let act = move |on: &mut Pair<'_, F>, span| on.map(span, prot, flags, what);
        self.0.push(Operation { name: format!("mmap {name}"), most: LEAF, act: Box::new(act) });
    }
}

/// All operations.
pub(crate) fn all<F: Format>() -> Vec<Operation<F>> {
    let mut table = Table(vec![]);
    maps(&mut table);
    remaps(&mut table);
    advice(&mut table);
    accesses(&mut table);
    forks(&mut table);
    objects(&mut table);
    table.0
}

fn maps<F: Format>(to: &mut Table<F>) {
    let text = Prot::READ | Prot::EXEC;
    let zeros = What::Zeros;
    to.add_map("over it", Prot::RW, PRIVATE | FIXED, zeros);
    to.add_map("over it, without rights", Prot::empty(), PRIVATE | FIXED, zeros);
    to.add_map("over it, shared", Prot::RW, SHARED | FIXED, zeros);
    to.add_map("over it, a private file", Prot::RW, PRIVATE | FIXED, What::Of(FILE, 3));
    to.add_map("over it, a file's text", text, PRIVATE | FIXED, What::Of(FILE, 2));
    to.add_map("over it, a shared file", Prot::RW, SHARED | FIXED, What::Of(FILE, 14));
    to.add_map("over it, shared memory", Prot::RW, SHARED | FIXED, What::Of(MEMORY, 2));
    to.add_map("over it, a stack", Prot::RW, PRIVATE | FIXED | MapFlags::GROWSDOWN, zeros);
    to.add_map("over it, populated", Prot::RW, PRIVATE | FIXED | MapFlags::POPULATE, zeros);
    to.add_map("over it, locked", Prot::READ, PRIVATE | FIXED | MapFlags::LOCKED, zeros);
    to.add_map(
        "over it, a shared file at once",
        Prot::RW,
        SHARED | FIXED | MapFlags::POPULATE,
        What::Of(FILE, 14),
    );
    to.add_map("if it is free", Prot::RW, PRIVATE | MapFlags::FIXED_NOREPLACE, zeros);
    to.add_map("near it", Prot::RW, PRIVATE, zeros);
    to.add_map("near it, a file", Prot::RW, PRIVATE, What::Of(FILE, 0));
    to.add_map("low", Prot::RW, PRIVATE | MapFlags::BIT32, zeros);
    to.add("munmap", |on, span| on.unmap(span));
    to.add("munmap and mmap again", |on, span| {
        on.unmap(span)?;
        let span = Span { length: span.length.min(LEAF), ..span };
        on.map(span, Prot::RW, PRIVATE | FIXED, What::Zeros)
    });
    to.add("brk to its start", |on, span| on.brk(span.at));
    to.add("brk to its end", |on, span| on.brk(VirtAddr(span.at.0.saturating_add(span.length))));
    to.add("brk to its end, then to its start", |on, span| {
        on.brk(VirtAddr(span.at.0.saturating_add(span.length)))?;
        on.load(span)?;
        on.brk(span.at)
    });
}

fn remaps<F: Format>(table: &mut Table<F>) {
    let page = PAGE_SIZE;
    let mut to = |name, new: fn(u64) -> u64, flags, place: VirtAddr| {
        table.add(format!("mremap {name}"), move |on, span| {
            on.remap(span, new(span.length), flags, place)
        });
    };
    let nowhere = VirtAddr(0);
    to("to the same size", |length| length, HERE, nowhere);
    to("larger, here", |length| length.saturating_add(2 * PAGE_SIZE), HERE, nowhere);
    to("larger by a leaf, here", |length| length.saturating_add(LEAF), HERE, nowhere);
    to("larger, anywhere", |length| length.saturating_add(3 * PAGE_SIZE), MAYMOVE, nowhere);
    to("smaller by a page", |length| length.saturating_sub(PAGE_SIZE), HERE, nowhere);
    to("to one page", |_| PAGE_SIZE, MAYMOVE, nowhere);
    to("to nothing", |_| 0, MAYMOVE, nowhere);
    to("away", |length| length, MOVE, AWAY);
    to("away and larger", |length| length.saturating_add(2 * PAGE_SIZE), MOVE, AWAY);
    to("away and smaller", |length| length.saturating_sub(PAGE_SIZE), MOVE, AWAY);
    to("away, leaving it", |length| length, MOVE | LEAVE, AWAY);
    to("anywhere, leaving it", |length| length, MAYMOVE | LEAVE, nowhere);
    to("away, unaligned", |length| length, MOVE, AWAY + 1);
    to("behind the end of user memory", |length| length, MOVE, F::USER_END);
    to("to the start of the template", |length| length, MOVE, START);
    to("to the last pages of the template", |length| length, MOVE, START + 14 * page);
    to("just below the template", |length| length, MOVE, VirtAddr(START.0 - 2 * page));
    to("with flags that contradict", |length| length, RemapFlags::FIXED, AWAY);
    table.add("mremap of nothing, to map it once more", move |on, span| {
        on.remap(Span { length: 0, ..span }, span.length, MAYMOVE, nowhere)
    });
    table.add("mremap away and back", move |on, span| {
        on.remap(span, span.length, MOVE, AWAY)?;
        on.store(Span { at: AWAY, length: span.length.min(3 * page) })?;
        on.remap(Span { at: AWAY, ..span }, span.length, MOVE, span.at)
    });
}

fn advice<F: Format>(to: &mut Table<F>) {
    for bits in 0..8 {
        let prot = Prot::from_bits_truncate(bits);
        to.add(format!("mprotect {prot:?}"), move |on, span| on.protect(span, prot));
    }
    for (name, bits) in [
        ("a stack", ProtFlags::GROWSDOWN.bits() | 1),
        ("a stack, for stores", ProtFlags::GROWSDOWN.bits() | 3),
        ("a stack that grows up", ProtFlags::GROWSUP.bits() | 1),
        ("a stack that grows both ways", (ProtFlags::GROWSDOWN | ProtFlags::GROWSUP).bits()),
        ("SEM", 11),
        ("an unknown bit", 1 << 31 | 1),
    ] {
        let flags = ProtFlags::from_bits_retain(bits);
        to.add(format!("mprotect, {name}"), move |on, span| on.protect(span, flags));
    }
    for key in [-1, 0, 7] {
        to.add(format!("mprotect with key {key}"), move |on, span| on.protect_with_key(span, key));
    }
    to.add("mprotect, and back", |on, span| {
        on.protect(span, Prot::empty())?;
        on.protect(span, Prot::RW)
    });
    let kinds = [
        0, 1, 2, 3, 4, 8, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 22, 23, 9, 18, 19, 24, 25, 99,
        102, 103,
    ];
    for advice in kinds {
        to.add(format!("madvise {advice}"), move |on, span| on.advise(span, advice));
    }
    to.add("guards over it, and away again", |on, span| {
        on.advise(span, 102)?;
        on.load(span)?;
        on.mincore(span)?;
        on.advise(span, 4)?;
        on.advise(span, 103)
    });
    to.add("guards, moved and left behind", |on, span| {
        on.advise(span, 102)?;
        on.remap(span, span.length, MOVE, AWAY)?;
        on.remap(Span { at: AWAY, ..span }, span.length, MOVE | LEAVE, span.at)
    });
    for page in [0, 5] {
        let what = format!("remap_file_pages to page {page}");
        to.add(what, move |on, span| on.remap_file(span, page));
    }
    to.add("reserve", |on, span| {
        let span = Span { length: span.length.min(LEAF), ..span };
        on.reserve(span, FIXED)?;
        on.protect(span, Prot::RW)?;
        on.load(span)
    });
    to.add("madvise 4, after stores", |on, span| {
        on.store(span)?;
        on.advise(span, 4)
    });
    for (name, flags) in [
        ("SYNC", SyncFlags::SYNC),
        ("ASYNC", SyncFlags::ASYNC),
        ("INVALIDATE", SyncFlags::INVALIDATE),
        ("SYNC and ASYNC", SyncFlags::SYNC | SyncFlags::ASYNC),
    ] {
        to.add(format!("msync {name}"), move |on, span| on.sync(span, flags));
    }
    to.add("mincore", |on, span| on.mincore(span));
    to.add("mlock", |on, span| on.lock(span));
    to.add("munlock", |on, span| on.unlock(span));
    to.add("mlock2 ONFAULT", |on, span| on.lock_with(span, LockFlags::ONFAULT));
    to.add("mlock, then ONFAULT, then mlock", |on, span| {
        on.lock(span)?;
        on.lock_with(span, LockFlags::ONFAULT)?;
        on.lock(span)
    });
    for bits in [0, 1, 2, 3, 4, 5, 6, 7, 8] {
        let flags = LockAllFlags::from_bits_retain(bits);
        to.add(format!("mlockall {bits}, mmap"), move |on, span| {
            on.lock_all(flags)?;
            let span = Span { length: span.length.min(LEAF), ..span };
            on.map(span, Prot::RW, PRIVATE | FIXED, What::Zeros)?;
            on.brk(span.at)
        });
    }
    to.add("mlockall and munlockall", |on, span| {
        on.lock_all(LockAllFlags::CURRENT | LockAllFlags::FUTURE)?;
        on.remap(span, span.length, MAYMOVE | LEAVE, AWAY)?;
        on.unlock_all()
    });
    to.add("mlock and munlock", |on, span| {
        on.lock(span)?;
        on.unlock(span)
    });
    to.add("mlock with a limit of 8 pages", |on, span| {
        on.limit_locks(8 * PAGE_SIZE);
        on.lock(span)
    });
    to.add("mlock with a limit of nothing", |on, span| {
        on.limit_locks(0);
        on.lock(span)
    });
}

fn accesses<F: Format>(to: &mut Table<F>) {
    to.add("load", |on, span| on.load(span));
    to.add("store", |on, span| on.store(span));
    to.add("fetch", |on, span| on.fetch(span));
    to.add("copy in", |on, span| on.copy_in(span));
    to.add("copy out", |on, span| on.copy_out(span));
    to.add("load, then store", |on, span| {
        on.load(span)?;
        on.store(span)
    });
}

fn forks<F: Format>(to: &mut Table<F>) {
    fn in_child<F: Format>(
        on: &mut Pair<'_, F>,
        act: impl Fn(&mut Pair<'_, F>) -> Verdict,
    ) -> Verdict {
        let parent = on.now;
        on.fork()?;
        on.now = on.processes.len() - 1;
        act(on)?;
        on.now = parent;
        Ok(())
    }
    to.add("fork, store in the parent", |on, span| {
        on.fork()?;
        on.store(span)
    });
    to.add("fork, store in the child", |on, span| in_child(on, |on| on.store(span)));
    to.add("fork, store in the child, then in the parent", |on, span| {
        in_child(on, |on| on.store(span))?;
        on.store(span)
    });
    to.add("fork, munmap in the parent", |on, span| {
        on.fork()?;
        on.unmap(span)
    });
    to.add("fork, munmap in the child", |on, span| in_child(on, |on| on.unmap(span)));
    to.add("fork, mprotect in the child", |on, span| {
        in_child(on, |on| on.protect(span, Prot::READ))
    });
    to.add("fork, madvise 4 in the child", |on, span| in_child(on, |on| on.advise(span, 4)));
    to.add("fork, mremap in the child", |on, span| {
        in_child(on, |on| on.remap(span, span.length, MOVE, AWAY))
    });
    for (name, how) in [
        ("share", Inheritance::Share),
        ("copy", Inheritance::Copy),
        ("none", Inheritance::None),
        ("zero", Inheritance::Zero),
    ] {
        to.add(format!("minherit {name}, fork, store in both"), move |on, span| {
            on.inherit(span, how)?;
            in_child(on, |on| on.store(span))?;
            on.store(span)
        });
    }
    to.add("wipe on fork, with guards", |on, span| {
        on.advise(span, 102)?;
        on.advise(span, 18)?;
        in_child(on, |on| on.store(span))?;
        on.load(span)
    });
    to.add("guards in the parent, gone in the child", |on, span| {
        on.advise(span, 102)?;
        in_child(on, |on| on.advise(span, 103))?;
        on.load(span)
    });
    to.add("fork, guards in the child", |on, span| in_child(on, |on| on.advise(span, 102)));
    to.add("fork, madvise 10 in between, fork", |on, span| {
        on.fork()?;
        on.advise(span, 10)?;
        on.fork()
    });
    to.add("store, then exit", |on, span| {
        on.fork()?;
        on.store(span)?;
        on.exit();
        Ok(())
    });
    to.add("store, then exec", |on, span| {
        on.fork()?;
        on.store(span)?;
        on.exec()
    });
}

fn objects<F: Format>(to: &mut Table<F>) {
    /// The byte of an object that a template has mapped there, as far as it makes sense.
    fn byte(at: VirtAddr) -> u64 {
        (at.0.saturating_sub(START.0) + 2 * PAGE_SIZE).min(OBJECT_BYTES + 3 * PAGE_SIZE)
    }
    for (name, which) in [("file", FILE), ("shared memory", MEMORY)] {
        to.add(format!("the {name} ends where it starts"), move |on, span| {
            on.resize(which, byte(span.at));
            Ok(())
        });
    }
    to.add("the file ends where it ends, and grows again", |on, span| {
        on.resize(FILE, byte(VirtAddr(span.at.0.saturating_add(span.length))));
        on.load(span)?;
        on.resize(FILE, OBJECT_BYTES);
        Ok(())
    });
}
