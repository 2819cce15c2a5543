//! The engine: one scenario, many schedules, until one fails or the budget is spent.
//!
//! 1. Learning: a few runs in which every word is a point, to see which words are shared.
//! 2. Exhaustive search with a bound on preemptions, as far as its share of the budget reaches.
//! 3. The portfolio: schedule `n` is made by strategy `n` of the round from the seed and `n`, and by nothing else.
//!
//! All of it once in each memory order that is asked for.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rumpvm_hosted::explored::{Deviation, Explorer, Failure, Outcome, Pairs, Settings};

use crate::Scenario;
use crate::strategy::{Exhaustive, PORTFOLIO, Replay, Strategy};

/// Runs in which every word is a point.
const LEARNING: u64 = 48;

/// Distinct interleavings are counted up to here; after that there are "more".
const COUNTED: usize = 2_000_000;

/// Schedules between two looks at the progress.
const PROGRESS_EVERY: u64 = 256;

/// Memory orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Sequentially consistent.
    Sequential,
    /// x86's total store order: each CPU has a buffer of stores.
    Tso,
}

impl Memory {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Sequential, Self::Tso];

    /// What the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sc",
            Self::Tso => "tso",
        }
    }
}

/// How far to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// So many schedules in each memory order.
    Schedules(u64),
    /// As many as have so many points together, in each memory order.
    Points(u64),
    /// Every schedule with at most so many preemptions, and no others.
    Exhaustive(u32),
    /// As many as fit into this time.
    Time(Duration),
}

/// What to explore, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// How far to go.
    pub depth: Depth,
    /// Where the dice start.
    pub seed: u64,
    /// One strategy instead of all.
    pub strategy: Option<Strategy>,
    /// Memory orders.
    pub memory: Vec<Memory>,
    /// CPUs, if not as the scenario says.
    pub cpus: Option<usize>,
    /// What has at most so many points in a run is exhausted with [`BOUND`] preemptions, whatever that takes.
    pub short: u64,
}

/// Preemptions that short scenarios are exhausted with.
pub const BOUND: u32 = 2;

/// A schedule that failed.
#[derive(Clone, Debug)]
pub struct Found {
    /// Why.
    pub failure: Failure,
    /// The choices that lead there.
    pub schedule: Vec<Deviation>,
    /// In which memory order.
    pub memory: Memory,
    /// Made by which strategy.
    pub strategy: String,
    /// Schedules before it.
    pub after: u64,
}

/// What has been seen so far.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Schedules.
    pub schedules: u64,
    /// Schedules that were the same as another one, and not gone into.
    pub redundant: u64,
    /// Moments at which there was a choice, over all schedules.
    pub moments: u64,
    /// Steps over all schedules.
    pub steps: u64,
    /// Interleavings that differ in something that matters.
    pub distinct: u64,
    /// There are more of them than were counted.
    pub more: bool,
    /// Ordered pairs of places that touched one word, one after the other.
    pub pairs: u64,
    /// Exhausted with this bound, in every memory order.
    pub exhausted: Option<u32>,
    /// Of every step of every schedule.
    pub hash: u64,
    /// Time that passed.
    pub time: Duration,
    /// What was found.
    pub found: Option<Found>,
}

/// Explores one scenario. `progress` is called now and then with what has been seen, and returns false to stop.
pub fn explore(
    scenario: &Scenario,
    options: &Options,
    progress: impl FnMut(&Explored) -> bool,
) -> Result<Explored> {
    let mut search = Search {
        scenario,
        options,
        progress,
        seen: Explored::default(),
        classes: HashSet::new(),
        pairs: Pairs::default(),
        start: Instant::now(),
        stopped: false,
        done: (0, 0, 0),
    };
    for memory in &options.memory {
        search.go(*memory)?;
        if search.stopped {
            break;
        }
        search.done = (search.done.0 + 1, search.seen.schedules, search.seen.steps);
    }
    search.seen.time = search.start.elapsed();
    Ok(search.seen)
}

/// Runs one schedule of a scenario, with its story if that is wanted.
pub fn replay(scenario: &Scenario, settings: Settings, schedule: &[Deviation]) -> Result<Outcome> {
    let mut explorer = Explorer::new(settings).context("no memory for a machine")?;
    Ok(explorer.run(settings, scenario.setup, Box::new(Replay::new(schedule))).0)
}

/// The settings of a scenario in one memory order.
pub fn settings(scenario: &Scenario, memory: Memory, cpus: Option<usize>) -> Settings {
    let cpus = cpus.unwrap_or(scenario.settings.cpus);
    Settings { tso: memory == Memory::Tso, cpus, ..scenario.settings }
}

struct Search<'a, F> {
    scenario: &'a Scenario,
    options: &'a Options,
    progress: F,
    seen: Explored,
    classes: HashSet<u64>,
    /// Seen in any memory order.
    pairs: Pairs,
    start: Instant,
    stopped: bool,
    /// Memory orders done, and schedules and points that they took.
    done: (u64, u64, u64),
}

