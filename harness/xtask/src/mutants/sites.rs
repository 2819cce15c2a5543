//! `cargo xtask mutants --sites`: one store, fence, wake-up or the like left out or split, place by place, without
//! building anything again; the explorer has to find it.
//!
//! Flow: the explorer's survey -> two children that sweep half of the places each -> names -> share killed,
//! survivors nobody has accepted -> verdict.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::child::Next;
use super::hunter::{Bag, Hunter};
use super::survivors::Accepted;
use crate::workspace;

/// For each flaw, unless something else is said. What is found at all is found within a few hundred, mostly.
pub(super) const SCHEDULES: u64 = 3_000;

const ACCEPTED: &str = "tests/mutants/sites.txt";

/// Of a hundred that are not equivalent.
const KILLED_AT_LEAST: usize = 90;

/// Children; each has a CPU to itself.
const CHILDREN: usize = 2;

/// A flaw can make a run spin outside of all that the explorer sees. A hunt works for 20 s at most, and so does the
/// survey before the first.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody gets so little of a CPU that this is not enough.
const FOR_GOOD: Duration = Duration::from_secs(900);

/// A flaw at a place.
#[derive(Debug)]
struct Site {
    /// File, line, column, flaw and source line, as lists of survivors name mutants.
    name: String,
}

/// What came of one of them.
#[derive(Clone, Debug)]
struct Outcome {
    number: usize,
    schedules: u64,
    /// How it was noticed.
    killed: Option<String>,
}

/// Sweeps all sites; an error if too few are killed or one survives unlisted.
pub(super) fn run(schedules: u64) -> Result<()> {
    let root = workspace::root();
    let accepted = fs::read_to_string(root.join(ACCEPTED)).context(ACCEPTED)?;
    let accepted = Accepted::parse(&accepted).context(ACCEPTED)?;
    let folder = workspace::metadata()?.target_directory.join("mutants").into_std_path_buf();
    println!("xtask: the explorer of the tree as it is");
    // A folder of its own: in that of the patches cargo would take the last mutant for this tree.
    let hunter = Hunter::build(&root, &folder.join("sites"))?;
    let sites = read(&hunter, &root)?;
    println!("xtask: {} flaws can be put in", sites.len());

    let started = Instant::now();
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| -> Result<()> {
        let start = |first| {
            let (hunter, sites, outcomes) = (&hunter, &sites, &outcomes);
            scope.spawn(move || sweep(hunter, sites, first, schedules, outcomes))
        };
        let children: Vec<_> = (0..CHILDREN).map(start).collect();
        children.into_iter().try_for_each(|child| child.join().expect("it does not panic"))
    })?;
    let mut outcomes = outcomes.into_inner().expect("nobody panicked");
    outcomes.sort_by_key(|outcome: &Outcome| outcome.number);
    let total: u64 = outcomes.iter().map(|outcome| outcome.schedules).sum();
    println!("xtask: {total} schedules in {:.0} s", started.elapsed().as_secs_f64());
    judge(&sites, &outcomes, accepted)
}

/// What the survey says, and what the source says there.
fn read(hunter: &Hunter, root: &Path) -> Result<Vec<Site>> {
    let mut files: HashMap<String, String> = HashMap::new();
    let mut sites = Vec::new();
    for fields in hunter.lines(&["sites"])? {
        let [_, flaw, file, line, column] = &fields[..] else {
            bail!("the explorer says {fields:?}");
        };
        if !files.contains_key(file) {
            let text = fs::read_to_string(root.join(file)).with_context(|| file.clone())?;
            files.insert(file.clone(), text);
        }
        let number: usize = line.parse()?;
        let text = files[file].lines().nth(number - 1).unwrap_or_default().trim();
        sites.push(Site { name: format!("{file}:{line}:{column}: {flaw}: {text}") });
    }
    Ok(sites)
}

/// How a child ends that finds fault with itself (`rumpvm_hosted::explored::BROKEN`).
const BROKEN: &str = "exit status: 70";

