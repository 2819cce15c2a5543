//! rumpvm as a voice: programs are carried out on a hosted machine with one CPU.
//!
//! Flow:  [`Op`] -> the space's call of that name, or an access through the CPU -> [`Outcome`].
//! Owns:  the machine, which serves one program after the other; a new one after a panic.

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rumpvm::radix::Slot;
use rumpvm::{
    Advised, Area, AreaFlags, Backing, BeyondEnd, CallError, CommitPolicy, FaultError, Hold,
    LockAllFlags, LockFlags, MapFlags, Object, Overcommit, ProtFlags, RemapFlags, Seals, Signal,
    SyncFlags, Vm,
};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr, X86_64};
use rumpvm_hosted::{Hosted, MemoryFile};

use super::answer::{self, Answers, Look, Outcome, PageSeen, Present, Shown};
use super::compare::told;
use super::op::{
    AREAS, BYTES, Call, DONTNEED, FILE, FREE, HEAP, LIMIT_AREAS, LIMIT_MAPPED, MEMORY,
    OBJECT_PAGES, Op, PAGE, RESIDENT, SEEN, SEEN_BASE, SEEN_END, address, file_byte,
};
use super::program::Program;
use super::puppet::Stage;
use super::slots::Slots;
use super::{Failed, Ground, Voice};
use crate::machine::Machine;

type Home = Hosted<X86_64>;

/// Bytes of the machine: more than any program of the window needs, with all its processes.
const MEMORY_BYTES: u64 = 32 << 20;
/// Programs after which every invariant is recounted.
const CHECKED: u64 = 256;

/// rumpvm on a machine of its own.
pub struct Ours {
    machine: Machine,
    ground: Ground,
    /// Programs so far.
    done: u64,
    /// Recount the invariants after each program.
    pub check_each: bool,
}

impl Ours {
    /// A machine whose limits are those of the host.
    pub fn new(ground: &Ground) -> io::Result<Self> {
        Ok(Self { machine: new_machine()?, ground: ground.clone(), done: 0, check_each: false })
    }
}

fn new_machine() -> io::Result<Machine> {
    Machine::builder().memory(MEMORY_BYTES).cpus(1).try_build()
}

impl Voice for Ours {
    fn name(&self) -> &'static str {
        "rumpvm"
    }

    fn start(&mut self, _program: &Program) -> Result<(), Failed> {
        Ok(())
    }

    fn finish(&mut self, program: &Program) -> Result<Answers, Failed> {
        self.done += 1;
        let (whole, ground) = (program.clone(), self.ground.clone());
        let check = self.check_each || self.done.is_multiple_of(CHECKED);
        let machine = self.machine.clone();
        let ran = catch_unwind(AssertUnwindSafe(move || {
            let answers = machine.on_cpu(move |vm| perform(vm, &whole, &ground));
            let broken = if check { machine.try_check().err() } else { None };
            Answers { panic: broken, ..answers }
        }));
        ran.or_else(|panic| {
            // The machine has stopped; what it owns is lost with it.
            self.machine =
                new_machine().map_err(|error| Failed(format!("no new machine: {error}")))?;
            let story = panic.downcast_ref::<String>().cloned();
            let story = story.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
            let outcomes = vec![Outcome::Unreached; program.ops.len()];
            let story = story.unwrap_or_else(|| "a panic without words".into());
            Ok(Answers { outcomes, looks: Vec::new(), panic: Some(story) })
        })
    }
}

/// An object of a program.
type Named = Hold<Object<Home>, Home>;

/// The objects of a program: the file, and memory with a name.
struct Objects {
    objects: [Named; 2],
}

impl Objects {
    fn new(vm: &Vm<Home>) -> Result<Self, CallError> {
        let bytes = (0..OBJECT_PAGES * PAGE).map(file_byte);
        let file = vm.open_file(MemoryFile::new(bytes.collect::<Vec<u8>>()))?;
        let memory = vm.shared_memory(OBJECT_PAGES * PAGE)?;
        Ok(Self { objects: [file, memory] })
    }

    fn get(&self, number: u64) -> Option<&Named> {
        self.objects.get(number as usize)
    }

    fn all(&self) -> [Option<&Named>; 2] {
        self.objects.each_ref().map(Some)
    }
}

