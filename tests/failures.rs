//! Every case of `rumpvm-cases`, with each of its allocations, reads and writes failing in turn.
//!
//! A case is written for a machine on which nothing fails, so one of its expectations may end it; it has to say
//! then that something was refused. Nothing else may be wrong, then or later: what the case left is ended, and
//! the machine is sound and empty, down to the last record on the heap.
//!
//! Flow:  case x format x [`Failing`] x n -> the case, ended or not ([`story`]) -> [`ending`] -> `check`,
//!        TLBs, frames, records; memory that is zero on first touch (invariants 4, 6, 11, 12 of DESIGN).

#[path = "failures/ending.rs"]
mod ending;
#[path = "failures/story.rs"]
mod story;

use rumpvm::Vm;
use rumpvm_arch::{Format, I386, Pae, X86_64, X86_64La57};
use rumpvm_cases::{Case, all};
use rumpvm_harness::machine::Machine;
use rumpvm_hosted::Hosted;
use rumpvm_hosted::explored::records_here;
use rumpvm_platform::Scarce;

/// What a case is promised.
const MEMORY: u64 = 16 << 20;

/// More steps than any case makes that could fail.
const MANY: u64 = 20_000;

/// Beyond so many n goes on in steps of a quarter of itself, unless [`everything`] is wanted. Some two dozen cases have more
/// steps: they do the same with each of many pages.
const ONE_BY_ONE: u64 = 100;

/// The same where each n takes a machine of its own.
const APIECE: u64 = 12;

/// Formats that share the cases out among them: what fails is the same code in all.
const SHARED_OUT: usize = 3;

/// `RUMPVM_FAILURES=all` asks for every n and gives every case to each format. That takes half an hour.
fn everything() -> bool {
    std::env::var_os("RUMPVM_FAILURES").is_some_and(|value| value == "all")
}

/// Cases of one format are run by so many threads of the host.
const CREWS: usize = 2;

/// Cases of this subject take frames until there are none, and wait for them to come back. To them a failure that lasts
/// is one that they bring about themselves.
const OF_FRAMES: &str = "frames";

/// These hold frames in their hands, and what they hold when they end early is nobody's to end. All of a subject, or
/// one.
const BY_HAND: [(&str, &str); 2] = [
    (OF_FRAMES, ""),
    (
        "pmap",
        "entering_fresh_frames_ends_at_the_first_page_that_is_mapped_and_takes_no_frame_for_it",
    ),
];

/// What fails, and how often.
#[derive(Clone, Copy, Debug)]
enum Failing {
    /// The n-th one.
    Once(Scarce),
    /// All from the n-th on.
    Lasting(Scarce),
}

impl Failing {
    fn what(self) -> Scarce {
        match self {
            Self::Once(what) | Self::Lasting(what) => what,
        }
    }

    fn order<F: Format>(self, vm: &Vm<Hosted<F>>, nth: u64) {
        match self {
            Self::Once(what) => vm.platform().failures().fail_nth(what, nth),
            Self::Lasting(what) => vm.platform().failures().fail_from(what, nth),
        }
    }
}

/// How an attempt went.
struct Attempt {
    /// The failure came.
    met: bool,
    /// Nothing is left on the machine.
    ended: bool,
}

/// Runs `case` with the `nth` failure, and ends what it leaves.
fn attempt<F: Format>(
    vm: &Vm<Hosted<F>>,
    case: &Case<Hosted<F>>,
    failing: Failing,
    nth: u64,
) -> Attempt {
    let what = format!("{}, {}: {}, {failing:?} {nth}", F::NAME, case.subject, case.name);
    failing.order(vm, nth);
    let ended = story::of(|| (case.run)(vm));
    let met = !vm.platform().failures().is_pending(failing.what());
    vm.platform().failures().fail_nth(failing.what(), 0);
    if let Some(ended) = ended {
        if let Failing::Once(_) = failing {
            ended.assert_told(case, &what);
        }
        assert!(met, "{what}: nothing failed, and it ended: {ended}");
    }
    let by_hand = BY_HAND
        .iter()
        .any(|(subject, name)| *subject == case.subject && (name.is_empty() || *name == case.name));
    let ended = !by_hand && ending::end(vm, &what);
    if ended {
        ending::check(vm, &what);
    }
    Attempt { met, ended }
}

/// Every n, or those that a short run takes.
fn numbers(one_by_one: u64) -> impl Iterator<Item = u64> {
    let one_by_one = if everything() { MANY } else { one_by_one };
    let next = move |n: &u64| Some(n + if *n < one_by_one { 1 } else { n / 4 });
    std::iter::successors(Some(1), next).take_while(|n| *n < MANY)
}