impl<F: FnMut(&Explored) -> bool> Search<'_, F> {
    /// All three parts in one memory order.
    fn go(&mut self, memory: Memory) -> Result<()> {
        let settings = settings(self.scenario, memory, self.options.cpus);
        let mut explorer = Explorer::new(settings).context("no memory for a machine")?;
        let length = self.learn(&mut explorer, settings, memory);
        explorer.focus();
        if !self.stopped && self.options.strategy.is_none() {
            let reached = self.exhaust(&mut explorer, settings, memory);
            let (first, before) = (self.done.0 == 0, self.seen.exhausted);
            self.seen.exhausted = if first { reached } else { before.min(reached) };
        }
        if !matches!(self.options.depth, Depth::Exhaustive(_)) {
            self.portfolio(&mut explorer, settings, memory, length);
        }
        explorer.add_pairs(&mut self.pairs);
        self.seen.pairs = self.pairs.len() as u64;
        Ok(())
    }

    /// Returns the usual number of moments in a run.
    fn learn(&mut self, explorer: &mut Explorer, settings: Settings, memory: Memory) -> u32 {
        let mut moments = 0;
        for number in 0..LEARNING {
            // Half of them walks: what is shared shows in most runs, but some words are shared in few.
            let turn = PORTFOLIO[(number / 2) as usize % PORTFOLIO.len()];
            let strategy = if number.is_multiple_of(2) { Strategy::Random } else { turn };
            let chooser = strategy.chooser(self.seed(number), moments);
            let (outcome, _) = explorer.run(settings, self.scenario.setup, Box::new(chooser));
            moments = moments.max(outcome.moments);
            if self.note(outcome, memory, || "learning".into()) {
                break;
            }
        }
        moments
    }

    /// Bounds 0, 1, 2 and so on, until the share of the budget is spent. Returns the last that was exhausted.
    fn exhaust(
        &mut self,
        explorer: &mut Explorer,
        settings: Settings,
        memory: Memory,
    ) -> Option<u32> {
        let (first, last) = match self.options.depth {
            Depth::Exhaustive(bound) => (bound, bound),
            _ => (0, 3),
        };
        let (mut reached, mut is_short) = (None, None);
        for bound in first..=last {
            let mut search = Box::new(Exhaustive::new(bound));
            let mut late = explorer.late();
            loop {
                let (outcome, back) = explorer.run(settings, self.scenario.setup, search);
                search = back;
                self.seen.redundant += u64::from(search.was_redundant());
                let short = *is_short.get_or_insert(outcome.steps <= self.options.short);
                let stopped = self.note(outcome, memory, || format!("exhaustive {bound}"));
                if stopped || !(short && bound <= BOUND) && self.is_spent(4) {
                    return reached;
                }
                if explorer.late() != late {
                    // There are more points than it was begun with: what it remembers means something else now.
                    late = explorer.late();
                    *search = Exhaustive::new(bound);
                    continue;
                }
                if !search.advance() {
                    break;
                }
            }
            reached = Some(bound);
        }
        reached
    }

    fn portfolio(
        &mut self,
        explorer: &mut Explorer,
        settings: Settings,
        memory: Memory,
        length: u32,
    ) {
        let mut number = LEARNING;
        while !self.stopped && !self.is_spent(1) {
            let turn = PORTFOLIO[number as usize % PORTFOLIO.len()];
            let strategy = self.options.strategy.unwrap_or(turn);
            let chooser = strategy.chooser(self.seed(number), length);
            let (outcome, _) = explorer.run(settings, self.scenario.setup, Box::new(chooser));
            self.note(outcome, memory, || strategy.name());
            number += 1;
        }
    }

    /// The seed of schedule `number`.
    fn seed(&self, number: u64) -> u64 {
        let name = self.scenario.name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        (self.options.seed ^ name).wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Whether one part in `share` of the budget for this memory order is spent.
    fn is_spent(&self, share: u64) -> bool {
        let (orders, schedules, points) = self.done;
        match self.options.depth {
            Depth::Exhaustive(_) => false,
            Depth::Schedules(count) => self.seen.schedules - schedules >= count / share,
            Depth::Points(count) => self.seen.steps - points >= count / share,
            Depth::Time(time) => {
                let each = time / self.options.memory.len() as u32;
                self.start.elapsed() >= each * orders as u32 + each / share as u32
            }
        }
    }

    /// Takes in what came of a run; whether it is time to stop.
    fn note(&mut self, outcome: Outcome, memory: Memory, by: impl Fn() -> String) -> bool {
        let seen = &mut self.seen;
        seen.moments += u64::from(outcome.moments);
        seen.steps += outcome.steps;
        seen.hash = (seen.hash.rotate_left(9) ^ outcome.hash).wrapping_mul(0x517c_c1b7_2722_0a95);
        if self.classes.len() < COUNTED {
            self.classes.insert(outcome.class);
            seen.distinct = self.classes.len() as u64;
        } else {
            seen.more = true;
        }
        if let Some(failure) = outcome.failure {
            let (schedule, after) = (outcome.schedule, seen.schedules);
            seen.found = Some(Found { failure, schedule, memory, strategy: by(), after });
            self.stopped = true;
        }
        seen.schedules += 1;
        if seen.schedules.is_multiple_of(PROGRESS_EVERY) {
            seen.time = self.start.elapsed();
            self.stopped |= !(self.progress)(seen);
        }
        self.stopped
    }
}
