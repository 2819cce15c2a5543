//! `rumpvm explore`: scenarios under every interleaving that the budget reaches; a failure, shrunk and told.
//!
//! Flow: scenarios -> worker threads, one scenario at a time each -> the main thread, which says what came of them in
//! their order and shrinks what failed, while the others go on.

mod said;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rumpvm_explore::strategy::Strategy;
use rumpvm_explore::{Depth, Explored, Memory, Options, Scenario, scenarios};
use rumpvm_hosted::explored::{Deviation, MOST, Settings};

use super::{Verdict, output};
use crate::{report, values};

/// Schedules of each scenario and memory order unless something else is said: some seconds in all.
const SCHEDULES: u64 = 5_000;

#[derive(Args)]
pub(super) struct ExploreArgs {
    /// Scenarios to explore, by name or part of a name; all of them if none is named.
    scenarios: Vec<String>,

    /// Say what each scenario does and which report it comes from.
    #[arg(long)]
    list: bool,

    /// Schedules of each scenario, in each memory order; 48 at least, from which it learns which words are shared.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    schedules: Option<u64>,

    /// As many schedules as have so many points together, in each memory order.
    #[arg(long, value_name = "N", conflicts_with = "schedules")]
    points: Option<u64>,

    /// Beside that, scenarios with at most so many points in a run: every schedule with two preemptions or accidents.
    #[arg(long, value_name = "N", default_value_t = 0)]
    short: u64,

    /// Every schedule with at most so many preemptions and accidents, instead.
    #[arg(long, value_name = "D", conflicts_with_all = ["schedules", "points"])]
    exhaustive: Option<u32>,

    /// As many schedules as fit into this time, over all scenarios: 10m, 1h... With --exhaustive, no more than that.
    #[arg(long, value_name = "TIME", value_parser = values::time, conflicts_with_all = ["schedules", "points"])]
    time: Option<Duration>,

    /// What random choices follow from.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,

    /// One strategy alone, after the first 48 schedules: random, pos, starve, pct2 to pct9.
    #[arg(long, value_name = "NAME", value_parser = strategy, conflicts_with = "exhaustive")]
    strategy: Option<Strategy>,

    /// Memory orders: sequentially consistent, x86's total store order, or one after the other.
    #[arg(long, value_enum, default_value = "both")]
    memory: Orders,

    /// CPUs of the machine, if not as each scenario says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=MOST as i64))]
    cpus: Option<u8>,

    /// Run one schedule of one scenario, as it was printed, and tell its story.
    ///
    /// A schedule has the choices against the default, which is that whoever runs goes on and nothing goes wrong.
    /// `8.3-16`: at the third point that agent 8 meets, agent 16 is next. `0.40!1`: at the 40th of agent 0, accident
    /// 1 happens.
    ///
    /// Agents: from 0 the scenario's threads, in its order; from 8 flush requests that reach CPU 0, 1...; from 16
    /// stores that leave the buffer of CPU 0, 1...; from 24 deadlines of the threads; from 32 timer ticks of the CPUs;
    /// from 40 page walks ahead of any access; from 48 what handles a tick.
    ///
    /// Accidents: 0 there is no frame, 1 the heap is empty, 2 the store is held back, 3 wakes up for no reason,
    /// 4 faults for no reason, 5 the file fails, 6 rests in the middle of a step.
    #[arg(long, value_name = "SCHEDULE", conflicts_with_all = ["schedules", "short", "points", "exhaustive", "time", "seed", "strategy"])]
    replay: Option<String>,

    /// Tell every step of a story, not only those that two agents had to do with.
    #[arg(long)]
    whole: bool,

    /// Print the result as JSON, for programs: one object for each scenario, in a line.
    #[arg(long)]
    json: bool,
}

/// Memory orders, as the command line has them.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Orders {
    Sc,
    Tso,
    Both,
}

