//! The replay itself: events in the order of the recording, one after the other.
//!
//! Flow:  event -> task's process -> the call on rumpvm -> judgement -> [`Outcome`].
//! Owns:  the recorded processes and files of one machine.
//!
//! R1. A call takes effect when it returns, but for a clone whose child is seen before, and for a
//!     call whose room another one is given (`overlap`).
//! R2. Every call of the recording is counted once: agreed, disagreed, untold, or not replayed.

use std::collections::BTreeMap;

use rumpvm::{CallError, Vm};
use rumpvm_hosted::Hosted;

use super::births::Strangers;
use super::curve::Curve;
use super::files::Files;
use super::judge::Judged;
use super::memory::{NotOffered, Site};
use super::narrow;
use super::options::Options;
use super::outcome::Outcome;
use super::overlap;
use super::processes::{ProcessId, Processes};
use super::touch::Toucher;
use super::untold::Untold;
use super::waits::Waiter;
use crate::trace::{Bits, Call, CallId, End, Event, Record, Returned, Task, Trace, What};

/// A replay under way.
pub(super) struct Replay<'a> {
    pub(super) vm: &'a Vm<Hosted>,
    pub(super) trace: &'a Trace,
    pub(super) processes: Processes,
    pub(super) strangers: Strangers,
    files: Files,
    toucher: Toucher,
    curve: Curve,
    /// Calls that were entered and have not taken effect. (R1)
    pub(super) under_way: BTreeMap<Task, CallId>,
    pub(super) outcome: Outcome,
}

impl<'a> Replay<'a> {
    /// Nothing replayed yet.
    pub(super) fn new(vm: &'a Vm<Hosted>, trace: &'a Trace, options: &Options) -> Self {
        let mut outcome = Outcome::new(options.touch, trace.lines);
        outcome.list_broken(&trace.broken);
        Self {
            vm,
            trace,
            processes: Processes::default(),
            strangers: Strangers::new(trace),
            files: Files::default(),
            toucher: Toucher::new(options),
            curve: Curve::new(trace.events.len()),
            under_way: BTreeMap::new(),
            outcome,
        }
    }

    /// Replays everything; `progress` is told after each event how many are done.
    pub(super) fn run(mut self, mut progress: impl FnMut(usize)) -> Result<Outcome, CallError> {
        let trace = self.trace;
        for (done, event) in trace.events.iter().enumerate() {
            self.event(event)?;
            self.curve.look(self.vm, &self.outcome);
            progress(done + 1);
        }
        for task in self.under_way.keys().copied().collect::<Vec<_>>() {
            self.give_up(task);
        }
        self.processes.exit_all(self.vm);
        self.outcome.processes = self.processes.count();
        self.outcome.threads = self.processes.threads;
        self.outcome.finish(self.vm, self.curve);
        Ok(self.outcome)
    }

    fn event(&mut self, event: &Event) -> Result<(), CallError> {
        let task = event.task;
        match &event.what {
            What::Entered(id) => {
                self.appear(task)?;
                self.under_way.insert(task, *id);
            }
            What::Returned(id) => self.settle(task, *id)?,
            What::Ended(end) => self.ended(task, end)?,
            What::Superseded { by } => {
                self.processes.superseded(task, *by);
                if let Some(exec) = self.under_way.remove(by) {
                    self.under_way.insert(task, exec);
                }
            }
            What::Mode(bits) => {
                let process = self.appear(task)?;
                if *bits == Bits::B32 {
                    self.confine(process);
                }
            }
        }
        Ok(())
    }

    /// Lets the call `id` of `task` take effect, unless it has, and counts it.
    pub(super) fn settle(&mut self, task: Task, id: CallId) -> Result<(), CallError> {
        if self.under_way.get(&task) != Some(&id) {
            return Ok(());
        }
        self.under_way.remove(&task);
        let process = self.appear(task)?;
        let record = self.trace.record(id);
        self.make_room(process, record)?;
        let judged = self.perform(task, process, record)?;
        self.outcome.count(task, record, judged);
        Ok(())
    }

