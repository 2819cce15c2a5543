//! Every call and every kind of fault, with each of its allocations failing in turn: it fails as a whole,
//! or succeeds as a whole; the machine stays sound, and nothing is lost.
//!
//! Flow:  [`OPERATIONS`] x [`Shortage`] x n -> fresh machine state -> the operation -> [`Picture`] before
//!        or after -> once more without shortage -> everything ends -> every frame is back.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rumpvm::{
    AreaFlags, Backing, CallError, FaultError, Hold, MapFlags, Object, Process, RemapFlags, Space,
    State, SyncFlags, Vm, WaitFor,
};
use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_harness::machine::{Machine, User};
use rumpvm_hosted::{Hosted, MemoryFile};
use rumpvm_platform::Scarce;

/// Enough for every operation, few enough to take them all often.
const FRAMES: u64 = 400;
/// More than any operation allocates.
const MANY: u64 = 300;
const PAGE: u64 = PAGE_SIZE;

/// Anonymous memory: 16 pages, of which the outer 12 are in use, on both sides of a leaf's edge.
const ANON: VirtAddr = VirtAddr(0x4020_0000 - 8 * PAGE);
/// A shared object of four pages.
const SHARED: VirtAddr = VirtAddr(0x4060_0000);
/// Four pages of a file, private; the second is copied already.
const PRIVATE_FILE: VirtAddr = VirtAddr(0x40a0_0000 - 6 * PAGE);
/// The next four pages of the file, shared; the second is dirty.
const SHARED_FILE: VirtAddr = VirtAddr(0x40a0_0000);
/// Two pages of a stack.
const STACK: VirtAddr = VirtAddr(0x4400_0000);
/// The heap, of one page.
const HEAP: VirtAddr = VirtAddr(0x4600_0000);
/// Nothing.
const AWAY: VirtAddr = VirtAddr(0x5000_0000 - 2 * PAGE);

/// What a leaf table serves.
const LEAF: u64 = 512 * PAGE;

const DONTNEED: i32 = 4;
const DONTFORK: i32 = 10;

type Held<T> = Hold<T, Hosted>;

/// Why an operation was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    Call(CallError),
    Fault(FaultError),
    /// The break is where it was.
    Break,
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<FaultError> for Refusal {
    fn from(error: FaultError) -> Self {
        Self::Fault(error)
    }
}

type Outcome = Result<(), Refusal>;

/// What is left when an operation was refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// What was there before.
    Whole,
    /// Its documentation says that part of it may have been done.
    Partly,
}
use Refused::{Partly, Whole};

struct Operation {
    name: &'static str,
    refused: Refused,
    /// Done before, without shortage.
    prepare: fn(&Stage<'_>) -> Outcome,
    act: fn(&Stage<'_>) -> Outcome,
}

/// How memory is short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shortage {
    /// One allocation fails, and the next one succeeds again: who tries again gets through.
    Once(Scarce),
    /// There are only so many frames.
    FewFrames,
}

/// One process, or a parent and its child, with every kind of mapping.
struct Stage<'v> {
    vm: &'v Vm<Hosted>,
    process: Held<Process<Hosted>>,
    space: Held<Space<Hosted>>,
    /// Objects that an operation opened; closed in the end.
    opened: std::cell::RefCell<Vec<Held<Object<Hosted>>>>,
}

/// What programs can see of one area.
type AreaSeen = (VirtRange, Prot, Prot, AreaFlags, u64, Option<(u64, u64)>);

/// What programs can see of one process.
#[derive(PartialEq, Eq)]
struct ProcessSeen {
    has_parent: bool,
    state: State,
    areas: Vec<AreaSeen>,
    pages: Vec<(VirtAddr, Result<Vec<u8>, FaultError>)>,
    bytes: (u64, u64),
    heap: VirtAddr,
}

/// What all programs of the machine can see, and how many objects and spaces there are.
#[derive(PartialEq, Eq)]
struct Picture {
    processes: Vec<ProcessSeen>,
    objects: Vec<(u64, u64)>,
    spaces: u64,
}

