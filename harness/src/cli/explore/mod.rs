//! `rumpvm explore`: scenarios under every interleaving that the budget reaches; a failure, shrunk and told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rumpvm_explore::strategy::Strategy;
use rumpvm_explore::{Depth, Explored, Found, Memory, Options, Scenario, scenarios};
use rumpvm_hosted::explored::{Deviation, MOST, Settings};
use serde_json::{Value, json};

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

    /// Schedules of each scenario, in each memory order.
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

    /// As many schedules as fit into this time, over all scenarios: 10m, 1h...
    #[arg(long, value_name = "TIME", value_parser = values::time, conflicts_with_all = ["schedules", "points", "exhaustive"])]
    time: Option<Duration>,

    /// What random choices follow from.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,

    /// One strategy alone: random, pos, pct2 to pct9.
    #[arg(long, value_name = "NAME", value_parser = strategy, conflicts_with = "exhaustive")]
    strategy: Option<Strategy>,

    /// Memory orders: sequentially consistent, x86's total store order, or one after the other.
    #[arg(long, value_enum, default_value = "both")]
    memory: Orders,

    /// CPUs of the machine, if not as each scenario says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=MOST as i64))]
    cpus: Option<u8>,

    /// Run one schedule of one scenario, as it was printed, and tell its story.
    #[arg(long, value_name = "SCHEDULE", conflicts_with_all = ["schedules", "points", "exhaustive", "time", "strategy"])]
    replay: Option<String>,

    /// Tell every step of a story, not only those that two CPUs had to do with.
    #[arg(long)]
    whole: bool,

    /// Print the result as JSON, for programs: one object for each scenario.
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
    Strategy::named(name).ok_or_else(|| "random, pos, or pct2 to pct9".into())
}

/// Explores what was asked for.
pub(super) fn explore(arguments: &ExploreArgs) -> Result<Verdict> {
    let chosen = choose(&arguments.scenarios)?;
    if arguments.list {
        for scenario in &chosen {
            output::say(format_args!(
                "{:<28} {:<22} {}",
                scenario.name, scenario.report, scenario.says
            ))?;
        }
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
        return replay(arguments, scenario, schedule);
    }
    let outcomes = all(arguments, &chosen)?;
    let mut passed = true;
    for (scenario, outcome) in chosen.iter().zip(outcomes) {
        passed &= outcome.found.is_none();
        if arguments.json {
            output::say(as_json(scenario, &outcome))?;
        } else {
            say(arguments, scenario, &outcome)?;
        }
    }
    Ok(Verdict::of(passed))
}

/// The scenarios of these names, or parts of names.
fn choose(names: &[String]) -> Result<Vec<Scenario>> {
    let all = scenarios::all();
    let mut chosen: Vec<Scenario> = Vec::new();
    if names.is_empty() {
        return Ok(all);
    }
    for name in names {
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

/// Explores all of them, on as many host threads as there are processors. What each finds depends on the
/// arguments alone, unless a time is given.
fn all(arguments: &ExploreArgs, chosen: &[Scenario]) -> Result<Vec<Explored>> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(chosen.len());
    let share = |time: Duration| time * workers as u32 / chosen.len() as u32;
    let depth = match (arguments.exhaustive, arguments.time, arguments.points) {
        (Some(bound), ..) => Depth::Exhaustive(bound),
        (_, Some(time), _) => Depth::Time(share(time)),
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
    let (next, schedules) = (AtomicUsize::new(0), AtomicU64::new(0));
    let results: Mutex<Vec<Option<Result<Explored>>>> =
        Mutex::new(chosen.iter().map(|_| None).collect());
    let bar = bar();
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(scenario) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut before = 0;
                    let result = rumpvm_explore::explore(scenario, &options, |seen| {
                        let more = seen.schedules - before;
                        before = seen.schedules;
                        let sum = schedules.fetch_add(more, Ordering::Relaxed) + more;
                        let rate = sum as f64 / start.elapsed().as_secs_f64();
                        let (sum, rate) = (report::count(sum), report::short(rate));
                        bar.set_message(format!("{}: {sum} schedules, {rate}/s", scenario.name));
                        true
                    });
                    let at = chosen.iter().position(|one| one.name == scenario.name);
                    let mut results = results.lock().expect("no worker panics");
                    results[at.expect("it is one of them")] = Some(result);
                }
            });
        }
    });
    bar.finish_and_clear();
    let results = results.into_inner().expect("no worker panics");
    results.into_iter().map(|result| result.expect("every scenario was explored")).collect()
}

