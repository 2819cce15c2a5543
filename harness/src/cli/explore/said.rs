//! What is said of scenarios, of what came of exploring them, and of one schedule: to people, or to programs.
//!
//! Flow: result -> (shrink, run again with the story) -> lines, or a JSON object.

use std::io::Write;

use anyhow::Result;
use rumpvm_explore::{Explored, Found, Memory, Scenario, Shrunk, tell, why};
use rumpvm_hosted::explored::{Deviation, Failure, Outcome, Settings};
use serde_json::{Value, json};

use super::{ExploreArgs, Sum, settings};
use crate::cli::output::say_on;
use crate::report;

/// What each scenario does, and which report it comes from.
pub(super) fn list(scenarios: &[Scenario], json: bool, out: &mut dyn Write) -> Result<()> {
    let widest = |of: fn(&Scenario) -> &'static str| {
        scenarios.iter().map(|scenario| of(scenario).chars().count()).max().unwrap_or(0)
    };
    let (names, reports) = (widest(|it| it.name), widest(|it| it.report));
    for Scenario { name, report, says, .. } in scenarios {
        if json {
            say_on(out, json!({ "scenario": name, "report": report, "says": says }))?;
        } else {
            say_on(out, format_args!("{name:<names$}  {report:<reports$}  {says}"))?;
        }
    }
    Ok(())
}

/// A line, or an object, for a scenario; with the story if it failed.
pub(super) fn explored(
    arguments: &ExploreArgs,
    scenario: &Scenario,
    seen: &Explored,
    out: &mut dyn Write,
) -> Result<()> {
    let told =
        seen.found.as_ref().map(|found| Told::new(arguments, scenario, found)).transpose()?;
    if arguments.json {
        return say_on(out, as_json(scenario, seen, told.as_ref()));
    }
    let verdict = if told.is_none() { "ok" } else { "FAILED" };
    let seconds = seen.time.as_secs_f64();
    let more = if seen.more { "more than " } else { "" };
    let all = match (arguments.exhaustive, seen.exhausted) {
        (_, Some(bound)) => format!(", all with {}", number(bound.into(), "preemption")),
        (Some(bound), None) if told.is_none() => {
            format!(", but not all with {}", number(bound.into(), "preemption"))
        }
        _ => String::new(),
    };
    say_on(
        out,
        format_args!(
            "{:<35} {verdict:<6} {}, {}/s, {} points/s; {more}{}, {} of places{all}",
            scenario.name,
            number(seen.schedules, "schedule"),
            report::short(seen.schedules as f64 / seconds),
            report::short(seen.steps as f64 / seconds),
            number(seen.distinct, "interleaving"),
            number(seen.pairs, "pair"),
        ),
    )?;
    told.map_or(Ok(()), |told| told.say(arguments, scenario, seen, out))
}

/// What came of all.
pub(super) fn sum(sum: &Sum, out: &mut dyn Write) -> Result<()> {
    say_on(
        out,
        format_args!(
            "{}, {} schedules, {} points, {} failed",
            number(sum.scenarios, "scenario"),
            report::short(sum.schedules as f64),
            report::short(sum.points as f64),
            sum.failed,
        ),
    )
}

/// A failure, shrunk and run again.
struct Told<'a> {
    found: &'a Found,
    shrunk: Shrunk,
    outcome: Outcome,
    /// The command that runs it again.
    again: String,
}

impl<'a> Told<'a> {
    fn new(arguments: &ExploreArgs, scenario: &Scenario, found: &'a Found) -> Result<Self> {
        let settings = settings(arguments, scenario, found.memory);
        let shrunk = rumpvm_explore::shrink(scenario, settings, &found.schedule, &found.failure)?;
        let with_story = Settings { story: true, ..settings };
        let outcome = rumpvm_explore::replay(scenario, with_story, &shrunk.schedule)?;
        let again = command(arguments, scenario, found.memory, &shrunk.schedule);
        Ok(Self { found, shrunk, outcome, again })
    }