impl Picture {
    fn take(vm: &Vm<Hosted>) -> Self {
        let (mut held, mut objects, mut spaces) = (vec![], vec![], 0);
        vm.for_each_process(|process| held.push(process.clone()));
        vm.objects.for_each(|object| objects.push((object.size(), object.users())));
        vm.for_each_space(|_| spaces += 1);
        let processes = held.iter().map(|process| ProcessSeen::take(vm, process)).collect();
        Self { processes, objects, spaces }
    }

    /// The first difference, in words.
    fn difference(&self, other: &Self) -> Option<String> {
        if self.processes.len() != other.processes.len() || self.spaces != other.spaces {
            return Some("numbers of processes or spaces".to_string());
        }
        if self.objects != other.objects {
            return Some(format!("objects {:?}, {:?}", self.objects, other.objects));
        }
        let both = self.processes.iter().zip(&other.processes).enumerate();
        both.filter(|(_, (one, two))| one != two).map(|(at, (one, two))| one.tell(two, at)).next()
    }
}

impl ProcessSeen {
    fn take(vm: &Vm<Hosted>, process: &Held<Process<Hosted>>) -> Self {
        let (has_parent, state) = (process.parent().is_some(), process.state());
        let (mut areas, mut pages) = (vec![], vec![]);
        let (mut bytes, mut heap) = ((0, 0), VirtAddr(0));
        if let Some(space) = process.space() {
            let _: ControlFlow<()> = space.areas(vm, |area| {
                let object = area.object.as_ref().map(|object| (object.size(), object.users()));
                areas.push((area.range, area.prot, area.max_prot, area.flags, area.offset, object));
                ControlFlow::Continue(())
            });
            for (range, ..) in &areas {
                pages.extend((0..range.pages()).map(|page| {
                    let at = range.start + page * PAGE;
                    let mut bytes = vec![0; PAGE as usize];
                    (at, space.copy_in(vm, at, &mut bytes).map(|()| bytes))
                }));
            }
            bytes = (space.mapped_bytes(), space.locked_bytes());
            // An end that nothing can be moved to: the call only tells.
            heap = space.brk(vm, VirtAddr(0));
        }
        Self { has_parent, state, areas, pages, bytes, heap }
    }

    fn tell(&self, other: &Self, at: usize) -> String {
        let differ = |one: &VirtAddr, two: &VirtAddr| format!("page {one} or {two}");
        let page = self.pages.iter().zip(&other.pages).find(|(one, two)| one != two);
        let page = page.map(|((one, _), (two, _))| differ(one, two));
        format!(
            "process {at}, {page:?}: {:?} {:?} {:?} {:?}; {:?} {:?} {:?} {:?}",
            self.state,
            self.bytes,
            self.heap,
            self.areas,
            other.state,
            other.bytes,
            other.heap,
            other.areas
        )
    }
}

impl<'v> Stage<'v> {
    fn new(vm: &'v Vm<Hosted>) -> Self {
        let process = vm.first_process().expect("memory for a process");
        let space = process.space().expect("a space, as it runs");
        let stage = Self { vm, process, space, opened: std::cell::RefCell::default() };
        stage.fill().expect("memory for the mappings");
        stage
    }

    fn fill(&self) -> Outcome {
        let space = &self.space;
        self.map(ANON, 16, MapFlags::PRIVATE)?;
        self.map(SHARED, 4, MapFlags::SHARED)?;
        self.map(STACK, 2, MapFlags::PRIVATE | MapFlags::GROWSDOWN)?;
        space.set_brk_base(HEAP);
        assert_eq!(space.brk(self.vm, HEAP + PAGE), HEAP + PAGE);
        let contents: Vec<u8> = (0..8 * PAGE).map(|byte| (byte / PAGE) as u8 + 0x80).collect();
        let file = self.vm.open_file(MemoryFile::new(contents))?;
        self.map_file(PRIVATE_FILE, MapFlags::PRIVATE, &file, 0)?;
        self.map_file(SHARED_FILE, MapFlags::SHARED, &file, 4 * PAGE)?;
        self.vm.close(&file)?;
        for page in (0..6).chain(10..16) {
            self.store(ANON + page * PAGE)?;
        }
        for at in [SHARED, PRIVATE_FILE, SHARED_FILE].map(|at| at + PAGE) {
            self.store(at)?;
        }
        self.store(STACK)?;
        self.store(HEAP)
    }