fn perform(vm: &Vm<Home>, program: &Program, ground: &Ground) -> Answers {
    let short = "a machine with memory for one program";
    let mut stage = Stage::new(vm).expect(short);
    let objects = Objects::new(vm).expect(short);
    let space = &stage.at(0).space;
    let mut limits = space.limits();
    limits.locked = program.locked.or(ground.most_locked).unwrap_or(u64::MAX);
    limits.lowest = ground.lowest;
    space.set_limits(limits);
    let mode = if ground.overcommit == 1 { Overcommit::Always } else { Overcommit::Heuristic };
    vm.set_commit_policy(CommitPolicy { mode, ..CommitPolicy::default() });
    space.set_brk_base(VirtAddr(HEAP));
    let mut slots = Slots::default();
    let mut answers = Answers::default();
    for op in &program.ops {
        let outcome = match op.call {
            Call::Look => {
                answers.looks.push(look(&stage, op.process, objects.all(), op.arguments[0]));
                Outcome::Done(0)
            }
            Call::Fork => of_call(stage.fork(op.process, op.child())),
            Call::Exit => {
                stage.exit(op.process);
                Outcome::Done(0)
            }
            _ => one(&stage, &objects, &mut slots, op),
        };
        answers.outcomes.push(outcome);
    }
    stage.end();
    slots.end(vm);
    for object in &objects.objects {
        vm.close(object).expect("a file in memory can be written");
    }
    answers
}

fn of_call(result: Result<(), CallError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done(0),
        Err(error) => Outcome::Refused(error.errno()),
    }
}

fn of_value(result: Result<u64, CallError>) -> Outcome {
    match result {
        Ok(value) => Outcome::Done(value),
        Err(error) => Outcome::Refused(error.errno()),
    }
}

fn of_access(result: Result<u64, FaultError>) -> Outcome {
    match result {
        Ok(value) => Outcome::Done(value),
        Err(error) => {
            let (number, code) = signal(error);
            Outcome::Signal { number, code, at: error.at().0 }
        }
    }
}

fn signal(error: FaultError) -> (i32, i32) {
    match error.signal() {
        Signal::Segv { code } => (11, code),
        Signal::Bus => (7, 2),
        Signal::Kill => (9, 0),
    }
}

