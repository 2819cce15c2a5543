//! Processes: everything that the threads of one program have in common.
//!
//! Flow:  born by fork or at the start -> runs programs -> ends (all threads, then files and memory) -> zombie ->
//!        waited for.
//! Locks: each field says its own; they are spin locks for a few instructions, but for what `rumpvm` locks.
//! Owns:  its threads' records, until each ends; its memory through the component's process.

use alloc::vec::Vec;

use rumpvm::sync::{Atomic, Ordering, Spin, try_push};
use rumpvm::{Hold, NoMemory};
use rumpvm_bare::Bare;
use rumpvm_files::executing::Executing;
use rumpvm_files::{Credentials, Entry, Queue, Table};

use super::class;
use super::ids::{Capable, Ids};
use super::limits::Limits;
use super::signal::{Actions, Pending, Set, Signal};
use super::task::Task;
use super::usage::{Usage, Used};

/// A process.
pub(crate) struct Process {
    /// Number, parent, space.
    pub(crate) memory: Hold<rumpvm::Process<Bare>, Bare>,
    tasks: Spin<Vec<Hold<Task, Bare>>, Bare>,
    pub(crate) actions: Spin<Actions, Bare>,
    pub(crate) pending: Spin<Pending, Bare>,
    pub(crate) files: Spin<Option<Hold<Table<Bare>, Bare>>, Bare>,
    pub(crate) place: Spin<Option<Place>, Bare>,
    pub(crate) ids: Spin<Ids, Bare>,
    pub(crate) limits: Spin<Limits, Bare>,
    pub(crate) image: Spin<Image, Bare>,
    pub(crate) usage: Usage,
    /// [`ENDING`] and a wait status, once it is to end.
    ending: Atomic<u64, Bare>,
    /// The signal that stopped it, or 0. Changed with its report and `resumptions`, under the lock of `pending`.
    pub(crate) stopped: Atomic<u32, Bare>,
    /// A [`report`] for the parent.
    pub(crate) report: Atomic<u32, Bare>,
    /// How often it was told to go on.
    pub(crate) resumptions: Atomic<u32, Bare>,
    /// Who waits until it goes on.
    pub(crate) resumed: Queue<Bare>,
    /// Process group and session.
    pub(crate) group: Atomic<u32, Bare>,
    pub(crate) session: Atomic<u32, Bare>,
    /// The parent that looked after its group and is just ending, or 0.
    pub(crate) guarded_by: Atomic<u32, Bare>,
    /// What its parent hears at its end; 0 for nothing.
    pub(crate) exit_signal: u32,
    /// What it hears when its parent ends; 0 for nothing.
    pub(crate) parent_signal: Atomic<u32, Bare>,
    /// It has become another program since its birth.
    pub(crate) has_execed: Atomic<u32, Bare>,
    /// personality(2), and whether /proc shows it (`PR_SET_DUMPABLE`).
    pub(crate) personality: Atomic<u32, Bare>,
    pub(crate) dumpable: Atomic<u32, Bare>,
    /// How willingly it is killed for want of memory, as programs say: from -1000 to 1000. Who asks for what there is not
    /// is killed, so nothing comes of it.
    pub(crate) oom_adjustment: Atomic<u32, Bare>,
    pub(crate) no_new_rights: Atomic<u32, Bare>,
    /// Bits of membarrier(2) that it has registered for.
    pub(crate) barriers: Atomic<u32, Bare>,
}

/// It ends; the status is in the lower half.
const ENDING: u64 = 1 << 32;

/// What a parent has not been told yet, as wait(2) says it.
pub(crate) mod report {
    use crate::linux::signal::Signal;

    pub(crate) const NOTHING: u32 = 0;
    pub(crate) const CONTINUED: u32 = 0xffff;

    /// It has stopped.
    pub(crate) fn stopped_by(signal: Signal) -> u32 {
        signal.number() << 8 | 0x7f
    }
}

/// Where a process stands in the tree.
pub(crate) struct Place {
    pub(crate) root: Hold<Entry<Bare>, Bare>,
    pub(crate) here: Hold<Entry<Bare>, Bare>,
    /// Mode bits that new files do not get.
    pub(crate) mask: u32,
}

impl Clone for Place {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), here: self.here.clone(), mask: self.mask }
    }
}

