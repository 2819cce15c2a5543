//! Seed 004, #2352 and #2369: exec and vfork against exit, and against other threads of the process.

use rumpvm::{CallError, Process, WaitFor};
use rumpvm_hosted::explored::Stage;

use super::wait::{boot, on, scenario};
use crate::{Kernel, NEAR, Pc, Scenario, User};

pub(super) fn table() -> Vec<Scenario> {
    vec![
        scenario(
            "wait-vfork",
            "a parent waits for its space while the child exits or execs",
            vfork,
        ),
        scenario(
            "wait-vfork-exit",
            "a parent exits while its child of a vfork works in its space",
            vfork_exit,
        ),
        scenario("wait-exec", "a thread execs while others of its process end or exec", exec),
        scenario("wait-exec-exit", "a process exits while it execs", exec_exit),
        scenario(
            "wait-exec-again",
            "a process execs twice, and another thread of it too",
            exec_again,
        ),
    ]
}

fn vfork(stage: &Stage) {
    let (kernel, parent) = boot(stage);
    for cpu in 0..2 {
        let child = parent.vfork(kernel.vm()).expect("memory for a child");
        let own = child.clone();
        on(stage, 0, "parent", (&kernel, &parent), move |_, parent| {
            own.await_release();
            let (ours, theirs) = (parent.space(), own.space());
            let shared = ours.zip(theirs).is_some_and(|(ours, theirs)| ours.is(&theirs));
            assert!(!shared, "the parent goes on in a space that the child still uses");
        });
        on(stage, 1 + cpu, "child", (&kernel, &child), move |kernel, child| match cpu {
            0 => child.exit(kernel.vm(), 0),
            _ => child.exec(kernel.vm()).expect("memory for a space"),
        });
    }
}

/// The space is the child's for as long as it works there, whatever becomes of the parent.
fn vfork_exit(stage: &Stage) {
    let (kernel, heir) = boot(stage);
    let parent = heir.fork(kernel.vm()).expect("memory for a child");
    let user = |kernel: &Kernel, process: &Process<Pc>| {
        let space = process.space().expect("it has not exited");
        User::of(kernel, &space).expect("a space that a process uses has not ended")
    };
    let before = user(&kernel, &parent);
    before.map(NEAR, 1).expect("room");
    before.store(NEAR, 1).expect("memory");
    drop(before);
    let child = parent.vfork(kernel.vm()).expect("memory for a child");
    on(stage, 0, "parent", (&kernel, &parent), |kernel, parent| parent.exit(kernel.vm(), 1));
    on(stage, 1, "child", (&kernel, &child), move |kernel, child| {
        user(kernel, child).store(NEAR, 2).expect("it is mapped");
        assert_eq!(user(kernel, child).load(NEAR), Ok(2));
        child.exit(kernel.vm(), 2);
    });
    on(stage, 2, "heir", (&kernel, &heir), |kernel, heir| {
        let statuses = [(); 2].map(|()| heir.wait(kernel.vm(), WaitFor::Any, false));
        let statuses = statuses.map(|got| got.map(|got| got.map(|(_, status)| status)));
        let either = [[1, 2], [2, 1]].map(|order| order.map(|status| Ok(Some(status))));
        assert!(either.contains(&statuses), "{statuses:?}");
    });
}

fn exec(stage: &Stage) {
    let (kernel, process) = boot(stage);
    process.thread_starts();
    process.thread_starts();
    let execs = |kernel: &Kernel, process: &Process<Pc>| {
        match process.exec(kernel.vm()) {
            Ok(()) => assert_eq!(process.threads(), 1, "others run in the new space"),
            // The other one is first, and waits for this thread to end.
            Err(error) => {
                assert_eq!(error, CallError::Again);
                assert!(!process.thread_ends());
            }
        }
    };
    on(stage, 0, "execs", (&kernel, &process), execs);
    on(stage, 1, "execs too", (&kernel, &process), execs);
    on(stage, 2, "ends", (&kernel, &process), |_, process| assert!(!process.thread_ends()));
}

/// Whoever is first, nobody has a space when nobody runs: not the one that exec brought either.
fn exec_exit(stage: &Stage) {
    let (kernel, parent) = boot(stage);
    let process = parent.fork(kernel.vm()).expect("memory for a child");
    let dead = process.clone();
    kernel
        .at_end(move |_| assert!(dead.space().is_none(), "a process that was reaped has a space"));
    on(stage, 0, "execs", (&kernel, &process), |kernel, process| {
        let done = process.exec(kernel.vm());
        assert!(matches!(done, Ok(()) | Err(CallError::Invalid)), "{done:?}");
    });
    on(stage, 1, "exits", (&kernel, &process), |kernel, process| process.exit(kernel.vm(), 4));
    on(stage, 2, "parent", (&kernel, &parent), |kernel, parent| {
        let got = parent.wait(kernel.vm(), WaitFor::Any, false);
        assert_eq!(got.map(|got| got.map(|(_, status)| status)), Ok(Some(4)));
    });
}

/// The first exec leaves nothing behind that a second one would be refused for.
fn exec_again(stage: &Stage) {
    let (kernel, process) = boot(stage);
    process.thread_starts();
    on(stage, 0, "execs", (&kernel, &process), |kernel, process| {
        for _ in 0..2 {
            let before = process.space().expect("it has not exited");
            process.exec(kernel.vm()).expect("nobody else is in exec");
            let after = process.space().expect("it has not exited");
            assert!(!before.is(&after), "an exec gives a fresh space");
        }
    });
    on(stage, 1, "ends", (&kernel, &process), |_, process| assert!(!process.thread_ends()));
}
