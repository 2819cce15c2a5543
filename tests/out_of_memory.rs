//! Every call and every kind of fault, with each of its allocations, reads and writes failing in turn: it fails
//! as a whole, or succeeds as a whole; the machine stays sound, and nothing is lost.
//!
//! Flow:  [`OPERATIONS`] x [`Shortage`] x n -> fresh machine state -> the operation -> [`Picture`] before
//!        or after -> once more without shortage -> everything ends -> every frame is back, and the file
//!        holds what was stored to it.

#[path = "out_of_memory/operations.rs"]
mod operations;
#[path = "out_of_memory/stage.rs"]
mod stage;

use rumpvm::{
    AreaFlags, Backing, CallError, FaultError, Hold, Inheritance, LockAllFlags, MapFlags, Object,
    Process, RemapFlags, Space, State, SyncFlags, Vm, WaitFor,
};
use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_harness::machine::{Machine, User};
use rumpvm_hosted::{Hosted, MemoryFile};
use rumpvm_platform::{FailingFile, IoError, Scarce};
use rumpvm_tests::is_short;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use Refused::{Partly, Whole};
use operations::{ONE_MORE, OPERATIONS};
use stage::{Picture, Stage};

/// A file of the stage, which fails when the machine says so.
type StageFile = FailingFile<Arc<MemoryFile>, Hosted>;

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
/// `MADV_REMOVE`.
const REMOVE: i32 = 9;
/// `MADV_WIPEONFORK`.
const WIPEONFORK: i32 = 18;
/// `MADV_GUARD_INSTALL`.
const GUARD: i32 = 102;
/// `MADV_GUARD_REMOVE`.
const UNGUARD: i32 = 103;

const DONTFORK: i32 = 10;

const WILLNEED: i32 = 3;

const POPULATE_READ: i32 = 22;

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

struct Operation {
    name: &'static str,
    refused: Refused,
    /// Done before, without shortage.
    prepare: fn(&Stage<'_>) -> Outcome,
    act: fn(&Stage<'_>) -> Outcome,
}

/// What is short, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shortage {
    /// One allocation fails, and the next one succeeds again: who tries again gets through.
    Once(Scarce),
    /// One fails, and all that come after it.
    Lasting(Scarce),
    /// There are only so many frames.
    FewFrames,
}

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
        Shortage::Once(what) | Shortage::Lasting(what) => {
            let failures = vm.platform().failures();
            match shortage {
                Shortage::Lasting(_) => failures.fail_from(what, nth + 1),
                _ => failures.fail_nth(what, nth + 1),
            }
            let outcome = act();
            let unused = failures.is_pending(what);
            failures.fail_nth(what, 0);
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

/// Whether it says what was short, and nothing else.
fn tells_of(shortage: Shortage, outcome: Outcome) -> bool {
    const EIO: IoError = IoError(5);
    if let Shortage::Once(Scarce::Io) | Shortage::Lasting(Scarce::Io) = shortage {
        return match outcome {
            Err(Refusal::Call(error)) => error == CallError::Io(EIO),
            Err(Refusal::Fault(FaultError::Pager { error, .. })) => error == EIO,
            _ => false,
        };
    }
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

/// What there is where nothing is short.
struct Pictures {
    before: Picture,
    after: Picture,
    /// What is in the file when everything has ended.
    written: Vec<u8>,
}

/// The pictures of `operation`.
fn pictures(vm: &Vm<Hosted>, operation: &Operation, setting: Setting) -> Pictures {
    let stage = prepared(vm, operation, setting);
    let before = Picture::take(vm);
    drop(stage);
    let stage = prepared(vm, operation, setting);
    (operation.act)(&stage).expect("success where nothing is short");
    let after = Picture::take(vm);
    let written = written_in_the_end(stage);
    Pictures { before, after, written }
}

/// Ends everything, and returns what is in the file then. What could not be written before is by then (12).
fn written_in_the_end(stage: Stage<'_>) -> Vec<u8> {
    let (vm, file) = (stage.vm, Arc::clone(&stage.file));
    drop(stage);
    let kept = vm.open_file(StageFile::new(Arc::clone(&file))).expect("memory to open a file");
    vm.close(&kept).expect("a file that can be written");
    file.contents()
}

/// How an attempt went.
struct Attempt {
    refused: bool,
    /// Nothing was short, or went wrong, after all.
    enough: bool,
}

/// Does `operation` with the `nth` shortage, and once more if it was refused.
fn attempt(
    vm: &Vm<Hosted>,
    operation: &Operation,
    setting: Setting,
    (shortage, nth): (Shortage, u64),
    Pictures { before, after, written }: &Pictures,
) -> Attempt {
    let what = format!("{}, {shortage:?} {nth}, {setting:?}", operation.name);
    let stage = prepared(vm, operation, setting);
    let (outcome, enough) = with_shortage(vm, shortage, nth, || (operation.act)(&stage));
    check(vm, &what);
    let refused = outcome.is_err();
    if refused {
        assert!(tells_of(shortage, outcome) && !enough, "{what}: {outcome:?}");
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
    let is_written = written_in_the_end(stage) == *written;
    assert!(is_written, "{what}: the file ends up different from what was stored to it");
    check_empty(vm, &what);
    Attempt { refused, enough }
}

/// Tries `operation` with every n of one shortage; returns how many attempts met it.
fn try_all(vm: &Vm<Hosted>, operation: &Operation, setting: Setting, shortage: Shortage) -> u64 {
    let pictures = pictures(vm, operation, setting);
    for nth in 0..MANY {
        if attempt(vm, operation, setting, (shortage, nth), &pictures).enough {
            return nth;
        }
    }
    panic!("{}: {MANY} times {shortage:?}, and never enough", operation.name);
}

/// Forked or not, warm or not; where it has to be short, only as it is most difficult.
fn settings() -> impl Iterator<Item = (bool, bool)> {
    let all = [(true, true), (false, false), (true, false), (false, true)];
    all.into_iter().take(if is_short() { 1 } else { all.len() })
}

/// Every operation with one shortage, in every setting.
fn try_operations(shortage: Shortage) {
    let machine = Machine::with_frames(FRAMES);
    let met = machine.on_cpu(move |vm| {
        let mut met = 0;
        for operation in OPERATIONS {
            for (forked, warm) in settings() {
                met += try_all(vm, operation, Setting { forked, warm }, shortage);
            }
        }
        met
    });
    machine.check();
    let enough = if is_short() { 0 } else { OPERATIONS.len() as u64 / 2 };
    assert!(met > enough, "only {met} attempts met a shortage");
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
fn every_operation_survives_the_failure_of_each_of_its_reads_and_writes() {
    try_operations(Shortage::Once(Scarce::Io));
}

#[test]
fn every_operation_survives_that_nothing_works_from_some_moment_on() {
    try_operations(Shortage::Lasting(Scarce::Heap));
    try_operations(Shortage::Lasting(Scarce::Io));
}

#[test]
fn every_operation_survives_any_number_of_frames_that_are_left() {
    try_operations(Shortage::FewFrames);
}

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
