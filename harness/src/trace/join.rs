//! Lines to events: gives each line its task, and joins the two halves of an interrupted call.
//!
//! Flow:  lines -> [`Owners`] -> open calls by task -> events, records, broken lines.
//!
//! J1. A task has at most one open call.
//! J2. An `Entered` or `Returned` event names a record that is there ([`Joiner::finish`] drops others).

use std::collections::{HashMap, HashSet};

use super::Trace;
use super::call::{self, Call};
use super::event::{
    Bits, Broken, CallId, End, Event, LineNumber, Reason, Record, Returned, Task, What,
};
use super::line::{self, Body};
use super::owner::Owners;
use super::source::Line;
use super::{args, returned};

/// A call that has been entered and has not returned.
struct Open {
    id: CallId,
    name: String,
    text: String,
    line: LineNumber,
}

struct Joiner {
    owners: Owners,
    open: HashMap<Task, Open>, // J1
    records: Vec<Option<Record>>,
    events: Vec<Event>,
    broken: Vec<Broken>,
}

/// Turns the lines of a recording into what happened.
pub(super) fn join(lines: &[Line<'_>]) -> Trace {
    let mut joiner = Joiner {
        owners: Owners::new(children(lines)),
        open: HashMap::new(),
        records: Vec::new(),
        events: Vec::new(),
        broken: Vec::new(),
    };
    for line in lines {
        let at = LineNumber(line.number);
        if let Err(reason) = joiner.line(at, line::read(&line.text)) {
            joiner.broken.push(Broken { line: at, reason });
        }
        // The line was begun before strace attached to anyone in the middle of it.
        for pid in &line.attached {
            joiner.owners.attached(*pid);
        }
    }
    joiner.finish(lines.last().map_or(0, |line| line.last))
}

/// The numbers that calls of the family of fork return anywhere in the recording.
fn children(lines: &[Line<'_>]) -> HashSet<u32> {
    let makes_tasks = |text: &str| text.contains("clone") || text.contains("fork");
    let result = |text: &str| text.rsplit_once("= ")?.1.parse().ok();
    lines
        .iter()
        .filter(|line| makes_tasks(&line.text))
        .filter_map(|line| result(&line.text))
        .collect()
}

impl Joiner {
    fn line(&mut self, at: LineNumber, line: line::Line<'_>) -> Result<(), Reason> {
        match line.body {
            Body::Idle => {}
            Body::Foreign => return Err(Reason::Foreign),
            Body::Attached { pid } => self.owners.attached(pid),
            Body::Detached { pid } => {
                let task = self.owners.named(pid);
                self.ended(at, task, End::Detached);
            }
            Body::Mode { pid, bits } => {
                let task = self.owners.named(pid);
                self.push(at, task, What::Mode(bits));
            }
            Body::Whole { name, text } => {
                let task = self.owner(line.pid)?;
                self.whole(at, task, name, text)?;
            }
            Body::Begun { name, text } => {
                let task = self.owner(line.pid)?;
                self.begun(at, task, name, text);
            }
            Body::Resumed { name, text } => {
                let task = self.owner(line.pid)?;
                self.resumed(at, task, name, text)?;
            }
            Body::Exited { status } => {
                let task = self.owner(line.pid)?;
                self.ended(at, task, End::Exited(status));
            }
            Body::Killed { signal } => {
                let task = self.owner(line.pid)?;
                self.ended(at, task, End::Killed(signal.to_owned()));
            }
            Body::Superseded { by } => {
                let task = self.owner(line.pid)?;
                self.superseded(at, task, by);
            }
        }
        Ok(())
    }

    fn owner(&mut self, pid: Option<u32>) -> Result<Task, Reason> {
        match pid {
            Some(pid) => Ok(self.owners.named(pid)),
            None => self.owners.unnamed().ok_or(Reason::NoOwner),
        }
    }

    fn push(&mut self, line: LineNumber, task: Task, what: What) {
        self.events.push(Event { line, task, what });
    }

    fn whole(&mut self, at: LineNumber, task: Task, name: &str, text: &str) -> Result<(), Reason> {
        self.abandon(task);
        let (call, returned) = read_call(name, text)?;
        self.notice_mode(at, task, name);
        let id = self.reserve();
        self.records[id.0 as usize] = Some(Record { call, returned, line: at });
        self.push(at, task, What::Entered(id));
        self.push(at, task, What::Returned(id));
        Ok(())
    }

    fn begun(&mut self, at: LineNumber, task: Task, name: &str, text: &str) {
        self.abandon(task);
        self.notice_mode(at, task, name);
        let id = self.reserve();
        self.push(at, task, What::Entered(id));
        let open = Open { id, name: name.to_owned(), text: text.to_owned(), line: at };
        self.open.insert(task, open);
    }

    fn resumed(
        &mut self,
        at: LineNumber,
        task: Task,
        name: &str,
        text: &str,
    ) -> Result<(), Reason> {
        let never_begun = || Reason::NeverBegun { name: name.to_owned() };
        let mut open = self.open.remove(&task).ok_or_else(never_begun)?;
        if open.name != name {
            self.open.insert(task, open);
            return Err(never_begun());
        }
        open.text.push_str(text);
        let (call, returned) = read_call(name, &open.text)?;
        self.records[open.id.0 as usize] = Some(Record { call, returned, line: at });
        self.push(at, task, What::Returned(open.id));
        Ok(())
    }

    /// Written to a file, strace does not say that a program is a 32-bit one; but it gives itself away
    /// by a call that others do not have.
    fn notice_mode(&mut self, at: LineNumber, task: Task, name: &str) {
        if matches!(name, "mmap2" | "old_mmap") {
            self.push(at, task, What::Mode(Bits::B32));
        }
    }

    /// The call that `task` left open will not be resumed: another one has begun.
    fn abandon(&mut self, task: Task) {
        if let Some(open) = self.open.remove(&task) {
            let reason = Reason::NeverResumed { name: open.name };
            self.broken.push(Broken { line: open.line, reason });
        }
    }

    fn ended(&mut self, at: LineNumber, task: Task, end: End) {
        self.give_up(task);
        self.owners.ended(task);
        self.push(at, task, What::Ended(end));
    }

    /// The task did not come back from its open call. That is no fault of the recording; what is
    /// known of the call is kept.
    fn give_up(&mut self, task: Task) {
        let Some(open) = self.open.remove(&task) else { return };
        let (args, _) = args::split(&open.text);
        if let Ok(call) = call::read(&open.name, &args) {
            let record = Record { call, returned: Returned::Nothing, line: open.line };
            self.records[open.id.0 as usize] = Some(record);
        }
    }

    /// Thread `by` called exec and takes over the number of `first`, the first thread of its process;
    /// the open call comes along and is resumed under the new number.
    fn superseded(&mut self, at: LineNumber, first: Task, by: u32) {
        let by = self.owners.named(by);
        self.give_up(first);
        if let Some(open) = self.open.remove(&by) {
            self.open.insert(first, open);
        }
        self.owners.ended(by);
        self.push(at, first, What::Superseded { by });
    }

    fn reserve(&mut self) -> CallId {
        self.records.push(None);
        CallId(self.records.len() as u32 - 1)
    }

    fn finish(mut self, lines: u32) -> Trace {
        for task in self.open.keys().copied().collect::<Vec<_>>() {
            self.give_up(task);
        }
        self.broken.sort_by_key(|broken| broken.line);
        let records = self.records;
        let is_kept = |event: &Event| match event.what {
            What::Entered(id) | What::Returned(id) => records[id.0 as usize].is_some(),
            _ => true,
        };
        self.events.retain(is_kept);
        Trace { events: self.events, records, broken: self.broken, lines }
    }
}

fn read_call(name: &str, text: &str) -> Result<(Call, Returned), Reason> {
    let (args, rest) = args::split(text);
    let returned = returned::read(rest.ok_or(Reason::Unclosed)?)?;
    Ok((call::read(name, &args)?, returned))
}