/// The program that it runs.
#[derive(Clone)]
pub(crate) struct Image {
    /// Its file.
    pub(crate) file: Option<Hold<Executing<Bare>, Bare>>,
    /// Its name, ended by a zero.
    pub(crate) name: [u8; 16],
    /// Where arguments, environment, and the auxiliary vector begin and end.
    pub(crate) arguments: (u64, u64),
    pub(crate) environment: (u64, u64),
    pub(crate) vector: (u64, u64),
    pub(crate) stack: u64,
    /// Code and data.
    pub(crate) code: (u64, u64),
    pub(crate) data: (u64, u64),
}

impl Image {
    pub(crate) const NONE: Self = Self {
        file: None,
        name: [0; 16],
        arguments: (0, 0),
        environment: (0, 0),
        vector: (0, 0),
        stack: 0,
        code: (0, 0),
        data: (0, 0),
    };

    /// The name, without its end.
    pub(crate) fn name(&self) -> &[u8] {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(self.name.len());
        &self.name[..end]
    }

    /// Names it so, as far as there is room.
    pub(crate) fn set_name(&mut self, name: &[u8]) {
        self.name = Self::name_of(name);
    }

    /// As much of a name as there is room for, ended by a zero.
    pub(crate) fn name_of(name: &[u8]) -> [u8; 16] {
        let mut bytes = [0; 16];
        let count = name.len().min(bytes.len() - 1);
        bytes[..count].copy_from_slice(&name[..count]);
        bytes
    }
}

/// What a new process gets of its own.
pub(crate) struct Parts {
    pub(crate) memory: Hold<rumpvm::Process<Bare>, Bare>,
    pub(crate) files: Hold<Table<Bare>, Bare>,
    pub(crate) place: Place,
    pub(crate) ids: Ids,
    pub(crate) exit_signal: u32,
}

impl Process {
    /// A process without threads, in a session and group of its own.
    pub(crate) fn first(parts: Parts) -> Result<Hold<Self, Bare>, NoMemory> {
        let number = parts.memory.pid().0;
        Self::new(parts, Limits::default(), Image::NONE, Actions::new(), [number, number, 0])
    }

    /// A child of `parent`, without threads.
    pub(crate) fn child(parent: &Self, parts: Parts) -> Result<Hold<Self, Bare>, NoMemory> {
        let place = [&parent.group, &parent.session, &parent.personality];
        let numbers = place.map(|number| number.load(Ordering::Relaxed));
        let (limits, image) = (parent.limits.lock().clone(), parent.image.lock().clone());
        let actions = parent.actions.lock().clone();
        let child = Self::new(parts, limits, image, actions, numbers)?;
        let inherited = parent.no_new_rights.load(Ordering::Relaxed);
        child.no_new_rights.store(inherited, Ordering::Relaxed);
        let adjusted = parent.oom_adjustment.load(Ordering::Relaxed);
        child.oom_adjustment.store(adjusted, Ordering::Relaxed);
        Ok(child)
    }

    fn new(
        parts: Parts,
        limits: Limits,
        image: Image,
        actions: Actions,
        [group, session, personality]: [u32; 3],
    ) -> Result<Hold<Self, Bare>, NoMemory> {
        Hold::try_new(Self {
            memory: parts.memory,
            tasks: Spin::new(&class::TASKS, Vec::new()),
            actions: Spin::new(&class::ACTIONS, actions),
            pending: Spin::new(&class::PENDING, Pending::default()),
            files: Spin::new(&class::RECORD, Some(parts.files)),
            place: Spin::new(&class::RECORD, Some(parts.place)),
            ids: Spin::new(&class::RECORD, parts.ids),
            limits: Spin::new(&class::RECORD, limits),
            image: Spin::new(&class::RECORD, image),
            usage: Usage::new(),
            ending: Atomic::new(0),
            stopped: Atomic::new(0),
            report: Atomic::new(report::NOTHING),
            resumptions: Atomic::new(0),
            resumed: Queue::new(),
            group: Atomic::new(group),
            session: Atomic::new(session),
            guarded_by: Atomic::new(0),
            exit_signal: parts.exit_signal,
            parent_signal: Atomic::new(0),
            has_execed: Atomic::new(0),
            personality: Atomic::new(personality),
            dumpable: Atomic::new(1),
            oom_adjustment: Atomic::new(0),
            no_new_rights: Atomic::new(0),
            barriers: Atomic::new(0),
        })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.memory.pid().0
    }

