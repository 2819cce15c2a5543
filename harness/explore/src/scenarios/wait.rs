//! Seed 004, #2352 and #2369: several threads wait for one child; orphans; exits against each other; a process that
//! somebody still looks at.

use std::rc::Rc;

use rumpvm::sync::{Atomic, Event, Ordering};
use rumpvm::{CallError, Hold, Process, State, WaitFor};
use rumpvm_hosted::explored::{Chance, Settings, Stage};

use crate::{Kernel, Pc, Scenario};

type Word = Atomic<u32, Pc>;
pub(super) type Held = Hold<Process<Pc>, Pc>;

/// A scenario on three CPUs, on which sleepers wake for no reason too.
pub(super) fn scenario(name: &'static str, says: &'static str, setup: fn(&Stage)) -> Scenario {
    let chances = Settings::USUAL.chances.with(Chance::Wake);
    let settings = Settings { cpus: 3, chances, ..Settings::USUAL };
    Scenario { settings, ..Scenario::new(name, "seed 004, #2352, #2369", says, setup) }
}

pub(super) fn table() -> Vec<Scenario> {
    vec![
        scenario("wait-one-child", "two threads of a parent wait for its only child", one_child),
        scenario("wait-two-children", "two threads wait for any of two children", two_children),
        scenario("wait-orphan", "a parent exits while its child does; the heir waits", orphan),
        scenario("wait-heir", "an orphan that has ended goes to an heir who sleeps", heir),
        scenario("wait-four-children", "four children exit while their parent waits", four),
        scenario("wait-exit-twice", "two threads exit one process, which has a child", exit_twice),
        scenario("wait-fork-exit", "a process forks while it exits", fork_against_exit),
        scenario("wait-zombie-held", "a process is looked at while it exits and is reaped", held),
    ]
}

/// Boots; at the end every process that is left exits.
pub(super) fn boot(stage: &Stage) -> (Kernel, Held) {
    let kernel = Kernel::boot_and(stage, |kernel| {
        kernel.for_each_process(|process| process.exit(kernel.vm(), 0));
        let mut left = 0;
        kernel.for_each_process(|_| left += 1);
        assert_eq!(left, 0, "a process is left in the table");
    });
    let first = kernel.first_process().expect("memory for a process");
    (kernel, first)
}

/// An actor that uses a process.
pub(super) fn on(
    stage: &Stage,
    cpu: usize,
    name: &str,
    who: (&Kernel, &Held),
    body: impl FnOnce(&Kernel, &Process<Pc>) + 'static,
) {
    let (kernel, process) = (who.0.clone(), who.1.clone());
    stage.actor(cpu, name, move || body(&kernel, &process));
}

fn one_child(stage: &Stage) {
    let (kernel, parent) = boot(stage);
    let child = parent.fork(kernel.vm()).expect("memory for a child");
    let pid = child.pid();
    let reaped = Rc::new(Word::new(0));
    for (cpu, whom) in [WaitFor::Any, WaitFor::Pid(pid)].into_iter().enumerate() {
        let reaped = Rc::clone(&reaped);
        on(stage, cpu, "waiter", (&kernel, &parent), move |kernel, parent| {
            match parent.wait(kernel.vm(), whom, false) {
                Ok(got) => {
                    assert_eq!(got, Some((pid, 7)));
                    assert_eq!(reaped.fetch_add(1, Ordering::Relaxed), 0, "it is reaped twice");
                }
                Err(error) => assert_eq!(error, CallError::NoChild),
            }
        });
    }
    on(stage, 2, "child", (&kernel, &child), |kernel, child| child.exit(kernel.vm(), 7));
}

fn two_children(stage: &Stage) {
    let (kernel, parent) = boot(stage);
    let children = [(); 2].map(|()| parent.fork(kernel.vm()).expect("memory for a child"));
    let seen = Rc::new(Word::new(0));
    for (cpu, child) in children.iter().enumerate() {
        let seen = Rc::clone(&seen);
        on(stage, cpu, "waiter", (&kernel, &parent), move |kernel, parent| {
            let got = parent.wait(kernel.vm(), WaitFor::Any, false);
            let (_, status) = got.expect("there is a child for each").expect("it waits");
            let before = seen.fetch_or(1 << status, Ordering::Relaxed);
            assert_eq!(before & 1 << status, 0, "it is reaped twice");
        });
        on(stage, 2, "child", (&kernel, child), move |kernel, child| {
            child.exit(kernel.vm(), cpu as i32);
        });
    }
}

fn orphan(stage: &Stage) {
    let (kernel, heir) = boot(stage);
    let parent = heir.fork(kernel.vm()).expect("memory for a child");
    let child = parent.fork(kernel.vm()).expect("memory for a child");
    on(stage, 0, "heir", (&kernel, &heir), |kernel, heir| {
        let mut statuses = [0; 2];
        for status in &mut statuses {
            let got = heir.wait(kernel.vm(), WaitFor::Any, false);
            let (_, now) = got.expect("both become its children").expect("it waits");
            *status = now;
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [1, 2]);
    });
    on(stage, 1, "parent", (&kernel, &parent), |kernel, parent| parent.exit(kernel.vm(), 1));
    on(stage, 2, "child", (&kernel, &child), |kernel, child| child.exit(kernel.vm(), 2));
}