/// Every n, each on a machine of its own, whose lists have yet to grow.
fn on_fresh_machines<F: Format>(case: &Case<Hosted<F>>, failing: Failing) -> u64 {
    let all = numbers(APIECE).take_while(|&nth| {
        let machine = Machine::builder().memory(MEMORY).cpus(1).format::<F>().build();
        let case = Case { ..*case };
        machine.on_cpu(move |vm| attempt(vm, &case, failing, nth).met)
    });
    all.count() as u64
}

/// One n after the other on one machine, which ends up each time with as many records as before.
fn on_one_machine<F: Format>(case: &Case<Hosted<F>>, failing: Failing) -> u64 {
    let mut left = numbers(ONE_BY_ONE).peekable();
    let mut all = 0;
    while left.peek().is_some() {
        let machine = Machine::builder().memory(MEMORY).cpus(1).format::<F>().build();
        let case = Case { ..*case };
        let (met, rest) = machine.on_cpu(move |vm| {
            // Twice: some lists grow when they are emptied.
            (0..2).for_each(|_| assert!(!attempt(vm, &case, failing, MANY).met));
            let mut met = 0;
            for nth in left.by_ref() {
                let before = records_here();
                let attempt = attempt(vm, &case, failing, nth);
                let lost = records_here() - before;
                // Fewer are left where some had to wait for readers before.
                assert!(
                    lost <= 0 || !attempt.ended,
                    "{}, {failing:?} {nth}: {lost} records",
                    case.name
                );
                if !attempt.met {
                    return (met, None);
                }
                met += 1;
                if !attempt.ended {
                    break;
                }
            }
            (met, Some(left))
        });
        all += met;
        match rest {
            Some(rest) => left = rest,
            None => break,
        }
    }
    all
}

/// Every case with each way of failing.
fn every_case<F: Format>(failings: &[Failing], run: fn(&Case<Hosted<F>>, Failing) -> u64) {
    cases(failings, run, (0, 1));
}

/// The cases that the format of this number has, once each of their steps failing.
fn some_cases<F: Format>(number: usize) {
    cases::<F>(&ONCE, on_one_machine, if everything() { (0, 1) } else { (number, SHARED_OUT) });
}

/// The cases from `first` on in steps of `step`.
fn cases<F: Format>(
    failings: &[Failing],
    run: fn(&Case<Hosted<F>>, Failing) -> u64,
    (first, step): (usize, usize),
) {
    let tried = |case: &Case<Hosted<F>>| {
        let lasts = |failing: &&Failing| matches!(failing, Failing::Lasting(_));
        let tried = failings.iter().filter(|way| case.subject != OF_FRAMES || !lasts(way));
        tried.map(|&failing| run(case, failing)).sum::<u64>()
    };
    let crew = |number: usize| {
        let cases = all::<Hosted<F>>().skip(first).step_by(step).skip(number).step_by(CREWS);
        cases.map(|case| tried(&case)).sum::<u64>()
    };
    let met: u64 = std::thread::scope(|scope| {
        let crews: Vec<_> = (0..CREWS).map(|number| scope.spawn(move || crew(number))).collect();
        crews.into_iter().map(|crew| crew.join().expect("the story above")).sum()
    });
    println!("{}: {met} failures were met", F::NAME);
    assert!(met > 1000, "only {met} failures were met");
}

const ONCE: [Failing; 3] =
    [Failing::Once(Scarce::Frame), Failing::Once(Scarce::Heap), Failing::Once(Scarce::Io)];

const LASTING: [Failing; 3] =
    [Failing::Lasting(Scarce::Frame), Failing::Lasting(Scarce::Heap), Failing::Lasting(Scarce::Io)];

#[test]
fn every_case_survives_each_failure_on_a_fresh_machine() {
    every_case::<X86_64>(&ONCE, on_fresh_machines);
}

#[test]
fn every_case_survives_that_all_fails_from_some_moment_on() {
    every_case::<X86_64>(&LASTING, on_one_machine);
}

#[test]
fn cases_survive_each_failure_in_five_level_tables() {
    some_cases::<X86_64La57>(0);
}

#[test]
fn cases_survive_each_failure_in_classic_32_bit_tables() {
    some_cases::<I386>(1);
}

#[test]
fn cases_survive_each_failure_in_pae_tables() {
    some_cases::<Pae>(2);
}