/// A step that is neither about processes nor a look.
fn one(stage: &Stage<'_>, objects: &Objects, slots: &mut Slots, op: &Op) -> Outcome {
    let (vm, space, who) = (stage.vm(), &stage.at(op.process).space, op.process);
    let [a, b, c, d, e, f] = op.arguments;
    let at = VirtAddr(a);
    match op.call {
        Call::Mmap => {
            let anonymous = d & u64::from(MapFlags::ANONYMOUS.bits()) != 0;
            // Descriptors are the caller's business, who looks at them only if the mapping is of a file.
            let backing = match objects.get(e) {
                _ if anonymous => Backing::Anonymous,
                Some(object) => Backing::Object(object),
                None => return Outcome::Refused(9),
            };
            let flags = MapFlags::from_bits_retain(d as u32);
            let mapped = space.mmap(vm, at, b, prot(c), flags, backing, f);
            placed(mapped, |at| space.munmap(vm, at, b))
        }
        Call::Munmap => of_call(space.munmap(vm, at, b)),
        Call::Mprotect => of_call(space.mprotect(vm, at, b, ProtFlags::from_bits_retain(c))),
        Call::Mremap => {
            let flags = RemapFlags::from_bits_retain(d as u32);
            let moved = space.mremap(vm, at, b, c, flags, VirtAddr(e));
            placed(moved, |at| space.munmap(vm, at, c))
        }
        Call::Madvise => {
            let advised = space.madvise(vm, at, b, c as i32);
            if c as i32 == FREE && advised.is_ok() {
                return of_call(space.madvise(vm, at, b, DONTNEED));
            }
            of_call(advised)
        }
        Call::Msync => of_call(space.msync(vm, at, b, SyncFlags::from_bits_retain(c as u32))),
        Call::Mincore => of_call(space.mincore(vm, at, b, &mut [0; 4096])),
        Call::Mlock => of_call(space.mlock(vm, at, b)),
        Call::Munlock => of_call(space.munlock(vm, at, b)),
        Call::Truncate => match objects.get(a) {
            Some(object) => of_call(vm.resize(object, b)),
            None => Outcome::Refused(9),
        },
        Call::AddSeals => match objects.get(MEMORY) {
            Some(object) => of_call(vm.add_seals(object, Seals::from_bits_retain(a as u32))),
            None => Outcome::Refused(9),
        },
        Call::Limit => {
            let mut limits = space.limits();
            match a {
                LIMIT_MAPPED => limits.address_space = space.mapped_bytes().saturating_add(b),
                LIMIT_AREAS => limits.areas = space.area_count().saturating_add(b),
                _ => limits.data = space.data_bytes().saturating_add(b),
            }
            space.set_limits(limits);
            Outcome::Done(0)
        }
        Call::ProcessMadvise => {
            let ranges = [(at, b), (VirtAddr(c), d)];
            let whose = if f == u64::from(who) { Advised::Own } else { Advised::Others };
            let advised = &stage.at(f as u8).space;
            of_value(advised.process_madvise(vm, &ranges, e as i32, 0, whose))
        }
        Call::Fallocate => match objects.get(MEMORY) {
            Some(object) => of_call(fallocate(vm, object, a, b, c)),
            None => Outcome::Refused(9),
        },
        Call::Brk => Outcome::Done(space.brk(vm, at).0),
        Call::Shmget => of_value(slots.get(vm, a, b, c, d)),
        Call::Shmat => {
            let attached = slots.attach(vm, space, a, VirtAddr(b), c);
            placed(attached, |at| slots.detach(vm, space, at))
        }
        Call::Shmdt => of_call(slots.detach(vm, space, at)),
        Call::Shmctl => of_value(slots.control(vm, space, a, b, c)),
        Call::Load => of_access(stage.load_u64(who, at)),
        Call::Store => of_access(stage.store_u64(who, at, b).map(|()| 0)),
        Call::Fetch => match of_access(stage.load_u64(who, at)) {
            Outcome::Done(_) => of_access(stage.fetch(who, at).map(|()| 0)),
            denied => denied,
        },
        Call::Mlock2 => of_call(space.mlock2(vm, at, b, LockFlags::from_bits_retain(c as u32))),
        Call::Mlockall => of_call(space.mlockall(vm, LockAllFlags::from_bits_retain(a as u32))),
        Call::Munlockall => of_call(space.munlockall(vm)),
        Call::RemapFilePages => {
            let flags = MapFlags::from_bits_retain(e as u32);
            of_call(space.remap_file_pages(vm, at, b, c, d, flags))
        }
        Call::Fork | Call::Exit | Call::Look => Outcome::Unreached,
    }
}

fn prot(raw: u64) -> Prot {
    Prot::from_bits_truncate(raw as u8)
}

/// fallocate(2) for a memory file: the modes that Linux has for it.
pub fn fallocate(
    vm: &Vm<Home>,
    object: &Object<Home>,
    mode: u64,
    offset: u64,
    length: u64,
) -> Result<(), CallError> {
    const SIGNED: u64 = i64::MAX as u64;
    if length == 0 || length > SIGNED || offset > SIGNED {
        return Err(CallError::Invalid);
    }
    match mode {
        0 => vm.allocate(object, offset, length, BeyondEnd::Grow),
        1 => vm.allocate(object, offset, length, BeyondEnd::Keep),
        3 => vm.punch_hole(object, offset, length),
        // A hole that changes the size is no mode at all; what no file in memory can do comes to light later.
        2 => Err(CallError::Unsupported),
        _ if offset + length > SIGNED => Err(CallError::TooLarge),
        _ => Err(CallError::Unsupported),
    }
}

/// Where a mapping is now. If the component chose the place, `take_away` ends it.
fn placed(
    result: Result<VirtAddr, CallError>,
    take_away: impl FnOnce(VirtAddr) -> Result<(), CallError>,
) -> Outcome {
    match result {
        Ok(at) if !(SEEN_BASE..SEEN_END).contains(&at.0) => match take_away(at) {
            Ok(()) => Outcome::Elsewhere,
            Err(error) => Outcome::Refused(error.errno()),
        },
        Ok(at) => Outcome::Done(at.0),
        Err(error) => Outcome::Refused(error.errno()),
    }
}

