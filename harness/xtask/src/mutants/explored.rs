//! `cargo xtask mutants`: each patch of `tests/mutants` into a copy of the tree, and the explorer has to find it.
//!
//! Flow: patches -> the clean tree passes their scenarios -> for each: apply, build, hunt -> table -> verdict.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::hunter::{Bag, Hunter};
use super::patch::{self, Patch};
use super::scratch::Scratch;
use crate::workspace;

const FOLDER: &str = "tests/mutants";

/// For each mutant.
const BUDGET: Duration = Duration::from_secs(60);

/// For each scenario of the clean tree: enough to see that it is not the scenario that is wrong.
const CLEAN: Duration = Duration::from_secs(2);

/// What came of one patch.
struct Row<'a> {
    patch: &'a Patch,
    outcome: Result<Bag>,
}

/// Runs the patches called `names`, or all; an error if one of them is not found, or cannot be tried.
pub(super) fn run(names: &[String]) -> Result<()> {
    let root = workspace::root();
    let patches = patch::read(&root.join(FOLDER), names)?;
    if patches.is_empty() {
        bail!("there are no patches in {FOLDER}");
    }
    let folder = workspace::metadata()?.target_directory.join("mutants").into_std_path_buf();
    let scratch = Scratch::new(&root, &folder.join("tree"))?;
    let target = folder.join("explored");
    try_clean(&scratch, &target, &patches)?;

    let mut rows = Vec::new();
    for patch in &patches {
        println!("xtask: {}: {}", patch.name, patch.header.flaw);
        let outcome = try_patch(&scratch, &target, patch);
        if let Err(error) = &outcome {
            println!("xtask: {}: {error:#}", patch.name);
        }
        rows.push(Row { patch, outcome });
    }
    print(&rows);
    judge(&rows)
}

/// The scenarios of `patches` exist, and pass where no flaw is.
fn try_clean(scratch: &Scratch, target: &Path, patches: &[Patch]) -> Result<()> {
    println!("xtask: the explorer of the tree as it is");
    let hunter = Hunter::build(&scratch.tree, target)?;
    let known = hunter.scenarios()?;
    let mut needed = Vec::new();
    for patch in patches {
        for name in &patch.header.scenarios {
            if !known.contains(name) {
                bail!("{}: there is no scenario called {name}", patch.path.display());
            }
            if !needed.contains(name) {
                needed.push(name.clone());
            }
        }
    }
    let bag = hunter.hunt(&needed, CLEAN * needed.len() as u32)?;
    if let Some([scenario, kind, message]) = bag.found {
        bail!("{scenario} fails with no flaw put in: {kind}: {message}");
    }
    println!("xtask: {} scenarios pass {} schedules of it", needed.len(), bag.schedules);
    Ok(())
}

fn try_patch(scratch: &Scratch, target: &Path, patch: &Patch) -> Result<Bag> {
    scratch.restore()?;
    scratch.apply(&patch.path)?;
    let started = Instant::now();
    let hunter = Hunter::build(&scratch.tree, target)?;
    let built = started.elapsed().as_secs_f64();
    let bag = hunter.hunt(&patch.header.scenarios, BUDGET)?;
    match &bag.found {
        Some([scenario, kind, message]) => println!(
            "xtask: {}: {kind} in {scenario} after {} schedules, {:.2} s (built in {built:.1} s): {message}",
            patch.name, bag.schedules, bag.seconds,
        ),
        None => println!("xtask: {}: not found in {} schedules", patch.name, bag.schedules),
    }
    Ok(bag)
}

fn print(rows: &[Row<'_>]) {
    let name = rows.iter().map(|row| row.patch.name.len()).max().unwrap_or(0);
    let report = rows.iter().map(|row| row.patch.header.report.len()).max().unwrap_or(0);
    println!(
        "\n{:name$}  {:report$}  {:30}  {:>9}  {:>7}",
        "mutant", "report", "found as", "schedules", "seconds"
    );
    for row in rows {
        let (kind, schedules, seconds) = match &row.outcome {
            Ok(bag) => {
                let kind = bag.found.as_ref().map_or("NOT FOUND", |[_, kind, _]| kind);
                (kind, bag.schedules.to_string(), format!("{:.2}", bag.seconds))
            }
            Err(_) => ("NOT TRIED", String::new(), String::new()),
        };
        println!(
            "{:name$}  {:report$}  {kind:30}  {schedules:>9}  {seconds:>7}",
            row.patch.name, row.patch.header.report
        );
    }
}

/// Says how long it took; an error if anything was not found.
fn judge(rows: &[Row<'_>]) -> Result<()> {
    let bags = || rows.iter().filter_map(|row| row.outcome.as_ref().ok());
    let mut seconds: Vec<f64> =
        bags().filter(|bag| bag.found.is_some()).map(|bag| bag.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    if let (Some(median), Some(slowest)) = (seconds.get(seconds.len() / 2), seconds.last()) {
        println!("\nxtask: median {median:.2} s, slowest {slowest:.2} s");
    }
    for row in rows {
        if let Err(error) = &row.outcome {
            println!("xtask: {}: {error:#}", row.patch.path.display());
        }
    }
    let lost = rows.len() - seconds.len();
    if lost > 0 {
        bail!("{lost} of {} mutants were not found within {} s", rows.len(), BUDGET.as_secs());
    }
    println!("xtask: all {} mutants found", rows.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::patch::Header;

    fn patch() -> Patch {
        let header = Header { report: String::new(), flaw: String::new(), scenarios: Vec::new() };
        Patch { name: "one".into(), path: "one.patch".into(), header }
    }

    fn bag(found: bool) -> Bag {
        let found = found.then(|| ["one", "deadlock", "all wait"].map(str::to_owned));
        Bag { schedules: 1, seconds: 1.0, found }
    }

    #[test]
    fn a_mutant_that_is_not_found_or_cannot_be_tried_fails_the_run() {
        let patch = patch();
        let rows = |last: Result<Bag>| {
            [Row { patch: &patch, outcome: Ok(bag(true)) }, Row { patch: &patch, outcome: last }]
        };
        assert!(judge(&rows(Ok(bag(true)))).is_ok());
        assert!(judge(&rows(Ok(bag(false)))).is_err());
        assert!(judge(&rows(Err(anyhow::anyhow!("no longer applies")))).is_err());
    }

    #[test]
    fn every_patch_of_this_tree_has_a_good_header() {
        patch::read(&workspace::root().join(FOLDER), &[]).unwrap();
    }
}