/// Sweeps every [`CHILDREN`]th site from `first` on. A flaw that ends the child, or makes it fall silent, was
/// noticed; another child goes on behind it. But if the explorer itself is broken, nothing is known.
fn sweep(
    hunter: &Hunter,
    sites: &[Site],
    first: usize,
    schedules: u64,
    outcomes: &Mutex<Vec<Outcome>>,
) -> Result<()> {
    let note = |number: usize, schedules: u64, killed: Option<String>| {
        let name = &sites[number].name;
        println!("xtask: {} {name}", killed.as_deref().unwrap_or("SURVIVED"));
        let outcome = Outcome { number, schedules, killed };
        outcomes.lock().expect("nobody panics with it").push(outcome);
    };
    let mut first = first;
    while first < sites.len() {
        let [from, step, most] = [first, CHILDREN, schedules as usize].map(|it| it.to_string());
        let mut child = hunter.start(&["sweep", &from, &step, &most])?;
        let (mut begun, mut worked, mut heard) = (None, Duration::ZERO, Instant::now());
        let broke = loop {
            let next = child.next(Duration::from_secs(1));
            let now = child.cpu_time();
            if let Next::Silence = next {
                if now.saturating_sub(worked) > PATIENCE || heard.elapsed() > FOR_GOOD {
                    break "it never ends".to_owned();
                }
                continue;
            }
            (worked, heard) = (now, Instant::now());
            match next {
                Next::Line(fields) if fields[0] == "begin" => begun = Some(fields[1].parse()?),
                Next::Line(fields) => {
                    let bag = Bag::parse(&fields[2..])?;
                    let killed = bag.found.map(|[_, kind, _]| kind);
                    note(fields[1].parse()?, bag.schedules, killed);
                }
                Next::End(true, _) => return Ok(()),
                Next::End(false, how) => break how,
                Next::Silence => {}
            }
        };
        ensure!(!broke.starts_with(BROKEN), "the explorer at site {begun:?}: {broke}");
        let number: usize = begun.with_context(|| format!("the explorer broke down: {broke}"))?;
        ensure!(number < sites.len(), "the explorer is at site {number} of {}", sites.len());
        note(number, 0, Some(broke));
        first = number + CHILDREN;
    }
    Ok(())
}

/// Says how it went.
fn judge(sites: &[Site], outcomes: &[Outcome], accepted: Accepted) -> Result<()> {
    let names = |killed: bool| -> Vec<String> {
        let those = outcomes.iter().filter(|outcome| outcome.killed.is_some() == killed);
        those.map(|outcome| sites[outcome.number].name.clone()).collect()
    };
    let (killed, survived) = (names(true), names(false));
    let equivalent = survived.iter().filter(|name| accepted.is_equivalent(name)).count();
    let real = outcomes.len() - equivalent;
    println!(
        "xtask: {real} flaws that are not equivalent to none (and {equivalent} that are): {} killed, {} survived",
        killed.len(),
        survived.len() - equivalent,
    );
    let complaints = accepted.compare(&survived, []);
    for name in &complaints.dead {
        println!("xtask: {ACCEPTED} lists what does not survive any more: {name}");
    }
    for name in &complaints.unlisted {
        println!("xtask: survived, and has no reason in {ACCEPTED}: {name}");
    }
    if killed.len() * 100 < real * KILLED_AT_LEAST {
        bail!("{} of {real} killed: less than {KILLED_AT_LEAST} %", killed.len());
    }
    if !complaints.unlisted.is_empty() {
        bail!("{} flaws survived that {ACCEPTED} does not list", complaints.unlisted.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(killed: usize, survived: usize) -> (Vec<Site>, Vec<Outcome>) {
        let all = (0..killed + survived).map(|number| {
            let alive = number >= killed;
            let what = if alive { "drop store: alive" } else { "drop store: dead" };
            let site = Site { name: format!("a.rs:{number}:1: {what}") };
            (site, Outcome { number, schedules: 1, killed: (!alive).then(|| "leak".to_owned()) })
        });
        all.unzip()
    }

    fn accepting(reason: &str, survivors: usize) -> Accepted {
        let names = "a.rs: drop store: alive\n".repeat(survivors);
        Accepted::parse(&format!("# {reason}\n{names}")).unwrap()
    }

    #[test]
    fn nine_tenths_of_the_flaws_that_are_not_equivalent_have_to_be_found() {
        let (sites, some) = outcomes(8, 2);
        assert!(judge(&sites, &some, accepting("Statistics.", 2)).is_err());
        assert!(judge(&sites, &some, accepting("Equivalent: why.", 2)).is_ok());
        let (sites, most) = outcomes(9, 1);
        assert!(judge(&sites, &most, accepting("Statistics.", 1)).is_ok());
    }

    #[test]
    fn a_flaw_that_survives_unlisted_fails_the_run() {
        let (sites, outcomes) = outcomes(99, 2);
        assert!(judge(&sites, &outcomes, accepting("Statistics.", 1)).is_err());
    }

    #[test]
    fn a_child_that_dies_of_a_flaw_has_noticed_it_and_another_goes_on() {
        let folder = std::env::temp_dir().join(format!("rumpvm-sweep-{}", std::process::id()));
        let program = "#!/bin/sh\necho \"begin\t$2\"\n[ $2 = 1 ] && kill -SEGV $$\n\
            echo \"survived\t$2\t7\t0.1\"\n";
        let hunter = Hunter::pretend(&folder, program);
        let (sites, _) = outcomes(0, 3);
        let seen = Mutex::new(Vec::new());
        sweep(&hunter, &sites, 1, 5, &seen).unwrap();
        sweep(&hunter, &sites, 2, 5, &seen).unwrap();
        let broken = Hunter::pretend(&folder, "#!/bin/sh\necho \"begin\t$2\"\nexit 70\n");
        assert!(sweep(&broken, &sites, 0, 5, &seen).is_err());
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.len(), 2);
        assert!(seen[0].killed.is_some() && seen[1].killed.is_none());
        fs::remove_file(folder).unwrap();
    }
}
