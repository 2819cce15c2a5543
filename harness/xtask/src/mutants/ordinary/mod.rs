//! `cargo xtask mutants --ordinary`: cargo-mutants over the core of the component, without its hours of building.
//!
//! A mutant is one operator, constant, condition or function body changed; memory orders, fences and wake-ups
//! are not. All are built into the tests at once, each behind a switch that the environment sets; what cannot be
//! switched is built by itself.
//!
//! Flow: list -> one build -> tests without mutants -> for each mutant the tests, quickest first, until one notices
//! -> share killed, survivors nobody has accepted -> verdict.

mod build;
mod list;
mod record;
mod schema;
mod trial;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};

use self::build::{Sorted, Workshop};
use self::list::Mutant;
use self::record::{Record, fingerprint};
use self::trial::{Jury, Outcome, tally};
use super::scratch::Scratch;
use super::survivors::Accepted;
use crate::workspace;

/// The targets that have to notice, those first that notice most in a second. The state matrix and the cases with every
/// failure take longer than all of them together, so they are left out.
const TESTS: [&str; 14] = [
    "locks",
    UNIT,
    "classic",
    "kernel_map",
    "kernel_memory",
    "device",
    "schedules",
    "sharing",
    "cases",
    "processes",
    "threads",
    "random",
    "differ",
    "out_of_memory",
];
/// The component's own unit tests: nearly all are of `sync`, so what is elsewhere they are asked last.
const UNIT: &str = "rumpvm";
const UNIT_OF: &str = "rumpvm/src/sync/";
/// Trials at a time.
const WORKERS: usize = 2;
/// Of a hundred viable mutants.
const KILLED_AT_LEAST: usize = 90;
/// Times that a run goes over the files, a few mutants of each at a time.
const PASSES: usize = 16;
const ACCEPTED: &str = "tests/mutants/ordinary.txt";

/// Which mutants to try.
pub(super) struct Choice<'a> {
    /// Every Nth, beginning with number K.
    pub(super) shard: Option<(usize, usize)>,
    /// Only what survived when it was last tried.
    pub(super) survivors: bool,
    /// Which tests to ask; all if none is named.
    pub(super) tests: &'a [String],
}

/// Runs the mutants of `choice`; an error if too few are killed or one survives unlisted.
pub(super) fn run(choice: &Choice<'_>) -> Result<()> {
    let root = workspace::root();
    let accepted = fs::read_to_string(root.join(ACCEPTED)).context(ACCEPTED)?;
    let accepted = Accepted::parse(&accepted).context(ACCEPTED)?;
    let folder = workspace::metadata()?.target_directory.join("mutants").into_std_path_buf();
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;

    let tests = chosen(choice.tests)?;
    let mutants = list::mutants(&root)?;
    let fingerprint = fingerprint(&Scratch::of(&root, &folder)?)?;
    let mut record = Record::open(&folder.join("ordinary.tsv"), &fingerprint, choice.survivors)?;
    println!("xtask: {} mutants into one build", mutants.len());
    let workshop = Workshop { root: &root, folder: &folder, tests: &tests };
    let mut sorted = Sorted::default();
    for (number, mutant) in (1..).zip(&mutants) {
        if record.outcomes.get(&mutant.name) == Some(&Outcome::Unviable) {
            sorted.unviable.insert(number);
        }
    }
    let programs = workshop.build_all(&mutants, &mut sorted)?;
    for number in &sorted.unviable {
        record.add(&mutants[number - 1].name, Outcome::Unviable)?;
    }
    let jury = Jury::new(&programs, &tests, folder.join("schemata/tests"))?;

    let record = Mutex::new(record);
    let mine = draw(mutants.len(), choice.shard);
    try_switched(&mutants, &mine, &sorted, (&jury, &tests), &record)?;
    let mut record = record.into_inner().expect("nobody panicked");
    try_alone(&mutants, &mine, &sorted, &workshop, &jury, &mut record)?;
    let of = |number: &usize| {
        let name = &mutants[number - 1].name;
        record.outcomes.get(name).map(|outcome| (name.clone(), outcome.clone()))
    };
    let asked: BTreeSet<usize> = mine.iter().copied().collect();
    let others = (1..).zip(&mutants).filter(|(number, _)| !asked.contains(number));
    let unasked: Vec<&str> = others.map(|(_, mutant)| mutant.name.as_str()).collect();
    judge(&mine.iter().filter_map(of).collect::<Vec<_>>(), &unasked, accepted)
}

/// The numbers of a shard's mutants, or of all, from 1 to `count`. A run that is stopped has tried an even sample.
fn draw(count: usize, shard: Option<(usize, usize)>) -> Vec<usize> {
    let (first, step) = shard.unwrap_or((0, 1));
    let pass = |begin: usize| (1 + first + begin * step..=count).step_by(PASSES * step);
    (0..PASSES).flat_map(pass).collect()
}

/// The tests called `names`, or all of them.
fn chosen(names: &[String]) -> Result<Vec<&'static str>> {
    if let Some(name) = names.iter().find(|name| !TESTS.contains(&name.as_str())) {
        bail!("{name} is none of the tests: {}", TESTS.join(", "));
    }
    let is_chosen = |test: &&str| names.is_empty() || names.iter().any(|name| name == test);
    Ok(TESTS.into_iter().filter(is_chosen).collect())
}