    fn say(
        &self,
        arguments: &ExploreArgs,
        scenario: &Scenario,
        seen: &Explored,
        out: &mut dyn Write,
    ) -> Result<()> {
        let Self { found, shrunk, outcome, again } = self;
        say_on(
            out,
            format_args!(
                "\n{}: {}\n{}\nFound by {} in memory order {} after {} and {:.2} s; {}, {} after shrinking.\n",
                scenario.name,
                scenario.says,
                why(&found.failure),
                found.strategy,
                found.memory.name(),
                number(found.after, "schedule"),
                seen.time.as_secs_f64(),
                number(found.schedule.len() as u64, "choice"),
                shrunk.schedule.len(),
            ),
        )?;
        say_on(out, tell(outcome, arguments.whole))?;
        if !shrunk.repeats || outcome.failure.is_none() {
            say_on(out, "This schedule did not fail again as it did: the explorer is wrong.\n")?;
        }
        say_on(out, format_args!("To see it again:\n  {again}\n"))
    }
}

/// The story of a schedule that was run again, and which of its choices came to nothing.
pub(super) fn replayed(
    arguments: &ExploreArgs,
    scenario: &Scenario,
    schedule: &[Deviation],
    outcome: &Outcome,
    out: &mut dyn Write,
) -> Result<()> {
    let in_vain = schedule.iter().filter(|choice| !outcome.schedule.contains(choice));
    let in_vain: Vec<Deviation> = in_vain.copied().collect();
    if arguments.json {
        return say_on(
            out,
            json!({
                "scenario": scenario.name,
                "points": outcome.steps,
                "hash": format!("{:016x}", outcome.hash),
                "failure": outcome.failure.as_ref().map(failure),
                "in_vain": text(&in_vain),
                "story": story(outcome),
            }),
        );
    }
    say_on(out, tell(outcome, arguments.whole))?;
    if outcome.failure.is_none() {
        say_on(out, "Nothing failed.")?;
    }
    if !in_vain.is_empty() {
        say_on(out, format_args!("Never came up, or changed nothing: {}", text(&in_vain)))?;
    }
    say_on(out, format_args!("{}, hash {:016x}", number(outcome.steps, "step"), outcome.hash))
}

/// The command that runs `schedule` again.
fn command(
    arguments: &ExploreArgs,
    scenario: &Scenario,
    memory: Memory,
    schedule: &[Deviation],
) -> String {
    let cpus = arguments.cpus.map_or_else(String::new, |cpus| format!(" --cpus {cpus}"));
    let (name, memory, schedule) = (scenario.name, memory.name(), text(schedule));
    format!("rumpvm explore {name} --memory {memory}{cpus} --replay '{schedule}'")
}

/// A schedule as it is printed and read.
fn text(schedule: &[Deviation]) -> String {
    let steps: Vec<String> = schedule.iter().map(Deviation::to_string).collect();
    steps.join(",")
}

/// `1 choice`, `2 choices`.
fn number(count: u64, what: &str) -> String {
    format!("{} {what}{}", report::count(count), if count == 1 { "" } else { "s" })
}

fn as_json(scenario: &Scenario, seen: &Explored, told: Option<&Told<'_>>) -> Value {
    let found = told.map(|Told { found, shrunk, outcome, again }| {
        json!({
            "kind": found.failure.kind.name(),
            "message": found.failure.message,
            "place": found.failure.place,
            "memory": found.memory.name(),
            "strategy": found.strategy,
            "after": found.after,
            "schedule": text(&found.schedule),
            "shrunk": text(&shrunk.schedule),
            "repeats": shrunk.repeats && outcome.failure.is_some(),
            "replay": again,
            "story": story(outcome),
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

fn failure(failure: &Failure) -> Value {
    json!({ "kind": failure.kind.name(), "message": failure.message, "place": failure.place })
}

/// The whole story: an object for each step.
fn story(outcome: &Outcome) -> Vec<Value> {
    let steps = outcome.story.iter().map(|line| {
        json!({
            "cpu": line.cpu,
            "agent": line.agent.index(),
            "who": line.who,
            "what": line.what,
            "function": line.function,
            "place": line.site.map(|site| format!("{}:{}", site.file(), site.line())),
            "held": line.held,
        })
    });
    steps.collect()
}
