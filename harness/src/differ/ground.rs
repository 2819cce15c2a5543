//! The host's ground: what differs between hosts and has to be known before anything is compared.
//!
//! Flow:  /proc and a few small programs on the host's voice -> [`Ground`], and a note for each thing left out.

use std::fs;

use super::op::{Call, NO_OBJECT, Op, PAGE, WINDOW, address};
use super::{Failed, Outcome, Program, Voice};

/// Advice that madvise(2) knows by now, and some that no kernel knows. Not `MADV_COLLAPSE`: superpages are off.
const ADVICE: [i32; 27] = [
    0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 102, 103, 5,
    77, -1,
];
/// Those of them that no kernel knows.
const UNKNOWN: [i32; 3] = [5, 77, -1];

/// What the host is like.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ground {
    /// Release of its kernel.
    pub release: String,
    /// `vm.overcommit_memory`.
    pub overcommit: u32,
    /// `vm.mmap_min_addr`.
    pub lowest: u64,
    /// The most that may be locked on this host; none for no limit.
    pub most_locked: Option<u64>,
    /// Advice that it takes.
    pub advice: Vec<i32>,
    /// Whether a page that may only be executed cannot be loaded from.
    pub execute_only: bool,
    /// What is left out, and why.
    pub notes: Vec<String>,
}

impl Ground {
    /// Asks the host.
    pub fn of_host(linux: &mut dyn Voice) -> Result<Self, Failed> {
        let mut ground = Self {
            release: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
            overcommit: number("/proc/sys/vm/overcommit_memory").unwrap_or(0) as u32,
            lowest: number("/proc/sys/vm/mmap_min_addr").unwrap_or(0x1_0000),
            most_locked: most_locked(),
            ..Self::default()
        };
        ground.ask_for_advice(linux)?;
        ground.ask_for_execute_only(linux)?;
        if let Some(most) = ground.most_locked {
            let note = format!(
                "at most {} KiB may be locked here: every program has that limit",
                most >> 10
            );
            ground.notes.push(note);
        }
        Ok(ground)
    }

    /// Which advice the host takes for fresh memory, private or shared. What it does not know depends on version
    /// and settings.
    fn ask_for_advice(&mut self, linux: &mut dyn Voice) -> Result<(), Failed> {
        for advice in ADVICE {
            let at = address(WINDOW.start);
            let mut known = UNKNOWN.contains(&advice);
            for flags in [0x32, 0x31] {
                let map = Op::new(0, Call::Mmap, &[at, PAGE, 3, flags, NO_OBJECT, 0]);
                let advise = Op::new(0, Call::Madvise, &[at, PAGE, advice as u32 as u64]);
                known |= answer(linux, vec![map, advise])? != Outcome::Refused(22);
            }
            if known {
                self.advice.push(advice);
            } else {
                self.notes.push(format!("the host does not know advice {advice}: left out"));
            }
        }
        Ok(())
    }

    fn ask_for_execute_only(&mut self, linux: &mut dyn Voice) -> Result<(), Failed> {
        let at = address(WINDOW.start);
        let map = Op::new(0, Call::Mmap, &[at, PAGE, 4, 0x32, NO_OBJECT, 0]);
        let load = Op::new(0, Call::Load, &[at]);
        self.execute_only = matches!(answer(linux, vec![map, load])?, Outcome::Signal { .. });
        if self.execute_only {
            let note = "the host has protection keys, by which PROT_EXEC alone cannot be loaded from: left out";
            self.notes.push(note.into());
        }
        Ok(())
    }
}

/// What comes of the last step.
fn answer(linux: &mut dyn Voice, ops: Vec<Op>) -> Result<Outcome, Failed> {
    let program = Program { locked: None, ops };
    linux.start(&program)?;
    let answers = linux.finish(&program)?;
    Ok(answers.outcomes.last().copied().unwrap_or(Outcome::Unreached))
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &str) -> Option<u64> {
    read(path)?.parse().ok()
}

/// The higher limit of locked memory, which a process without rights can go up to. Whoever may raise it does.
fn most_locked() -> Option<u64> {
    let limits = read("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max locked memory"))?;
    let hard = line.split_whitespace().nth(4)?;
    let status = read("/proc/self/status")?;
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let rights = u64::from_str_radix(rights.trim(), 16).ok()?;
    const MAY_RAISE: u64 = 1 << 24;
    if rights & MAY_RAISE != 0 { None } else { hard.parse().ok() }
}
