//! The host's ground: what differs between hosts and has to be known before anything is compared.
//!
//! Flow:  /proc and a few small programs on the host's voice -> [`Ground`], and a note for each thing left out.

use std::fs;

use super::op::{Call, HEAP, NO_OBJECT, Op, PAGE, WINDOW, address};
use super::{Failed, Outcome, Program, Voice};

/// Advice that madvise(2) knows by now, and some that no kernel knows. Not `MADV_COLLAPSE`: superpages are off.
const ADVICE: [i32; 27] = [
    0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 102, 103, 5,
    77, -1,
];
/// Those of them that no kernel knows.
const UNKNOWN: [i32; 3] = [5, 77, -1];

/// Most areas that are made for a test of their limit, twice Linux's default.
const MOST_AREAS: u64 = 1 << 17;

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
    /// Whether `mremap` moves several areas at once.
    pub moves_several: bool,
    /// Whether a process may give itself any advice by process_madvise(2).
    pub advises_itself: bool,
    /// Whether a process may advise another one.
    pub advises_others: bool,
    /// Whether it has memory that may go when memory is short (`MAP_DROPPABLE`).
    pub droppable: bool,
    /// Whether the heap could be placed in the window.
    pub heap: bool,
    /// Whether segments can be made that are nobody else's.
    pub segments: bool,
    /// Whether processes can be given as many areas as there may be.
    pub crowds: bool,
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
        ground.ask_for_several(linux)?;
        ground.ask_for_places(linux)?;
        ground.crowds = number("/proc/sys/vm/max_map_count").is_some_and(|most| most <= MOST_AREAS);
        if !ground.crowds {
            ground
                .notes
                .push("more areas than can be made for a test (vm.max_map_count): left out".into());
        }
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

impl Ground {
    /// What only the latest kernels do with several areas or ranges at once.
    fn ask_for_several(&mut self, linux: &mut dyn Voice) -> Result<(), Failed> {
        let (at, to) = (address(WINDOW.start), address(WINDOW.start + 8));
        let first = Op::new(0, Call::Mmap, &[at, PAGE, 3, 0x32, NO_OBJECT, 0]);
        let second = Op::new(0, Call::Mmap, &[at + PAGE, PAGE, 1, 0x32, NO_OBJECT, 0]);
        let remap = Op::new(0, Call::Mremap, &[at, 2 * PAGE, 2 * PAGE, 3, to]);
        let moved = answer(linux, vec![first, second, remap])?;
        self.moves_several = matches!(moved, Outcome::Done(_));
        if !self.moves_several {
            self.notes.push("the host moves one area at a time: moves are of one page".into());
        }
        let advise = Op::new(0, Call::ProcessMadvise, &[at, PAGE, at + PAGE, PAGE, 4, 0]);
        let advised = answer(linux, vec![first, second, advise])?;
        self.advises_itself = matches!(advised, Outcome::Done(_));
        if !self.advises_itself {
            let note = "process_madvise takes few advices here: left out";
            self.notes.push(note.into());
        }
        let fork = Op::new(0, Call::Fork, &[1]);
        let advise = Op::new(0, Call::ProcessMadvise, &[at, PAGE, at + PAGE, PAGE, 3, 1]);
        let advised = answer(linux, vec![first, second, fork, advise])?;
        self.advises_others = self.advises_itself && matches!(advised, Outcome::Done(_));
        if !self.advises_others {
            self.notes.push("no process may advise another one here: left out".into());
        }
        Ok(())
    }

    /// What takes rights or a late kernel: memory that may go, a heap in the window, segments of one's own.
    fn ask_for_places(&mut self, linux: &mut dyn Voice) -> Result<(), Failed> {
        let at = address(WINDOW.start);
        let map = Op::new(0, Call::Mmap, &[at, PAGE, 3, 0x38, NO_OBJECT, 0]);
        let get = Op::new(0, Call::Shmget, &[0, 0, PAGE, 0o600]);
        self.droppable = answer(linux, vec![map])? == Outcome::Done(at);
        self.heap = answer(linux, vec![Op::new(0, Call::Brk, &[0])])? == Outcome::Done(HEAP);
        self.segments = answer(linux, vec![get])? == Outcome::Done(0);
        for (has, note) in [
            (self.droppable, "the host does not know MAP_DROPPABLE: left out"),
            (self.heap, "the host's heap cannot be placed: brk is left out"),
            (self.segments, "no name space for segments can be had here: System V's are left out"),
        ] {
            if !has {
                self.notes.push(note.into());
            }
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
    // CAP_IPC_LOCK, which passes the limit, and CAP_SYS_RESOURCE, which raises it.
    const MAY: u64 = 1 << 14 | 1 << 24;
    if rights & MAY != 0 { None } else { hard.parse().ok() }
}