    fn map(&self, at: VirtAddr, pages: u64, flags: MapFlags) -> Outcome {
        let flags = flags | MapFlags::ANONYMOUS | MapFlags::FIXED;
        self.space.mmap(self.vm, at, pages * PAGE, Prot::RW, flags, Backing::Anonymous, 0)?;
        Ok(())
    }

    fn map_file(
        &self,
        at: VirtAddr,
        flags: MapFlags,
        file: &Held<Object<Hosted>>,
        offset: u64,
    ) -> Outcome {
        let flags = flags | MapFlags::FIXED;
        let backing = Backing::Object(file);
        self.space.mmap(self.vm, at, 4 * PAGE, Prot::RW, flags, backing, offset)?;
        Ok(())
    }

    /// Maps the shared object nine times more, each time below another leaf table.
    fn map_object_often(&self) -> Outcome {
        (0..9).try_for_each(|number| {
            self.remap(SHARED, (0, 1), MOVE_TO, AWAY + (2 * number + 1) * LEAF)
        })
    }

    fn object_at(&self, at: VirtAddr) -> Held<Object<Hosted>> {
        let mut found = None;
        let _: ControlFlow<()> = self.space.areas(self.vm, |area| {
            if area.range.contains(at) {
                found = area.object.clone();
            }
            ControlFlow::Continue(())
        });
        found.expect("a mapping of an object")
    }

    /// Stores a word that tells the address.
    fn store(&self, at: VirtAddr) -> Outcome {
        Ok(self.space.copy_out(self.vm, at + 8, &at.0.to_le_bytes())?)
    }

    fn load(&self, at: VirtAddr) -> Outcome {
        Ok(self.vm.fault(&self.space, at, Access::Read)?)
    }

    fn unmap(&self, at: VirtAddr, pages: u64) -> Outcome {
        Ok(self.space.munmap(self.vm, at, pages * PAGE)?)
    }

    fn protect(&self, at: VirtAddr, pages: u64, prot: Prot) -> Outcome {
        Ok(self.space.mprotect(self.vm, at, pages * PAGE, prot)?)
    }

    fn advise(&self, at: VirtAddr, pages: u64, advice: i32) -> Outcome {
        Ok(self.space.madvise(self.vm, at, pages * PAGE, advice)?)
    }

    fn remap(&self, at: VirtAddr, pages: (u64, u64), flags: RemapFlags, to: VirtAddr) -> Outcome {
        self.space.mremap(self.vm, at, pages.0 * PAGE, pages.1 * PAGE, flags, to)?;
        Ok(())
    }

    fn keep(&self, object: Result<Held<Object<Hosted>>, CallError>) -> Outcome {
        self.opened.borrow_mut().push(object?);
        Ok(())
    }

    /// Runs the process's pages through the TLB of this CPU, so that missing flushes show.
    fn warm(&self) {
        self.vm.activate(&self.space);
        let _ = Picture::take(self.vm);
        let _: ControlFlow<()> = self.space.areas(self.vm, |area| {
            for page in 0..area.range.pages() {
                let mut byte = [0];
                let _ = self.vm.platform().load(area.range.start + page * PAGE, &mut byte);
            }
            ControlFlow::Continue(())
        });
    }
}

/// Every process ends, those too that an operation made.
impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut all = vec![];
        self.vm.for_each_process(|process| all.push(process.clone()));
        for process in all {
            if process.state() == State::Running {
                process.exit(self.vm, 0);
            }
        }
        for object in self.opened.take() {
            self.vm.close(&object).expect("a file that can be written");
        }
        self.vm.deactivate();
    }
}

const MAYMOVE: RemapFlags = RemapFlags::MAYMOVE;
const MOVE_TO: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::FIXED);
const MOVE_LEAVING: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::DONTUNMAP);

fn nothing(_: &Stage<'_>) -> Outcome {
    Ok(())
}

/// Marks three areas that a child does not get.
fn leave_out(stage: &Stage<'_>) -> Outcome {
    stage.advise(ANON + 2 * PAGE, 3, DONTFORK)?;
    stage.advise(ANON + 12 * PAGE, 2, DONTFORK)?;
    stage.advise(PRIVATE_FILE + PAGE, 1, DONTFORK)
}

