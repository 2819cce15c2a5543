//! Shrinking: the shortest program that still differs, as far as leaving out and simplifying finds one.
//!
//! Flow:  a program that differs -> cut behind the difference -> parts left out (ddmin) -> arguments made simpler ->
//!        again, until nothing helps.
//!
//! H1. What is kept differs in the same call as at the start; what a look showed may come to be shown by a load.
//! H2. An argument only ever becomes one that lies in the window, or is refused.

use std::time::{Duration, Instant};

use super::op::{BYTES, Call, FILE, Op, PAGE, Role, WINDOW, address};
use super::{Difference, Failed, Program, Voice, ask, compare};

/// Looking for something shorter ends after this.
const PATIENCE: Duration = Duration::from_secs(60);

struct Shrinker<'v> {
    linux: &'v mut dyn Voice,
    ours: &'v mut dyn Voice,
    program: Program,
    difference: Difference,
    /// In which call, unless it was a look.
    call: Option<Call>,
    stops: bool,
    end: Instant,
}

/// The shortest program found that differs as `program` does, and how it differs.
pub fn shrink(
    linux: &mut dyn Voice,
    ours: &mut dyn Voice,
    program: &Program,
    difference: &Difference,
) -> Result<(Program, Difference), Failed> {
    let call = program.ops[difference.step].call;
    let mut shrinker = Shrinker {
        linux,
        ours,
        program: program.clone(),
        difference: difference.clone(),
        call: Some(call).filter(|call| *call != Call::Look),
        stops: stops(difference),
        end: Instant::now() + PATIENCE,
    };
    shrinker.cut()?;
    loop {
        let before = shrinker.program.clone();
        shrinker.leave_out()?;
        shrinker.simplify()?;
        shrinker.show_by_load()?;
        if shrinker.program == before || shrinker.late() {
            return Ok((shrinker.program, shrinker.difference));
        }
    }
}

fn stops(difference: &Difference) -> bool {
    difference.ours.starts_with("stops")
}

impl Shrinker<'_> {
    fn late(&self) -> bool {
        Instant::now() > self.end
    }

    /// Keeps `candidate` if it still differs.
    fn try_out(&mut self, candidate: Program) -> Result<bool, Failed> {
        let candidate = candidate.settled();
        if candidate == self.program || candidate.ops.is_empty() || self.late() {
            return Ok(false);
        }
        let (linux, ours) = ask(self.linux, self.ours, &candidate)?;
        let Some(found) = compare(&candidate, &linux, &ours) else { return Ok(false) };
        let same = self.call.is_none_or(|call| candidate.ops[found.step].call == call);
        if stops(&found) != self.stops || !(same || self.stops) {
            return Ok(false);
        }
        self.program = candidate;
        self.program.ops.truncate(found.step + 1);
        self.difference = found;
        Ok(true)
    }

    /// Leaves out what comes behind the difference.
    fn cut(&mut self) -> Result<(), Failed> {
        let mut shorter = self.program.clone();
        shorter.ops.truncate(self.difference.step + 1);
        self.try_out(shorter).map(drop)
    }

    /// Leaves out parts, halves first and single steps last.
    fn leave_out(&mut self) -> Result<(), Failed> {
        let mut size = self.program.ops.len().div_ceil(2);
        while size > 0 {
            let mut end = self.program.ops.len();
            while end > 0 {
                let start = end.saturating_sub(size);
                let mut shorter = self.program.clone();
                shorter.ops.drain(start..end);
                self.try_out(shorter)?;
                end = start.min(self.program.ops.len());
            }
            size /= 2;
        }
        Ok(())
    }

    fn simplify(&mut self) -> Result<(), Failed> {
        let unlimited = Program { locked: None, ops: self.program.ops.clone() };
        self.try_out(unlimited)?;
        self.fewer_processes()?;
        let mut step = 0;
        while step < self.program.ops.len() {
            for place in 0..self.program.ops[step].call.roles().len() {
                let mut tried = 0;
                // The list changes with what was kept.
                while let Some(value) =
                    self.program.ops.get(step).and_then(|op| simpler(op, place, tried))
                {
                    let mut candidate = self.program.clone();
                    candidate.ops[step].arguments[place] = value;
                    let kept = self.try_out(candidate)?;
                    tried = if kept { 0 } else { tried + 1 };
                }
            }
            step += 1;
        }
        Ok(())
    }

    /// Lets another process do what the last ones do.
    fn fewer_processes(&mut self) -> Result<(), Failed> {
        for from in (1..super::MOST_PROCESSES).rev() {
            for to in 0..from {
                let mut candidate = self.program.clone();
                let fork = |op: &Op| op.call == Call::Fork && op.child() == from;
                candidate.ops.retain(|op| !fork(op));
                for op in candidate.ops.iter_mut().filter(|op| op.process == from) {
                    op.process = to;
                }
                if self.try_out(candidate)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Puts a load in place of a look at bytes.
    fn show_by_load(&mut self) -> Result<(), Failed> {
        let (Some(page), Some(last)) = (self.difference.page, self.program.ops.last().copied())
        else {
            return Ok(());
        };
        if last.call != Call::Look || last.arguments[0] & BYTES == 0 {
            return Ok(());
        }
        for word in [0, 8, 16, 24, 64, 128, PAGE / 2, PAGE - 8] {
            let mut candidate = self.program.clone();
            candidate.ops.pop();
            candidate.ops.push(Op::new(last.process, Call::Load, &[address(page) + word]));
            if self.try_out(candidate)? {
                break;
            }
        }
        Ok(())
    }
}

/// The simpler value of this number that an argument could have.
fn simpler(op: &Op, place: usize, number: usize) -> Option<u64> {
    let (role, value) = (op.call.roles()[place], op.arguments[place]);
    let choices: Vec<u64> = match role {
        Role::Address if value < 1 << 47 => vec![value & !(PAGE - 1), address(WINDOW.start)],
        Role::Length if value < 1 << 32 => {
            let pages = value.div_ceil(PAGE);
            vec![PAGE, pages / 2 * PAGE, pages.saturating_sub(1) * PAGE, pages * PAGE]
        }
        Role::Offset if value < 1 << 32 => vec![0, value / PAGE * PAGE, value / PAGE / 2 * PAGE],
        Role::Prot => vec![3, 1, 0],
        Role::Flags => {
            (0..32).map(|bit| value & !(1 << bit)).filter(|less| *less != value).collect()
        }
        Role::Object if value != super::NO_OBJECT => vec![FILE],
        Role::Value => vec![1],
        _ => Vec::new(),
    };
    // In this order none of them comes back to an earlier one.
    let rank = |candidate: u64| choices.iter().position(|choice| *choice == candidate);
    let better = |candidate: &u64| match role {
        Role::Length => *candidate < value && *candidate > 0,
        Role::Offset => *candidate < value,
        Role::Prot | Role::Value | Role::Object => {
            rank(value).is_none_or(|mine| rank(*candidate).is_some_and(|its| its < mine))
        }
        Role::Address => *candidate != value && value != address(WINDOW.start),
        _ => *candidate != value,
    };
    choices.iter().copied().filter(better).nth(number)
}
