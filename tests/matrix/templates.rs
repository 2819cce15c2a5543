//! What a space looks like before an operation: each template makes something between `START` and `END`.
//!
//! They act through the pair, so what they do is compared as well.

use rumpvm::{MapFlags, RemapFlags};
use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr};

use super::alignments::{AWAY, EDGE, END, LEAF, START, Span};
use super::pair::{FILE, MEMORY, Pair, Verdict, What};

pub(crate) struct Template<F: Format> {
    pub(crate) name: &'static str,
    pub(crate) build: fn(&mut Pair<'_, F>) -> Verdict,
}

const ALL: Span = Span::between(START, END);
const NONE: Prot = Prot::empty();
const PRIVATE: MapFlags = MapFlags::PRIVATE.union(MapFlags::FIXED);
const SHARED: MapFlags = MapFlags::SHARED.union(MapFlags::FIXED);
const STACK: MapFlags = PRIVATE.union(MapFlags::GROWSDOWN);
const MOVE: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::FIXED);
/// The page from which objects are mapped, and the one from which their end is in the middle.
const FROM: u64 = 2;
const FROM_NEAR_END: u64 = 12;

/// So many pages from a page of the region on.
const fn part(first: u64, pages: u64) -> Span {
    Span::pages(VirtAddr(START.0 + first * PAGE_SIZE), pages)
}

/// All templates.
pub(crate) fn all<F: Format>() -> Vec<Template<F>> {
    let mut templates: Vec<Template<F>> = vec![];
    let mut add = |name, build| templates.push(Template { name, build });
    add("nothing", |_| Ok(()));
    add("fresh", fresh);
    add("populated", populated);
    add("populated by mmap", |on| on.map(ALL, Prot::RW, PRIVATE | MapFlags::POPULATE, What::Zeros));
    add("loaded, and some stored to", |on| {
        fresh(on)?;
        on.load(ALL)?;
        some(on)
    });
    add("read-only", |on| populated_with(on, Prot::READ));
    add("without rights", |on| populated_with(on, NONE));
    add("a program's text", |on| populated_with(on, Prot::READ | Prot::EXEC));
    add("shared", shared);
    add("shared, and private", |on| {
        on.map(ALL, Prot::RW, PRIVATE, What::Of(MEMORY, FROM))?;
        on.map(Span::pages(AWAY, 16), Prot::RW, SHARED, What::Of(MEMORY, FROM))?;
        on.store(Span::pages(AWAY, 16))?;
        some(on)
    });
    add("shared with a child", |on| {
        shared(on)?;
        on.fork()
    });
    add("copied, in the parent", |on| {
        populated(on)?;
        on.fork()
    });
    add("copied, in the child", |on| {
        populated(on)?;
        child(on)
    });
    add("half copied", |on| {
        populated(on)?;
        on.fork()?;
        on.store(part(0, 6))?;
        on.now = 1;
        on.store(part(3, 9))
    });
    add("copied twice", |on| {
        populated(on)?;
        child(on)?;
        on.store(part(8, 4))?;
        on.fork()
    });
    add("copied, and the parent has ended", |on| {
        populated(on)?;
        on.fork()?;
        on.exit();
        Ok(())
    });
    add("wired", |on| {
        fresh(on)?;
        on.lock(ALL)
    });
    add("wired in the middle", |on| {
        populated(on)?;
        on.lock(part(6, 6))
    });
    add("wired when it was made, shared", |on| {
        on.map(ALL, Prot::RW, SHARED | MapFlags::LOCKED, What::Zeros)
    });
    add("a private file", |on| file(on, PRIVATE, FROM));
    add("a shared file", |on| file(on, SHARED, FROM));
    add("a private file, beyond its end", |on| file(on, PRIVATE, FROM_NEAR_END));
    add("a shared file, beyond its end", |on| file(on, SHARED, FROM_NEAR_END));
    add("a private file, copied", |on| {
        file(on, PRIVATE, FROM)?;
        child(on)
    });
    add("a file that was cut short", |on| {
        file(on, SHARED, FROM)?;
        on.resize(FILE, 9 * PAGE_SIZE + 0x400);
        on.load(part(0, 6))
    });
    add("split by rights", |on| {
        populated(on)?;
        (0..8).try_for_each(|pair| on.protect(part(pair * 2, 1), Prot::READ))
    });
    add("split by advice", |on| {
        populated(on)?;
        (0..5).try_for_each(|third| on.advise(part(third * 3 + 1, 1), 10))
    });
    add("split by advice, in a child that got a part", |on| {
        populated(on)?;
        on.advise(part(4, 8), 10)?;
        child(on)
    });
    add("guarded", |on| {
        populated(on)?;
        [0, 7, 15].into_iter().try_for_each(|page| on.protect(part(page, 1), NONE))
    });
    add("a stack", |on| {
        on.map(ALL, Prot::RW, STACK, What::Zeros)?;
        on.store(ALL)
    });
    add("a stack that has grown", |on| {
        on.map(part(12, 4), Prot::RW, STACK, What::Zeros)?;
        on.store(part(12, 4))?;
        on.store(part(0, 2))
    });
    add("a stack with a neighbour", |on| {
        // Below the guard, so the stack can grow by no more than 6 pages.
        let neighbour = Span::pages(VirtAddr(START.0 - 260 * PAGE_SIZE), 1);
        on.map(neighbour, Prot::READ, PRIVATE, What::Zeros)?;
        on.map(part(3, 13), Prot::RW, STACK, What::Zeros)?;
        on.store(part(3, 13))
    });
    add("a heap", |on| {
        on.begin_heap(VirtAddr(START.0 + 0x123));
        on.brk(VirtAddr(END.0 - 5))?;
        on.store(part(1, 15))
    });
    add("with holes", |on| {
        populated(on)?;
        on.unmap(part(4, 1))?;
        on.unmap(part(9, 2))
    });
    add("pieces of all kinds", pieces);
    add("pieces of all kinds, in a child", |on| {
        pieces(on)?;
        child(on)
    });
    add("moved here", |on| {
        on.map(Span::pages(AWAY, 16), Prot::RW, PRIVATE, What::Zeros)?;
        on.store(Span::pages(AWAY, 12))?;
        on.remap(Span::pages(AWAY, 16), ALL.length, MOVE, START)
    });
    add("left behind", |on| {
        populated(on)?;
        on.remap(ALL, ALL.length, MOVE | RemapFlags::DONTUNMAP, AWAY)
    });
    add("thrown away", |on| {
        populated(on)?;
        on.advise(part(2, 12), 4)
    });
    add("in the middle of much more", much);
    add("in the middle of much more, copied", |on| {
        much(on)?;
        child(on)
    });
    templates
}