/// A hundred areas of a page each, with different rights, of which some are in use.
fn scatter(stage: &Stage<'_>) -> Outcome {
    stage.map(AWAY, 100, MapFlags::PRIVATE)?;
    (30..40).try_for_each(|page| stage.store(AWAY + page * PAGE))?;
    (0..50).try_for_each(|pair| stage.protect(AWAY + 2 * pair * PAGE, 1, Prot::READ))
}

/// Makes four of every record that the machine keeps a list of: that is the room a list begins with.
fn fill_lists(stage: &Stage<'_>) -> Outcome {
    for _ in 0..3 {
        stage.vm.first_process()?;
    }
    for _ in 0..2 {
        stage.keep(stage.vm.shared_memory(PAGE))?;
    }
    Ok(())
}

const fn op(name: &'static str, refused: Refused, act: fn(&Stage<'_>) -> Outcome) -> Operation {
    Operation { name, refused, prepare: nothing, act }
}

const OPERATIONS: &[Operation] = &[
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
    op("open a file", Whole, |on| on.keep(on.vm.open_file(MemoryFile::zeroed(9)))),
    op("shared memory", Whole, |on| on.keep(on.vm.shared_memory(3 * PAGE))),
    op("msync", Whole, |on| Ok(on.space.msync(on.vm, SHARED_FILE, 4 * PAGE, SyncFlags::SYNC)?)),
];

/// Frames in use that are not the component's own for good.
fn used(vm: &Vm<Hosted>) -> u64 {
    vm.mmu.squeeze();
    let now = vm.statistics();
    // One frame is the page of zeros.
    now.frames_total - now.frames_free - now.frames_records - 1
}

/// Everything sound, on this CPU too.
fn check(vm: &Vm<Hosted>, what: &str) {
    vm.check().unwrap_or_else(|broken| panic!("{what}: {broken}"));
    vm.platform().verify_tlbs().unwrap_or_else(|story| panic!("{what}: {story}"));
}

/// Nothing is left of any process.
fn check_empty(vm: &Vm<Hosted>, what: &str) {
    check(vm, what);
    let empty = Picture::take(vm);
    let left = (empty.processes.len(), empty.objects.len(), empty.spaces, used(vm));
    assert_eq!(left, (0, 0, 0, 0), "{what}: processes, objects, spaces, frames are left");
}

/// Does `act` with the `nth` shortage; says too whether more would have been enough for sure.
fn with_shortage(
    vm: &Vm<Hosted>,
    shortage: Shortage,
    nth: u64,
    act: impl FnOnce() -> Outcome,
) -> (Outcome, bool) {
    match shortage {
        Shortage::Once(what) => {
            vm.platform().fail_nth(what, nth + 1);
            let outcome = act();
            let unused = vm.platform().is_failure_pending(what);
            vm.platform().fail_nth(what, 0);
            (outcome, unused)
        }
        Shortage::FewFrames => {
            let phys = &vm.mmu.phys;
            vm.mmu.squeeze();
            let mut taken = Vec::with_capacity(FRAMES as usize);
            while let Ok(fresh) = phys.alloc() {
                taken.push(fresh);
            }
            let left = taken.len().saturating_sub(nth as usize);
            taken.drain(left..).for_each(|fresh| phys.free(fresh));
            let outcome = act();
            taken.into_iter().for_each(|fresh| phys.free(fresh));
            (outcome, outcome.is_ok())
        }
    }
}

/// Whether it says that memory was short, and nothing else.
fn tells_of_memory(outcome: Outcome) -> bool {
    match outcome {
        Ok(()) => false,
        Err(Refusal::Call(error)) => matches!(error, CallError::NoMemory | CallError::Again),
        // A stack that cannot grow is the program's fault, whatever the reason, as on Linux.
        Err(Refusal::Fault(FaultError::Unmapped { at })) => at < STACK && at >= STACK - 3 * PAGE,
        Err(Refusal::Fault(error)) => matches!(error, FaultError::NoMemory { .. }),
        Err(Refusal::Break) => true,
    }
}

/// How the stage is set.
#[derive(Clone, Copy, Debug)]
struct Setting {
    /// There is a child that shares everything.
    forked: bool,
    /// Everything was read once, and this CPU knows it.
    warm: bool,
}