    /// Number of its parent, or 0.
    #[inline]
    pub(crate) fn parent_pid(&self) -> u32 {
        self.memory.parent().map_or(0, |parent| parent.0)
    }

    /// Its real user.
    pub(crate) fn user(&self) -> u32 {
        self.ids.lock().user.real
    }

    /// Whether it has a capability.
    pub(crate) fn can(&self, capability: u32) -> bool {
        self.ids.lock().can(capability)
    }

    /// All of them.
    pub(crate) fn capable(&self) -> Capable {
        self.ids.lock().capable
    }

    /// Who it is, as files see it.
    pub(crate) fn credentials(&self) -> Result<Credentials, NoMemory> {
        self.ids.lock().credentials()
    }

    /// One more thread; [`NoMemory`] also when it is ending, so that nobody is born to the dead.
    pub(crate) fn add_task(&self, task: &Hold<Task, Bare>) -> Result<(), NoMemory> {
        let mut tasks = self.tasks.lock();
        if self.is_ending() {
            return Err(NoMemory);
        }
        try_push::<_, Bare>(&mut tasks, task.clone())
    }

    /// One thread less. What it has run counts on, without a moment at which it counts twice or not at all.
    pub(crate) fn remove_task(&self, task: &Hold<Task, Bare>) {
        let mut tasks = self.tasks.lock();
        let at = tasks.iter().position(|other| other.is(task));
        let removed = at.map(|at| tasks.remove(at));
        if removed.is_some() {
            self.usage.add_time(task.time());
        }
        drop(tasks);
        drop(removed);
    }

    /// What it has used up to now: what has been counted, and what its threads have run that still do.
    pub(crate) fn used(&self) -> Used {
        let tasks = self.tasks.lock();
        let mut used = self.usage.own();
        used.nanoseconds += tasks.iter().map(|task| task.time()).sum::<u64>();
        used
    }

    /// The same with its children that were waited for.
    pub(crate) fn used_with_children(&self) -> Used {
        self.used().with(self.usage.children())
    }

    /// Whether one of its threads runs, or waits for nothing but its turn.
    pub(crate) fn is_ready(&self) -> bool {
        self.tasks.lock().iter().any(|task| task.scheduled.standing.is_ready())
    }

    /// Calls `f` with every thread, which may do no more than a few instructions.
    pub(crate) fn for_each_task(&self, f: impl FnMut(&Hold<Task, Bare>)) {
        self.tasks.lock().iter().for_each(f);
    }

    /// The thread of that number.
    pub(crate) fn task(&self, number: u32) -> Option<Hold<Task, Bare>> {
        self.tasks.lock().iter().find(|task| task.number() == number).cloned()
    }

    /// The first of its threads, while it has any.
    pub(crate) fn first_task(&self) -> Option<Hold<Task, Bare>> {
        self.tasks.lock().first().cloned()
    }

    /// Number of its threads.
    pub(crate) fn task_count(&self) -> usize {
        self.tasks.lock().len()
    }

    /// Signals that all of its threads block.
    pub(crate) fn blocked_by_all(&self) -> Set {
        let tasks = self.tasks.lock();
        tasks.iter().fold(!0, |set, task| set & task.mask.load(Ordering::SeqCst))
    }

    /// Interrupts a thread that hears `signal`, if there is one.
    pub(crate) fn interrupt_one_that_hears(&self, signal: Signal) {
        let tasks = self.tasks.lock();
        if let Some(task) = tasks.iter().find(|task| task.hears(signal)) {
            task.interrupt();
        }
    }

    /// Forgets pending signals, of all threads too.
    pub(crate) fn forget_signals(&self, set: Set) {
        self.pending.lock().forget(set);
        for task in &*self.tasks.lock() {
            task.pending.lock().forget(set);
        }
    }

    /// Has it end with a wait status; the first who says so is heard.
    pub(crate) fn end(&self, status: i32) {
        let ending = ENDING | u64::from(status.cast_unsigned());
        if self.ending.compare_exchange(0, ending, Ordering::SeqCst).is_ok() {
            self.for_each_task(|task| task.interrupt());
            self.resumed.wake();
        }
    }

    /// Whether it is to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst) != 0
    }

    /// With which wait status, if it is.
    pub(crate) fn ending_status(&self) -> Option<i32> {
        let ending = self.ending.load(Ordering::SeqCst);
        (ending != 0).then_some((ending as u32).cast_signed())
    }
}