fn strategy(name: &str) -> Result<Strategy, String> {
    Strategy::named(name).ok_or_else(|| "random, pos, starve, or pct2 to pct9".into())
}

/// Explores what was asked for.
pub(super) fn explore(arguments: &ExploreArgs) -> Result<Verdict> {
    run(arguments, &scenarios::all(), &mut io::stdout())
}

/// Explores what was asked for of `known`, and says on `out` what came of it.
fn run(arguments: &ExploreArgs, known: &[Scenario], out: &mut dyn Write) -> Result<Verdict> {
    let chosen = choose(&arguments.scenarios, known)?;
    if arguments.list {
        said::list(&chosen, arguments.json, out)?;
        return Ok(Verdict::Clean);
    }
    let too_few = |scenario: &&Scenario| {
        arguments.cpus.is_some_and(|cpus| usize::from(cpus) < scenario.settings.cpus)
    };
    if let Some(scenario) = chosen.iter().find(too_few) {
        bail!("--cpus: {} needs {} CPUs at least", scenario.name, scenario.settings.cpus);
    }
    if let Some(schedule) = &arguments.replay {
        let [scenario] = chosen.as_slice() else {
            bail!("--replay is about one scenario, and {} are named", chosen.len());
        };
        return replay(arguments, scenario, schedule, out);
    }
    all(arguments, &chosen, out)
}

/// The scenarios of these names, or parts of names.
fn choose(names: &[String], all: &[Scenario]) -> Result<Vec<Scenario>> {
    let mut chosen: Vec<Scenario> = Vec::new();
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    for name in names {
        if name.is_empty() {
            bail!("a scenario has a name, and `` is none: `rumpvm explore --list` has them");
        }
        let exact = all.iter().filter(|scenario| scenario.name == name);
        let mut found: Vec<&Scenario> = exact.collect();
        if found.is_empty() {
            found = all.iter().filter(|scenario| scenario.name.contains(name.as_str())).collect();
        }
        if found.is_empty() {
            bail!("there is no scenario `{name}`: `rumpvm explore --list` names them");
        }
        for scenario in found {
            if !chosen.iter().any(|known| known.name == scenario.name) {
                chosen.push(*scenario);
            }
        }
    }
    Ok(chosen)
}

fn memory(orders: Orders) -> Vec<Memory> {
    match orders {
        Orders::Sc => vec![Memory::Sequential],
        Orders::Tso => vec![Memory::Tso],
        Orders::Both => Memory::BOTH.to_vec(),
    }
}