fn prepared<'v>(vm: &'v Vm<Hosted>, operation: &Operation, setting: Setting) -> Stage<'v> {
    let stage = Stage::new(vm);
    if setting.forked {
        stage.process.fork(vm).expect("memory for a child");
    }
    (operation.prepare)(&stage).expect("memory to prepare");
    if setting.warm {
        stage.warm();
    }
    stage
}

/// What there is before `operation`, and after it where nothing is short.
fn pictures(vm: &Vm<Hosted>, operation: &Operation, setting: Setting) -> (Picture, Picture) {
    let stage = prepared(vm, operation, setting);
    let before = Picture::take(vm);
    drop(stage);
    let stage = prepared(vm, operation, setting);
    (operation.act)(&stage).expect("success where nothing is short");
    let after = Picture::take(vm);
    drop(stage);
    (before, after)
}

/// How an attempt went.
struct Attempt {
    refused: bool,
    /// Nothing was short, after all.
    enough: bool,
}

/// Does `operation` with the `nth` shortage, and once more if it was refused.
fn attempt(
    vm: &Vm<Hosted>,
    operation: &Operation,
    setting: Setting,
    (shortage, nth): (Shortage, u64),
    (before, after): &(Picture, Picture),
) -> Attempt {
    let what = format!("{}, {shortage:?} {nth}, {setting:?}", operation.name);
    let stage = prepared(vm, operation, setting);
    let (outcome, enough) = with_shortage(vm, shortage, nth, || (operation.act)(&stage));
    check(vm, &what);
    let refused = outcome.is_err();
    if refused {
        assert!(tells_of_memory(outcome) && !enough, "{what}: {outcome:?}");
        if operation.refused == Whole
            && let Some(story) = Picture::take(vm).difference(before)
        {
            panic!("{what}: it was refused, yet it changed {story}");
        }
        (operation.act)(&stage).unwrap_or_else(|error| panic!("{what}, once more: {error:?}"));
    }
    if let Some(story) = Picture::take(vm).difference(after) {
        panic!("{what}: it was done ({outcome:?}), but not as without shortage: {story}");
    }
    drop(stage);
    check_empty(vm, &what);
    Attempt { refused, enough }
}

/// Tries `operation` with every n of one shortage; returns how many attempts were refused.
fn try_all(vm: &Vm<Hosted>, operation: &Operation, setting: Setting, shortage: Shortage) -> u64 {
    let pictures = pictures(vm, operation, setting);
    let mut refused = 0;
    for nth in 0..MANY {
        let attempt = attempt(vm, operation, setting, (shortage, nth), &pictures);
        refused += u64::from(attempt.refused);
        if attempt.enough {
            return refused;
        }
    }
    panic!("{}: {MANY} times {shortage:?}, and never enough", operation.name);
}

/// Every operation with one shortage, in every setting.
fn try_operations(shortage: Shortage) {
    let machine = Machine::with_frames(FRAMES);
    let refused = machine.on_cpu(move |vm| {
        let mut refused = 0;
        for operation in OPERATIONS {
            for (forked, warm) in [(false, false), (false, true), (true, false), (true, true)] {
                refused += try_all(vm, operation, Setting { forked, warm }, shortage);
            }
        }
        refused
    });
    machine.check();
    assert!(refused > OPERATIONS.len() as u64, "only {refused} attempts met a shortage");
}

#[test]
fn every_operation_survives_the_failure_of_each_of_its_frames() {
    try_operations(Shortage::Once(Scarce::Frame));
}

#[test]
fn every_operation_survives_the_failure_of_each_of_its_records() {
    try_operations(Shortage::Once(Scarce::Heap));
}

#[test]
fn every_operation_survives_any_number_of_frames_that_are_left() {
    try_operations(Shortage::FewFrames);
}