/// In which order `mutant` is shown to `tests`.
fn order<'t>(mutant: &Mutant, tests: &[&'t str]) -> Vec<&'t str> {
    let mut order = tests.to_vec();
    if order.contains(&UNIT) && !mutant.file.starts_with(UNIT_OF) {
        order.retain(|test| *test != UNIT);
        order.push(UNIT);
    }
    order
}

/// Tries those that have a switch.
fn try_switched(
    mutants: &[Mutant],
    mine: &[usize],
    sorted: &Sorted,
    (jury, tests): (&Jury, &[&str]),
    record: &Mutex<Record>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(&number) = mine.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = &mutants[number - 1].name;
            let known = record.lock().expect("nobody panics with it").outcomes.contains_key(name);
            if known || sorted.alone.contains(&number) {
                continue;
            }
            let outcome = jury.judge(number, &order(&mutants[number - 1], tests))?;
            if outcome == Outcome::Survived {
                println!("xtask: SURVIVED {name}");
            }
            record.lock().expect("nobody panics with it").add(name, outcome)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
    })
}

/// Tries those that cannot be switched, with a build for each test that is asked.
fn try_alone(
    mutants: &[Mutant],
    mine: &[usize],
    sorted: &Sorted,
    workshop: &Workshop<'_>,
    jury: &Jury,
    record: &mut Record,
) -> Result<()> {
    for number in mine.iter().filter(|number| sorted.alone.contains(number)) {
        let mutant = &mutants[number - 1];
        if record.outcomes.contains_key(&mutant.name) {
            continue;
        }
        let outcome = try_one(mutant, workshop, jury)?;
        println!("xtask: built by itself: {}: {outcome:?}", mutant.name);
        record.add(&mutant.name, outcome)?;
    }
    Ok(())
}

fn try_one(mutant: &Mutant, workshop: &Workshop<'_>, jury: &Jury) -> Result<Outcome> {
    let Some(scratch) = workshop.copy_one(mutant)? else { return Ok(Outcome::Unviable) };
    for test in order(mutant, workshop.tests) {
        let Some(programs) = workshop.build_one(&scratch, test)? else {
            return Ok(Outcome::Unviable);
        };
        let outcome = jury.with(&programs, scratch.tree.join("tests")).judge(0, &[test])?;
        if outcome != Outcome::Survived {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Survived)
}

/// Says how it went. What timed out was noticed: a test that hangs fails. `unasked` are of other shards.
fn judge(outcomes: &[(String, Outcome)], unasked: &[&str], accepted: Accepted) -> Result<()> {
    let names = |which: fn(&Outcome) -> bool| -> Vec<String> {
        let those = outcomes.iter().filter(|(_, outcome)| which(outcome));
        those.map(|(name, _)| name.clone()).collect()
    };
    let late = names(|outcome| matches!(outcome, Outcome::TimedOut(_)));
    let killed = [names(|outcome| matches!(outcome, Outcome::Killed(_))), late.clone()].concat();
    let missed = names(|outcome| *outcome == Outcome::Survived);
    let viable = killed.len() + missed.len();
    println!(
        "xtask: {viable} viable mutants (and {} that do not compile): {} killed, {} of them by a \
         time-out; {} survived",
        outcomes.len() - viable,
        killed.len(),
        late.len(),
        missed.len(),
    );
    for (test, number) in tally(outcomes.iter().map(|(_, outcome)| outcome)) {
        println!("xtask: {number} killed by {test}");
    }
    let complaints = accepted.compare(&missed, unasked.iter().copied());
    for name in &complaints.dead {
        println!("xtask: {ACCEPTED} lists what does not survive any more: {name}");
    }
    for mutant in &complaints.unlisted {
        println!("xtask: survived, and has no reason in {ACCEPTED}: {mutant}");
    }
    if killed.len() * 100 < viable * KILLED_AT_LEAST {
        bail!("{} of {viable} killed: less than {KILLED_AT_LEAST} %", killed.len());
    }
    if !complaints.unlisted.is_empty() {
        bail!("{} mutants survived that {ACCEPTED} does not list", complaints.unlisted.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(killed: usize, survived: usize) -> Vec<(String, Outcome)> {
        let all = (0..killed + survived).map(|number| {
            if number < killed {
                (format!("a.rs:{number}:1: caught"), Outcome::Killed("cases".to_owned()))
            } else {
                (format!("a.rs:{number}:1: missed"), Outcome::Survived)
            }
        });
        all.chain([("a.rs:0:1: unviable".to_owned(), Outcome::Unviable)]).collect()
    }

    fn accepting(survivors: usize) -> Accepted {
        Accepted::parse(&format!("# Why.\n{}", "a.rs: missed\n".repeat(survivors))).unwrap()
    }

    #[test]
    fn nine_tenths_of_the_viable_mutants_have_to_die() {
        assert!(judge(&outcomes(9, 1), &[], accepting(1)).is_ok());
        assert!(judge(&outcomes(17, 2), &[], accepting(2)).is_err());
    }

    #[test]
    fn a_shard_is_drawn_evenly_and_so_is_each_part_of_it() {
        assert_eq!(draw(70, Some((1, 4)))[..4], [2, 66, 6, 70]);
        let mut all: Vec<_> = (0..3).flat_map(|first| draw(100, Some((first, 3)))).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(1..=100) && draw(100, None).len() == 100);
    }

    #[test]
    fn a_survivor_that_nobody_has_accepted_fails_the_run() {
        assert!(judge(&outcomes(99, 1), &[], accepting(0)).is_err());
        assert!(judge(&outcomes(0, 0), &[], accepting(0)).is_ok());
    }
}