/// Explores all of them, on as many host threads as there are processors, and says of each what came of it, in their
/// order. What each finds depends on the arguments alone, unless a time is given.
fn all(arguments: &ExploreArgs, chosen: &[Scenario], out: &mut dyn Write) -> Result<Verdict> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(chosen.len());
    let share = arguments.time.map(|time| time * workers as u32 / chosen.len() as u32);
    let depth = match (arguments.exhaustive, share, arguments.points) {
        (Some(bound), ..) => Depth::Exhaustive(bound),
        (_, Some(share), _) => Depth::Time(share),
        (.., Some(points)) => Depth::Points(points),
        _ => Depth::Schedules(arguments.schedules.unwrap_or(SCHEDULES)),
    };
    let options = Options {
        depth,
        seed: arguments.seed,
        strategy: arguments.strategy,
        memory: memory(arguments.memory),
        cpus: arguments.cpus.map(usize::from),
        short: arguments.short,
    };
    let (next, schedules, failed) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicUsize::new(0));
    let stopped = AtomicBool::new(false);
    let bar = bar();
    let start = Instant::now();
    let one = |scenario: &Scenario| {
        let (begun, mut before) = (Instant::now(), 0);
        rumpvm_explore::explore(scenario, &options, |seen| {
            let more = seen.schedules - before;
            before = seen.schedules;
            let sum = schedules.fetch_add(more, Ordering::Relaxed) + more;
            let rate = sum as f64 / start.elapsed().as_secs_f64();
            let (sum, rate) = (report::count(sum), report::short(rate));
            let failed = match failed.load(Ordering::Relaxed) {
                0 => String::new(),
                failed => format!(", {failed} failed"),
            };
            bar.set_message(format!("{}: {sum} schedules, {rate}/s{failed}", scenario.name));
            share.is_none_or(|share| begun.elapsed() < share) && !stopped.load(Ordering::Relaxed)
        })
    };
    let sum = thread::scope(|scope| {
        let (sender, results) = mpsc::channel();
        for _ in 0..workers {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = chosen.get(at) else { return };
                    let result = one(scenario);
                    let fails = result.as_ref().map_or(true, |seen| seen.found.is_some());
                    failed.fetch_add(usize::from(fails), Ordering::Relaxed);
                    if stopped.load(Ordering::Relaxed) || sender.send((at, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut say = |scenario: &Scenario, seen: &Explored| {
            // Shrinking takes time: the bar, and with it the workers, must not wait for it.
            let mut text = Vec::new();
            said::explored(arguments, scenario, seen, &mut text)?;
            let text = String::from_utf8_lossy(&text);
            bar.suspend(|| output::say_on(&mut *out, text.strip_suffix('\n').unwrap_or(&text)))
        };
        let sum = in_order(chosen, &results, &mut say);
        stopped.store(true, Ordering::Relaxed);
        sum
    });
    bar.finish_and_clear();
    let sum = sum?;
    if !arguments.json && chosen.len() > 1 {
        said::sum(&sum, out)?;
    }
    Ok(Verdict::of(sum.failed == 0))
}

/// What came of all of them.
#[derive(Default)]
struct Sum {
    scenarios: u64,
    schedules: u64,
    points: u64,
    failed: u64,
}

/// Says each of the `results` as soon as it and all before it are there.
fn in_order(
    chosen: &[Scenario],
    results: &Receiver<(usize, Result<Explored>)>,
    say: &mut dyn FnMut(&Scenario, &Explored) -> Result<()>,
) -> Result<Sum> {
    let (mut sum, mut early) = (Sum::default(), BTreeMap::new());
    for scenario in chosen {
        let at = sum.scenarios as usize;
        while !early.contains_key(&at) {
            let (place, result) = results.recv().context("a scenario has not come back")?;
            early.insert(place, result?);
        }
        let seen = early.remove(&at).expect("it has just been seen");
        sum.scenarios += 1;
        sum.schedules += seen.schedules;
        sum.points += seen.steps;
        sum.failed += u64::from(seen.found.is_some());
        say(scenario, &seen)?;
    }
    Ok(sum)
}

fn bar() -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{elapsed} {msg}");
    let bar = indicatif::ProgressBar::new_spinner();
    bar.set_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn settings(arguments: &ExploreArgs, scenario: &Scenario, memory: Memory) -> Settings {
    rumpvm_explore::settings(scenario, memory, arguments.cpus.map(usize::from))
}

/// Runs one schedule.
fn replay(
    arguments: &ExploreArgs,
    scenario: &Scenario,
    schedule: &str,
    out: &mut dyn Write,
) -> Result<Verdict> {
    let memory = match arguments.memory {
        Orders::Tso => Memory::Tso,
        Orders::Sc => Memory::Sequential,
        Orders::Both => bail!("--replay needs --memory sc or --memory tso, as it was printed"),
    };
    let steps = schedule.split(',').map(str::trim).filter(|step| !step.is_empty());
    let schedule: Vec<Deviation> = steps
        .map(|step| step.parse().map_err(anyhow::Error::msg))
        .collect::<Result<_>>()
        .context("the schedule")?;
    let settings = Settings { story: true, ..settings(arguments, scenario, memory) };
    let outcome = rumpvm_explore::replay(scenario, settings, &schedule)?;
    said::replayed(arguments, scenario, &schedule, &outcome, out)?;
    Ok(Verdict::of(outcome.failure.is_none()))
}