/// Operations that make one more of a record when every list of the machine is full.
const ONE_MORE: &[Operation] = &[
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

/// A list that has grown stays large, so each attempt has a machine of its own.
#[test]
fn every_list_of_the_machine_survives_that_it_cannot_grow() {
    let setting = Setting { forked: false, warm: true };
    for operation in ONE_MORE {
        let machine = Machine::with_frames(FRAMES);
        let pictures = Arc::new(machine.on_cpu(move |vm| pictures(vm, operation, setting)));
        let mut refused = 0;
        for nth in 0..MANY {
            let (machine, pictures) = (Machine::with_frames(FRAMES), Arc::clone(&pictures));
            let shortage = (Shortage::Once(Scarce::Heap), nth);
            let attempt =
                machine.on_cpu(move |vm| attempt(vm, operation, setting, shortage, &pictures));
            refused += u64::from(attempt.refused);
            if attempt.enough {
                break;
            }
        }
        assert!(refused > 0, "{}: it needed nothing", operation.name);
    }
}

/// Stores to a page after the other until that is refused; how many there were.
fn use_all(user: &User) -> u64 {
    const PAGES: u64 = 2 * FRAMES;
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::NORESERVE;
    let at = user.mmap(VirtAddr(0), PAGES * PAGE, Prot::RW, flags, Backing::Anonymous, 0).unwrap();
    let refused = (0..PAGES).find(|page| user.store_u64(at + page * PAGE, *page).is_err());
    let stored = refused.expect("memory is smaller than the program");
    let at_end = at + stored * PAGE;
    assert_eq!(user.store_u8(at_end, 1), Err(FaultError::NoMemory { at: at_end }));
    assert!((0..stored).all(|page| user.load_u64(at + page * PAGE) == Ok(page)));
    stored
}

#[test]
fn a_program_larger_than_memory_is_told_and_its_end_gives_everything_back() {
    let machine = Machine::with_frames(FRAMES);
    let stored = machine.run(|user| {
        let own = user.map_anonymous(4 * PAGE).unwrap();
        (0..4).for_each(|page| user.store_u64(own + page * PAGE, page + 1).unwrap());
        let mut first = None;
        for _ in 0..3 {
            let child = move |user: &User| i32::try_from(use_all(user)).unwrap();
            let pid = user.fork(child).unwrap();
            let (_, stored) = user.wait(WaitFor::Pid(pid)).unwrap();
            assert!((0..4).all(|page| user.load_u64(own + page * PAGE) == Ok(page + 1)));
            // Each child gets as far as the first one: nothing was lost.
            assert_eq!(*first.get_or_insert(stored), stored);
            user.store_u64(own, 1).unwrap();
        }
        first
    });
    assert!(stored.is_some_and(|stored| stored as u64 > FRAMES * 9 / 10), "{stored:?}");
    machine.check();
    machine.on_cpu(|vm| check_empty(vm, "in the end"));
}

#[test]
fn others_go_on_while_a_program_has_all_the_memory() {
    const FULL: u32 = 1;
    const DONE: u32 = 2;
    let machine = Machine::with_frames(FRAMES);
    machine.run(|user| {
        let own = user.map_anonymous(4 * PAGE).unwrap();
        (0..4).for_each(|page| user.store_u64(own + page * PAGE, page).unwrap());
        let state = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&state);
        let greedy = move |user: &User| {
            use_all(user);
            seen.store(FULL, Ordering::SeqCst);
            while seen.load(Ordering::SeqCst) != DONE {
                user.yield_now();
            }
            0
        };
        user.fork(greedy).unwrap();
        (0..4).for_each(|page| user.store_u64(own + page * PAGE, page + 1).unwrap());
        while state.load(Ordering::SeqCst) != FULL {
            user.yield_now();
        }
        for round in 0..20 {
            assert_eq!(user.fork(|_| 0), Err(CallError::NoMemory));
            assert_eq!(user.exec(), Err(CallError::NoMemory));
            for page in 0..4 {
                let at = own + page * PAGE;
                assert_eq!(user.load_u64(at), Ok(page + 1 + round));
                user.store_u64(at, page + 2 + round).unwrap();
            }
            user.yield_now();
        }
        state.store(DONE, Ordering::SeqCst);
        assert_eq!(user.wait(WaitFor::Any).map(|(_, status)| status), Ok(0));
        user.fork(|_| 5).unwrap();
        assert_eq!(user.wait(WaitFor::Any).map(|(_, status)| status), Ok(5));
    });
    machine.check();
    machine.on_cpu(|vm| check_empty(vm, "in the end"));
}