fn fresh<F: Format>(on: &mut Pair<'_, F>) -> Verdict {
    on.map(ALL, Prot::RW, PRIVATE, What::Zeros)
}

fn populated<F: Format>(on: &mut Pair<'_, F>) -> Verdict {
    fresh(on)?;
    on.store(ALL)
}

fn populated_with<F: Format>(on: &mut Pair<'_, F>, prot: Prot) -> Verdict {
    populated(on)?;
    on.protect(ALL, prot)
}

fn shared<F: Format>(on: &mut Pair<'_, F>) -> Verdict {
    on.map(ALL, Prot::RW, SHARED, What::Zeros)?;
    on.store(part(0, 12))
}

/// Every third page is stored to.
fn some<F: Format>(on: &mut Pair<'_, F>) -> Verdict {
    (0..5).try_for_each(|third| on.store(part(third * 3 + 1, 1)))
}

fn file<F: Format>(on: &mut Pair<'_, F>, flags: MapFlags, from: u64) -> Verdict {
    on.map(ALL, Prot::RW, flags, What::Of(FILE, from))?;
    on.load(part(0, 7))?;
    [1, 4, 7].into_iter().try_for_each(|page| on.store(part(page, 1)))
}

/// Who acts from now on is a child.
fn child<F: Format>(on: &mut Pair<'_, F>) -> Verdict {
    on.fork()?;
    on.now = on.processes.len() - 1;
    Ok(())
}

fn pieces<F: Format>(on: &mut Pair<'_, F>) -> Verdict {
    on.map(part(0, 3), Prot::RW, PRIVATE, What::Zeros)?;
    on.map(part(3, 3), Prot::RW, PRIVATE, What::Of(FILE, FROM))?;
    on.map(part(6, 3), Prot::RW, SHARED, What::Zeros)?;
    on.map(part(9, 3), Prot::RW, SHARED, What::Of(MEMORY, FROM))?;
    on.map(part(12, 2), Prot::RW, SHARED, What::Of(FILE, FROM))?;
    on.map(part(14, 2), NONE, PRIVATE, What::Zeros)?;
    on.store(part(0, 5))?;
    on.store(part(7, 6))
}

/// Two leaf tables' worth, of which the ends and what lies around the edge are in use.
fn much<F: Format>(on: &mut Pair<'_, F>) -> Verdict {
    let all = Span::between(VirtAddr(EDGE.0 - LEAF - PAGE_SIZE), EDGE + (LEAF + PAGE_SIZE));
    on.map(all, Prot::RW, PRIVATE, What::Zeros)?;
    on.store(Span::pages(all.at, 3))?;
    on.store(Span::pages(EDGE + (LEAF - 2 * PAGE_SIZE), 3))?;
    on.store(part(2, 12))
}
