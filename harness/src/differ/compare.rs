//! What differs between two voices: the first step at which they do, and how.

use super::answer::{Answers, Look, Outcome, PageSeen, Present, Shown};
use super::by_design;
use super::op::{AREAS, BYTES, Call, Op, RESIDENT, address};
use super::program::Program;

/// A difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Number of the step.
    pub step: usize,
    /// What the host's Linux said.
    pub linux: String,
    /// What rumpvm said.
    pub ours: String,
    /// What Linux answered.
    pub outcome: Outcome,
    /// Number of the page that it is about, if it is a look's.
    pub page: Option<u64>,
    /// Which part of the look; 0 if it is none's.
    pub part: u64,
}

impl Difference {
    /// Which page it is about, in words, if it is a look's.
    pub fn place(&self) -> String {
        self.page.map_or_else(String::new, |page| format!("page {:#x}: ", address(page)))
    }
}

/// The first difference that is not by design.
pub fn compare(program: &Program, linux: &Answers, ours: &Answers) -> Option<Difference> {
    if let Some(story) = &ours.panic {
        let step = program.ops.len().saturating_sub(1);
        let (linux, ours) = ("goes on".into(), format!("stops: {story}"));
        let outcome = Outcome::Unreached;
        return Some(Difference { step, linux, ours, outcome, page: None, part: 0 });
    }
    let told_by_core = match by_design::named_presence_is_open(&program.ops) {
        true => Shown::NAMELESS,
        false => Shown::NAMELESS | Shown::MEMORY,
    };
    let presence = (!by_design::presence_is_open(&program.ops)).then_some(told_by_core);
    let mut looks = linux.looks.iter().zip(&ours.looks);
    for (step, op) in program.ops.iter().enumerate() {
        let (theirs, mine) = (linux.outcomes[step], ours.outcomes[step]);
        if theirs != mine && !by_design::alike(&program.ops[..=step], theirs, mine) {
            if by_design::ends(&program.ops[..=step], theirs, mine) {
                return None;
            }
            let (linux, ours) = (theirs.to_string(), mine.to_string());
            return Some(Difference { step, linux, ours, outcome: theirs, page: None, part: 0 });
        }
        if by_design::leaves_open(&program.ops[..=step], mine) {
            return None;
        }
        if op.call == Call::Look {
            let (theirs, mine) = looks.next()?;
            if let Some(difference) = looked(step, op, presence, theirs, mine) {
                return Some(difference);
            }
        }
    }
    None
}

/// `presence` says of which memory mincore(2) is compared, if what is in memory is.
fn looked(
    step: usize,
    op: &Op,
    presence: Option<Shown>,
    linux: &Look,
    ours: &Look,
) -> Option<Difference> {
    let parts = op.arguments[0];
    for (page, (theirs, mine)) in linux.iter().zip(ours).enumerate() {
        let told = |part| {
            let (linux, ours) = (told(theirs, part), told(mine, part));
            let (outcome, page) = (Outcome::Done(0), Some(page as u64));
            Some(Difference { step, linux, ours, outcome, page, part })
        };
        if parts & AREAS != 0 && !by_design::same_area(theirs, mine) {
            return told(AREAS);
        }
        let present = |told_by_core| same_presence(told_by_core, theirs, mine);
        if parts & RESIDENT != 0 && !presence.is_none_or(present) {
            return told(RESIDENT);
        }
        if parts & BYTES != 0 && (theirs.fault, theirs.hash) != (mine.fault, mine.hash) {
            return told(BYTES);
        }
    }
    None
}

/// Whether what is in memory agrees, as far as it is more than policy: private pages exactly, where the host can
/// tell; and what mincore(2) says of memory that only exists in memory. Pages of files may be in memory or
/// not, and so may the shared page of zeros.
fn same_presence(told_by_core: Shown, linux: &PageSeen, ours: &PageSeen) -> bool {
    let (theirs, mine) = (linux.in_memory(), ours.in_memory());
    let private = theirs.contains(Present::UNTOLD)
        || theirs.contains(Present::PRIVATE) == mine.contains(Present::PRIVATE);
    let shown = linux.shown() | ours.shown();
    let only_memory = shown.intersects(told_by_core);
    private && (!only_memory || theirs.contains(Present::CORE) == mine.contains(Present::CORE))
}

/// A part of what a look shows of a page, in words.
pub(super) fn told(seen: &PageSeen, part: u64) -> String {
    match part {
        AREAS => seen.area_told(),
        RESIDENT => seen.present_told(),
        _ => seen.bytes_told(),
    }
}