    /// Lets calls take effect that must have given up the room which `record` was given. (R1)
    fn make_room(&mut self, process: ProcessId, record: &Record) -> Result<(), CallError> {
        let Some(room) = overlap::claims(record) else { return Ok(()) };
        let gives_up = |(task, id): (&Task, &CallId)| {
            let range = overlap::releases(self.trace.record(*id))?;
            let other = self.processes.of(*task)?;
            let is_here = self.processes.share_space(process, other);
            (is_here && range.overlaps(room)).then_some((*task, *id))
        };
        let before: Vec<_> = self.under_way.iter().filter_map(gives_up).collect();
        before.into_iter().try_for_each(|(task, id)| self.settle(task, id))
    }

    fn perform(
        &mut self,
        task: Task,
        process: ProcessId,
        record: &Record,
    ) -> Result<Judged, CallError> {
        let linux = record.returned;
        if let Call::Exit { .. } = record.call {
            return Ok(Judged::Agreed);
        }
        match Untold::of(&record.call, linux) {
            // rumpvm may refuse it as well, and for a better reason. If not, `mmap` takes it back.
            Some(Untold::Limit) if matches!(record.call, Call::Mmap { .. }) => {
                let judged = self.memory(task, process, record);
                let is_refused = judged == Judged::Agreed;
                return Ok(if is_refused { judged } else { Judged::Untold(Untold::Limit) });
            }
            Some(untold) => return Ok(Judged::Untold(untold)),
            None => {}
        }
        match (&record.call, linux) {
            (Call::Clone(flags), Returned::Value(child)) => {
                Ok(self.birth(process, Task(child as u32), *flags))
            }
            (Call::Exec { .. }, _) => self.processes.exec(self.vm, task).map(|()| Judged::Agreed),
            (Call::Wait(wait), _) => {
                let (vm, processes) = (self.vm, &mut self.processes);
                Ok(Waiter { vm, processes, parent: process }.wait(wait, linux))
            }
            (Call::Other { name }, _) => Ok(Judged::NotReplayed { what: name.clone() }),
            _ => Ok(self.memory(task, process, record)),
        }
    }

    fn memory(&mut self, task: Task, process: ProcessId, record: &Record) -> Judged {
        let life = self.processes.life_mut(process);
        let space = life.space();
        let known = life.known.clone();
        let mut site = Site {
            vm: self.vm,
            space: &space,
            known: &mut known.borrow_mut(),
            files: &mut self.files,
            open: &mut life.open,
            inferred: 0,
            usable: None,
        };
        let ours = match site.make(&record.call, record.returned) {
            Ok(ours) => ours,
            Err(NotOffered { what }) => return Judged::NotReplayed { what },
        };
        let (inferred, usable) = (site.inferred, site.usable);
        self.outcome.count_inferred(record.line, inferred);
        let judged = Judged::of(record.returned, ours);
        // After a disagreement it is no news that memory is not as it should be.
        if let (Judged::Agreed, Some((range, prot))) = (&judged, usable) {
            let touched = self.toucher.touch(self.vm, &space, range, prot);
            self.outcome.count_touches(task, record, touched);
        }
        judged
    }

    fn ended(&mut self, task: Task, end: &End) -> Result<(), CallError> {
        self.find(task)?;
        self.give_up(task);
        self.processes.ended(self.vm, task, end);
        Ok(())
    }

    /// Counts the call that `task` did not come back from.
    fn give_up(&mut self, task: Task) {
        let Some(id) = self.under_way.remove(&task) else { return };
        let record = self.trace.record(id);
        let is_exit = matches!(record.call, Call::Exit { .. });
        let judged = if is_exit { Judged::Agreed } else { Judged::Untold(Untold::NoResult) };
        self.outcome.count(task, record, judged);
    }

    /// Keeps everything above 4 GiB from a 32-bit program, as Linux does.
    fn confine(&mut self, process: ProcessId) {
        let life = self.processes.life(process);
        if !life.known.borrow().is_32_bit {
            life.known.borrow_mut().is_32_bit = true;
            narrow::confine(self.vm, &life.space());
        }
    }
}
