//! The explorer for programs: lines of fields, separated by tabs. People use `rumpvm explore`.
//!
//! | call | prints |
//! |---|---|
//! | `list` | each scenario's name |
//! | `hunt SECONDS SCENARIO...` | `found` or `nothing`, schedules, seconds; then scenario, kind, message |
//! | `sites` | number, flaw, file, line, column of each flaw that can be put in at run time |
//! | `sweep FIRST STEP SCHEDULES` | for every `STEP`th of them: `begin`, number; then `killed` or `survived`, number, schedules, and as above |
//! | `try SCHEDULES NUMBER...` | the same for these |
//!
//! It is a program of its own because it is built for each mutant: with nothing of the command line in it that
//! takes seconds. What a flaw does to memory may end it at once; so it says what it begins.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rumpvm_explore::{Bag, Limits, Scenario, hunt, scenarios, survey, try_flaw};

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => scenarios::all().iter().for_each(|scenario| println!("{}", scenario.name)),
        ["hunt", seconds, ref names @ ..] => {
            let time = Duration::from_secs_f64(seconds.parse().context("SECONDS")?);
            let scenarios = named(names)?;
            let bag = hunt(&scenarios, Limits { schedules: u64::MAX, time, seed: 0 })?;
            let verdict = if bag.found.is_some() { "found" } else { "nothing" };
            println!("{verdict}\t{}", fields(&bag));
        }
        ["sites"] => {
            for (number, place) in survey(&scenarios::all())?.iter().enumerate() {
                let (site, flaw) = (place.mutation.site, place.mutation.flaw.name());
                let (line, column) = (site.line(), site.column());
                println!("{number}\t{flaw}\t{}\t{line}\t{column}", site.file());
            }
        }
        ["sweep", first, step, schedules] => {
            let (first, step): (usize, usize) = (first.parse()?, step.parse()?);
            sweep(schedules.parse()?, |number| number >= first && (number - first) % step == 0)?;
        }
        ["try", schedules, ref numbers @ ..] => {
            sweep(schedules.parse()?, |number| numbers.contains(&number.to_string().as_str()))?;
        }
        _ => bail!(
            "list | hunt SECONDS SCENARIO... | sites | sweep FIRST STEP SCHEDULES | try SCHEDULES NUMBER..."
        ),
    }
    Ok(())
}

fn named(names: &[&str]) -> Result<Vec<Scenario>> {
    let one = |name: &&str| {
        scenarios::named(name).with_context(|| format!("there is no scenario called {name}"))
    };
    names.iter().map(one).collect()
}

fn sweep(schedules: u64, which: impl Fn(usize) -> bool) -> Result<()> {
    let places = survey(&scenarios::all())?;
    for (number, place) in places.iter().enumerate().filter(|(number, _)| which(*number)) {
        println!("begin\t{number}");
        let bag = try_flaw(place, schedules)?;
        let verdict = if bag.found.is_some() { "killed" } else { "survived" };
        println!("{verdict}\t{number}\t{}", fields(&bag));
    }
    Ok(())
}

/// Schedules and seconds; scenario, kind and message of what was found.
fn fields(bag: &Bag) -> String {
    let mut line = format!("{}\t{:.2}", bag.schedules, bag.time.as_secs_f64());
    if let Some((scenario, found)) = &bag.found {
        let message = found.failure.message.replace(['\n', '\t'], " ");
        line += &format!("\t{scenario}\t{}\t{message}", found.failure.kind.name());
    }
    line
}
