//! Seed 001: reaching into a space that is not one's own, against its exit, exec and fork; and faults on areas that
//! have no object.

use rumpvm::{FaultError, MapFlags};
use rumpvm_arch::VirtAddr;
use rumpvm_hosted::explored::Stage;

use crate::{Disk, Kernel, NEAR, Scenario, User};

const REPORT: &str = "seed 001";

pub(super) fn table() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "reach-against-exit",
            REPORT,
            "the kernel copies to and from a space whose last user leaves",
            reach_against_exit,
        ),
        Scenario::new(
            "reach-against-exec",
            REPORT,
            "the kernel copies from the space of a process that replaces it",
            reach_against_exec,
        ),
        Scenario::new(
            "reach-against-fork",
            REPORT,
            "the kernel copies to a space that forks",
            reach_against_fork,
        ),
        Scenario::new(
            "fault-without-object",
            REPORT,
            "the kernel reaches an area without an object while it becomes one with an object, and back",
            fault_without_object,
        ),
        Scenario::new(
            "word-against-store",
            "futex(2)",
            "the kernel changes a word in one step while the program stores to it",
            word_against_store,
        ),
    ]
}

fn reach_against_exit(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let owner = kernel.user();
    owner.map(NEAR, 2).expect("room");
    owner.store(NEAR, 1).expect("memory");
    let space = owner.space().clone();
    stage.actor(0, "exit", move || {
        assert!(matches!(owner.load(NEAR), Ok(1 | 2)));
        drop(owner);
    });
    stage.actor(1, "reach", move || {
        let Some(guest) = User::of(&kernel, &space) else { return };
        assert_eq!(guest.copy_in(NEAR), Ok(1));
        guest.copy_out(NEAR, 2).expect("memory");
        assert_eq!(guest.copy_in(NEAR), Ok(2));
    });
}

fn reach_against_exec(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let process = kernel.first_process().expect("memory");
    let old = process.space().expect("it has not exited");
    let owner = User::of(&kernel, &old).expect("it has a user");
    owner.map(NEAR, 1).expect("room");
    owner.store(NEAR, 1).expect("memory");
    drop((owner, old));
    let (target, vm) = (process.clone(), kernel.clone());
    stage.actor(0, "exec", move || {
        process.exec(&vm).expect("memory");
        let fresh = process.space().expect("it has not exited");
        let owner = User::of(&vm, &fresh).expect("it has a user");
        assert_eq!(owner.load(NEAR), Err(FaultError::Unmapped { at: NEAR }));
        drop((owner, fresh));
        process.exit(&vm, 0);
    });
    stage.actor(1, "reach", move || {
        let Some(space) = target.space() else { return };
        let Some(guest) = User::of(&kernel, &space) else { return };
        let seen = guest.copy_in(NEAR);
        assert!(matches!(seen, Ok(1) | Err(FaultError::Unmapped { .. })), "{seen:?}");
        assert_eq!(guest.copy_in(NEAR), seen, "the space that was entered stays what it is");
    });
}

fn reach_against_fork(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = kernel.user();
    parent.map(NEAR, 1).expect("room");
    parent.store(NEAR, 1).expect("memory");
    let space = parent.space().clone();
    kernel.keep(parent.twin());
    stage.actor(0, "fork", move || {
        let child = parent.fork().expect("memory");
        let seen = child.load(NEAR).expect("memory");
        assert!(seen == 1 || seen == 2);
        assert_eq!(child.load(NEAR), Ok(seen), "what a child has does not change");
    });
    stage.actor(1, "reach", move || {
        let guest = User::of(&kernel, &space).expect("it has a user");
        guest.copy_out(NEAR, 2).expect("memory");
        assert_eq!(guest.copy_in(NEAR), Ok(2));
    });
}

/// What the area at `NEAR` is: zeros, then a file of one page, then zeros.
fn fault_without_object(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let object = kernel.open_file(Disk::new(1, 1)).expect("memory");
    let owner = kernel.user();
    owner.map(NEAR, 1).expect("room");
    let space = owner.space().clone();
    kernel.keep(owner.twin());
    let vm = kernel.clone();
    stage.actor(0, "change", move || {
        owner.map_object(NEAR, 1, &object, MapFlags::PRIVATE).expect("room");
        vm.close(&object).expect("it is mapped");
        assert_eq!(owner.load(NEAR), Ok(1));
        owner.map(NEAR, 1).expect("room");
        assert_eq!(owner.load(NEAR), Ok(0));
    });
    stage.actor(1, "reach", move || {
        let guest = User::of(&kernel, &space).expect("it has a user");
        let seen = guest.copy_in(NEAR);
        assert!(matches!(seen, Ok(0 | 1)), "{seen:?}");
        // Kernel space, as in the report: no area, and no object, is there at all.
        let at = VirtAddr(0xffff_8000_0000_0000);
        assert_eq!(guest.copy_in(at), Err(FaultError::Unmapped { at }));
    });
}

/// The kernel adds to even words alone, so an odd one stays until the program takes it away.
fn word_against_store(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let owner = kernel.user();
    owner.map(NEAR, 1).expect("room");
    owner.store(NEAR, 0).expect("memory");
    let guest = owner.twin();
    stage.actor(0, "store", move || {
        owner.store(NEAR, 1).expect("memory");
        assert_eq!(owner.load(NEAR), Ok(1));
    });
    stage.actor(1, "change", move || {
        guest.change_word(NEAR, |word| word.is_multiple_of(2).then_some(word + 2)).expect("memory");
    });
}
