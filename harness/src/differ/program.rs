//! Programs: what is given to both voices, and as text.
//!
//! The text has one line for each step: the process, the call, its arguments. `locked N` sets a limit.

use std::fmt;
use std::str::FromStr;

use super::op::{Call, NO_OBJECT, Op, Role, SEGMENTS};

/// Most steps of a program.
pub const MOST_OPS: usize = 256;
/// Most looks among them.
pub const MOST_LOOKS: usize = 48;
/// Most processes at a time.
pub const MOST_PROCESSES: u8 = 4;

/// A program: what may be locked, and the steps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    /// Most bytes that a process may lock (`RLIMIT_MEMLOCK`); no limit if there is none.
    pub locked: Option<u64>,
    /// The steps, in order.
    pub ops: Vec<Op>,
}

impl Program {
    /// Without the steps of processes that are not there. What is left of a program has a meaning again.
    pub fn settled(mut self) -> Self {
        let mut alive = [false; MOST_PROCESSES as usize];
        alive[0] = true;
        self.ops.retain(|op| {
            if !alive.get(usize::from(op.process)).is_some_and(|alive| *alive) {
                return false;
            }
            match op.call {
                Call::Fork => {
                    let child = alive.get_mut(usize::from(op.child())).filter(|alive| !**alive);
                    child.map(|alive| *alive = true).is_some()
                }
                Call::Exit => {
                    // The first one stays: the others are its children.
                    op.process != 0 && std::mem::replace(&mut alive[usize::from(op.process)], false)
                }
                Call::ProcessMadvise => {
                    let advised = op.advised().and_then(|number| alive.get(usize::from(number)));
                    advised.is_some_and(|alive| *alive)
                }
                _ => true,
            }
        });
        self
    }

    /// Most processes at a time, and whether there is ever more than one.
    pub fn processes(&self) -> u8 {
        self.ops.iter().map(|op| op.process).max().map_or(1, |last| last + 1)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.process, self.call.name())?;
        for (role, value) in self.told() {
            match role {
                Role::Object if value == NO_OBJECT => write!(f, " -")?,
                Role::Choice | Role::Object | Role::Process | Role::Prot | Role::Segment
                    if value < 1000 =>
                {
                    write!(f, " {value}")?;
                }
                _ => write!(f, " {value:#x}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(locked) = self.locked {
            writeln!(f, "locked {locked:#x}")?;
        }
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let process = words.next().and_then(|word| word.parse().ok());
        let process = process.filter(|process| *process < MOST_PROCESSES);
        let process = process.ok_or_else(|| format!("`{line}`: no process 0 to 3 in front"))?;
        let name = words.next().unwrap_or_default();
        let row = Call::ALL.iter().find(|(_, known, _)| *known == name);
        let &(call, _, roles) = row.ok_or_else(|| format!("`{line}`: there is no `{name}`"))?;
        let values: Vec<u64> = words.map(number).collect::<Result<_, _>>()?;
        if values.len() != roles.len() {
            return Err(format!("`{line}`: {name} has {} arguments", roles.len()));
        }
        let outside = |(role, value): (&Role, &u64)| match role {
            Role::Object => *value > 1 && !(*value == NO_OBJECT && call == Call::Mmap),
            Role::Process => *value >= u64::from(MOST_PROCESSES),
            Role::Segment => *value >= SEGMENTS as u64,
            _ => false,
        };
        if roles.iter().zip(&values).any(outside) {
            return Err(format!(
                "`{line}`: objects are 0 and 1, segments 0 to 2, processes 0 to 3"
            ));
        }
        Ok(Self::new(process, call, &values))
    }
}

fn number(word: &str) -> Result<u64, String> {
    let parsed = match (word, word.strip_prefix("0x")) {
        ("-", _) => return Ok(NO_OBJECT),
        (_, Some(digits)) => u64::from_str_radix(digits, 16),
        (_, None) => word.parse(),
    };
    parsed.map_err(|_| format!("`{word}` is no number"))
}

impl FromStr for Program {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut program = Self::default();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        for line in lines.filter(|line| !line.is_empty()) {
            match line.strip_prefix("locked ") {
                Some(limit) => program.locked = Some(number(limit.trim())?),
                None => program.ops.push(line.parse()?),
            }
        }
        let looks = program.ops.iter().filter(|op| op.call == Call::Look).count();
        if program.ops.len() > MOST_OPS || looks > MOST_LOOKS {
            return Err(format!(
                "a program has at most {MOST_OPS} steps, {MOST_LOOKS} of them looks"
            ));
        }
        Ok(program.settled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_as_it_was_printed() {
        let text = "locked 0x10000\n0 mmap 0xfffff0000 0x1000 3 0x32 - 0x0\n0 fork 1\n1 exit\n0 look 0x7\n";
        let program: Program = text.parse().unwrap();
        assert_eq!(program.to_string(), text);
    }

    #[test]
    fn steps_of_processes_that_are_not_there_go() {
        let text = "1 load 0x0\n0 fork 1\n0 fork 1\n1 exit\n1 load 0x0\n0 exit\n";
        let program: Program = text.parse().unwrap();
        assert_eq!(program.to_string(), "0 fork 1\n1 exit\n");
    }

    #[test]
    fn what_is_no_step_is_named() {
        for (line, word) in
            [("0 fly", "fly"), ("9 load 0", "process"), ("0 load x", "x"), ("0 load", "arguments")]
        {
            let error = line.parse::<Program>().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