/// Looks at the parts that are wanted, in the same order as the other side: bytes last, because looking brings
/// pages in.
fn look(stage: &Stage<'_>, who: u8, objects: [Option<&Named>; 2], parts: u64) -> Look {
    let (vm, space) = (stage.vm(), &stage.at(who).space);
    let mut seen: Look = [PageSeen::default(); SEEN];
    if parts & (AREAS | RESIDENT) != 0 {
        let _: ControlFlow<()> = space.areas(vm, |area| {
            for (number, page) in seen.iter_mut().enumerate() {
                let at = VirtAddr(address(number as u64));
                if area.range.contains(at) {
                    let (shown, index) = shown(area, objects, at);
                    (page.area, page.index) = (shown.bits(), index);
                }
            }
            ControlFlow::Continue(())
        });
    }
    if parts & RESIDENT != 0 {
        for (number, page) in seen.iter_mut().enumerate() {
            if page.shown().contains(Shown::MAPPED) {
                page.present = present(stage, who, VirtAddr(address(number as u64))).bits();
            }
        }
    }
    if parts & AREAS == 0 {
        seen.iter_mut().for_each(|page| (page.area, page.index) = (0, 0));
    }
    if parts & BYTES != 0 {
        let mut bytes = [0; PAGE as usize];
        for (number, page) in seen.iter_mut().enumerate() {
            match stage.load(who, VirtAddr(address(number as u64)), &mut bytes) {
                Ok(()) => {
                    let words = bytes.as_chunks::<8>().0;
                    page.hash = answer::hash(words.iter().map(|word| u64::from_le_bytes(*word)));
                }
                Err(error) => {
                    let (number, code) = signal(error);
                    page.fault = PageSeen::fault_of(number, code);
                }
            }
        }
    }
    seen
}

/// A part of what a look of process `who` shows of the page at `at`, in words. `objects` are the file, and memory
/// with a name, if there are such.
pub fn page_told(
    stage: &Stage<'_>,
    who: u8,
    objects: [Option<&Hold<Object<Home>, Home>>; 2],
    part: u64,
    at: u64,
) -> String {
    let areas = if part == RESIDENT { AREAS } else { 0 };
    let seen = look(stage, who, objects, part | areas);
    told(&seen[((at - SEEN_BASE) / PAGE) as usize], part)
}

fn shown(area: &Area<Home>, objects: [Option<&Named>; 2], at: VirtAddr) -> (Shown, u32) {
    let mut shown = Shown::MAPPED;
    for (right, flag) in
        [(Prot::READ, Shown::READ), (Prot::WRITE, Shown::WRITE), (Prot::EXEC, Shown::EXEC)]
    {
        shown.set(flag, area.prot.contains(right));
    }
    for (here, there) in [
        (AreaFlags::SHARED, Shown::SHARED),
        (AreaFlags::GROWSDOWN, Shown::GROWSDOWN),
        (AreaFlags::LOCKED, Shown::LOCKED),
        (AreaFlags::DONTFORK, Shown::DONTFORK),
        (AreaFlags::DONTDUMP, Shown::DONTDUMP),
        (AreaFlags::RANDOM, Shown::RANDOM),
        (AreaFlags::SEQUENTIAL, Shown::SEQUENTIAL),
        (AreaFlags::NORESERVE, Shown::NORESERVE),
        (AreaFlags::HUGEPAGE, Shown::HUGEPAGE),
        (AreaFlags::NOHUGEPAGE, Shown::NOHUGEPAGE),
        (AreaFlags::MERGEABLE, Shown::MERGEABLE),
        (AreaFlags::WIPEONFORK, Shown::WIPEONFORK),
        (AreaFlags::DROPPABLE, Shown::DROPPABLE),
    ] {
        shown.set(there, area.flags.contains(here));
    }
    let Some(object) = &area.object else { return (shown, 0) };
    let is = |number: u64| objects[number as usize].is_some_and(|known| known.is(object));
    shown |= if is(FILE) {
        Shown::FILE
    } else if is(MEMORY) {
        Shown::MEMORY
    } else {
        Shown::NAMELESS
    };
    (shown, ((area.offset + (at - area.range.start)) / PAGE_SIZE) as u32)
}

fn present(stage: &Stage<'_>, who: u8, at: VirtAddr) -> Present {
    let (vm, space) = (stage.vm(), &stage.at(who).space);
    let mut core = [0];
    let answer = space.mincore(vm, at, PAGE_SIZE, &mut core);
    let phys = &vm.mmu.phys;
    let pin = phys.epoch.pin();
    let private = matches!(space.amap().get(phys, &pin, at.page()), Slot::Page(_));
    let mut present = Present::empty();
    present.set(Present::CORE, answer.is_ok() && core[0] & 1 != 0);
    present.set(Present::PRIVATE, private);
    present
}