fn bar() -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{elapsed} {msg}");
    let bar = indicatif::ProgressBar::new_spinner();
    bar.set_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// One line for a scenario, and the story if it failed.
fn say(arguments: &ExploreArgs, scenario: &Scenario, seen: &Explored) -> Result<()> {
    let verdict = if seen.found.is_none() { "ok" } else { "FAILED" };
    let seconds = seen.time.as_secs_f64();
    let more = if seen.more { "more than " } else { "" };
    let exhausted = seen.exhausted.map_or_else(String::new, |bound| {
        format!(", all with {bound} preemption{}", if bound == 1 { "" } else { "s" })
    });
    output::say(format_args!(
        "{:<28} {verdict:<6} {} schedules, {}/s, {} points/s; {more}{} interleavings, {} pairs of places{exhausted}",
        scenario.name,
        report::count(seen.schedules),
        report::short(seen.schedules as f64 / seconds),
        report::short(seen.steps as f64 / seconds),
        report::count(seen.distinct),
        report::count(seen.pairs),
    ))?;
    match &seen.found {
        Some(found) => told(arguments, scenario, seen, found),
        None => Ok(()),
    }
}

/// Shrinks what was found, tells its story, and says how to see it again.
fn told(
    arguments: &ExploreArgs,
    scenario: &Scenario,
    seen: &Explored,
    found: &Found,
) -> Result<()> {
    let settings = settings(arguments, scenario, found.memory);
    let shrunk = rumpvm_explore::shrink(scenario, settings, &found.schedule, &found.failure)?;
    let with_story = Settings { story: true, ..settings };
    let outcome = rumpvm_explore::replay(scenario, with_story, &shrunk.schedule)?;
    output::say(format_args!(
        "\n{}: {}\nFound by {} in memory order {} after {} schedules and {:.2} s; {} choices, {} after shrinking.\n",
        scenario.name,
        scenario.says,
        found.strategy,
        found.memory.name(),
        report::count(found.after),
        seen.time.as_secs_f64(),
        found.schedule.len(),
        shrunk.schedule.len(),
    ))?;
    output::say(rumpvm_explore::tell(&outcome, arguments.whole))?;
    let cpus = arguments.cpus.map_or_else(String::new, |cpus| format!(" --cpus {cpus}"));
    output::say(format_args!(
        "To see it again:\n  rumpvm explore {} --memory {}{cpus} --replay '{}'\n",
        scenario.name,
        found.memory.name(),
        text(&shrunk.schedule),
    ))
}

fn settings(arguments: &ExploreArgs, scenario: &Scenario, memory: Memory) -> Settings {
    rumpvm_explore::settings(scenario, memory, arguments.cpus.map(usize::from))
}

/// Runs one schedule.
fn replay(arguments: &ExploreArgs, scenario: &Scenario, schedule: &str) -> Result<Verdict> {
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
    if arguments.json {
        let failure = outcome.failure.as_ref().map(|failure| failure.message.clone());
        let hash = format!("{:016x}", outcome.hash);
        let seen = json!({ "scenario": scenario.name, "hash": hash, "failure": failure });
        output::say(seen)?;
    } else {
        output::say(rumpvm_explore::tell(&outcome, arguments.whole))?;
        output::say(format_args!("{} steps, hash {:016x}", outcome.steps, outcome.hash))?;
    }
    Ok(Verdict::of(outcome.failure.is_none()))
}

/// A schedule as it is printed and read.
fn text(schedule: &[Deviation]) -> String {
    let steps: Vec<String> = schedule.iter().map(Deviation::to_string).collect();
    steps.join(",")
}

fn as_json(scenario: &Scenario, seen: &Explored) -> Value {
    let found = seen.found.as_ref().map(|found| {
        json!({
            "kind": found.failure.kind.name(),
            "message": found.failure.message,
            "place": found.failure.place,
            "memory": found.memory.name(),
            "strategy": found.strategy,
            "after": found.after,
            "schedule": text(&found.schedule),
        })
    });
    json!({
        "scenario": scenario.name,
        "report": scenario.report,
        "schedules": seen.schedules,
        "redundant": seen.redundant,
        "points": seen.steps,
        "choices": seen.moments,
        "interleavings": seen.distinct,
        "pairs": seen.pairs,
        "exhausted": seen.exhausted,
        "hash": format!("{:016x}", seen.hash),
        "seconds": seen.time.as_secs_f64(),
        "found": found,
    })
}