/// The heir is not the parent of who exits, and nothing else happens that would wake it.
fn heir(stage: &Stage) {
    let (kernel, heir) = boot(stage);
    let middle = heir.fork(kernel.vm()).expect("memory for a child");
    let parent = middle.fork(kernel.vm()).expect("memory for a child");
    let child = parent.fork(kernel.vm()).expect("memory for a child");
    let inherited = Rc::new((Event::<Pc>::new(), Word::new(0)));
    let told = Rc::clone(&inherited);
    on(stage, 0, "heir", (&kernel, &heir), move |kernel, heir| {
        for status in [2, 1] {
            let got = heir.wait(kernel.vm(), WaitFor::Any, false);
            assert_eq!(got.map(|got| got.map(|(_, status)| status)), Ok(Some(status)));
            told.1.store(1, Ordering::Release);
            told.0.raise();
        }
    });
    on(stage, 0, "middle", (&kernel, &middle), move |kernel, middle| {
        loop {
            let seen = inherited.0.seen();
            if inherited.1.load(Ordering::Acquire) != 0 {
                break;
            }
            inherited.0.wait(seen);
        }
        middle.wait(kernel.vm(), WaitFor::Any, false).expect("it has a child");
        middle.exit(kernel.vm(), 1);
    });
    on(stage, 1, "parent", (&kernel, &parent), |kernel, parent| parent.exit(kernel.vm(), 3));
    on(stage, 2, "child", (&kernel, &child), |kernel, child| child.exit(kernel.vm(), 2));
}

/// Two of them on one CPU, one after the other.
fn four(stage: &Stage) {
    let (kernel, parent) = boot(stage);
    for number in 0..4 {
        let child = parent.fork(kernel.vm()).expect("memory for a child");
        on(stage, 1 + number % 2, "child", (&kernel, &child), move |kernel, child| {
            child.exit(kernel.vm(), number as i32);
        });
    }
    on(stage, 0, "parent", (&kernel, &parent), |kernel, parent| {
        let mut seen = 0;
        for _ in 0..4 {
            let got = parent.wait(kernel.vm(), WaitFor::Any, false);
            let (_, status) = got.expect("there is a child").expect("it waits");
            assert_eq!(seen & 1 << status, 0, "it is reaped twice");
            seen |= 1 << status;
        }
    });
}

fn exit_twice(stage: &Stage) {
    let (kernel, parent) = boot(stage);
    let process = parent.fork(kernel.vm()).expect("memory for a child");
    let child = process.fork(kernel.vm()).expect("memory for a child");
    on(stage, 0, "exits", (&kernel, &process), |kernel, process| process.exit(kernel.vm(), 1));
    on(stage, 1, "exits too", (&kernel, &process), |kernel, process| process.exit(kernel.vm(), 2));
    on(stage, 2, "parent", (&kernel, &parent), move |kernel, parent| {
        let got = parent.wait(kernel.vm(), WaitFor::Pid(process.pid()), false);
        let (_, status) = got.expect("it is a child").expect("it waits");
        assert!(status == 1 || status == 2);
        assert_eq!(child.parent(), Some(parent.pid()));
        assert_eq!(process.state(), State::Reaped);
    });
}

fn fork_against_exit(stage: &Stage) {
    let (kernel, parent) = boot(stage);
    let process = parent.fork(kernel.vm()).expect("memory for a child");
    on(stage, 0, "forks", (&kernel, &process), |kernel, process| {
        match process.fork(kernel.vm()) {
            // It was first: the exit hands the child on.
            Ok(child) => assert_eq!(child.state(), State::Running),
            Err(error) => assert_eq!(error, CallError::Invalid),
        }
    });
    on(stage, 1, "exits", (&kernel, &process), |kernel, process| process.exit(kernel.vm(), 0));
    on(stage, 2, "parent", (&kernel, &parent), |kernel, parent| {
        let got = parent.wait(kernel.vm(), WaitFor::Any, false);
        got.expect("there is a child").expect("it waits");
    });
}

fn held(stage: &Stage) {
    let (kernel, parent) = boot(stage);
    let child = parent.fork(kernel.vm()).expect("memory for a child");
    let pid = child.pid();
    on(stage, 0, "parent", (&kernel, &parent), |kernel, parent| {
        let got = parent.wait(kernel.vm(), WaitFor::Any, false);
        assert_eq!(got.map(|got| got.map(|(_, status)| status)), Ok(Some(3)));
    });
    on(stage, 1, "looks", (&kernel, &parent), move |kernel, parent| {
        let Some(child) = kernel.find_process(pid) else { return };
        let space = child.space();
        if let Some(space) = space.filter(|space| space.try_enter()) {
            // Its mappings stay for as long as they are used.
            kernel.leave_space(&space);
        }
        if child.state() == State::Zombie(3) {
            assert!(child.space().is_none(), "a zombie has a space");
            assert_eq!(child.parent(), Some(parent.pid()));
        }
        if kernel.find_process(pid).is_none() {
            assert_eq!(child.state(), State::Reaped);
        }
    });
    on(stage, 2, "child", (&kernel, &child), |kernel, child| child.exit(kernel.vm(), 3));
    // The last hold may be the one who looks.
    drop(child);
}
