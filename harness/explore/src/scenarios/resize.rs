//! Objects that become shorter under private mappings, while something else happens to these: what was copied beyond
//! the end is gone at the end, from every space, and nothing is freed that somebody maps.

use rumpvm::{FaultError, MapFlags};
use rumpvm_arch::PAGE_SIZE;
use rumpvm_hosted::explored::Stage;

use crate::Scenario;
use crate::disk::Disk;
use crate::{FAR, Kernel, NEAR, Pc, User};

pub(super) fn table() -> Vec<Scenario> {
    let report = "private copies beyond the end of a file";
    let scenario = |name, says, setup| Scenario::new(name, report, says, setup);
    vec![
        scenario(
            "cut-off-fault",
            "a store copies a page of an object that is cut off before it",
            cut_off_against_store,
        ),
        scenario(
            "cut-off-fork",
            "a space forks while the copies that both will share are cut off",
            cut_off_against_fork,
        ),
        scenario(
            "cut-off-unshare",
            "one of two sharers of a leaf copies it while it loses a page",
            cut_off_against_unsharing,
        ),
        scenario(
            "cut-off-unmap",
            "a range is unmapped on one side of a fork while its copies are cut off",
            cut_off_against_unmapping,
        ),
        scenario(
            "cut-off-replace",
            "other memory takes the place of a shared page while that is cut off",
            cut_off_against_replacing,
        ),
        scenario(
            "cut-off-both",
            "other memory takes the place of a shared page while two objects are cut off at once",
            cut_off_two_against_replacing,
        ),
        scenario(
            "cut-off-exit",
            "one of two sharers of a leaf and a leaf table ends while they lose a page",
            cut_off_against_exit,
        ),
        scenario(
            "cut-off-length",
            "a fault asks a file for its length while it is cut off",
            cut_off_against_length,
        ),
    ]
}

type Held = rumpvm::Hold<rumpvm::Object<Pc>, Pc>;

/// An object of two pages, mapped privately by a user who has stored to both.
fn copied(kernel: &Kernel) -> (User, Held) {
    let object = kernel.shared_memory(2 * PAGE_SIZE).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 2, &object, MapFlags::PRIVATE).expect("room");
    user.store(NEAR, 1).expect("memory");
    user.store(NEAR + PAGE_SIZE, 2).expect("memory");
    (user, object)
}

/// An actor that cuts the object off behind its first page.
fn cuts(stage: &Stage, cpu: usize, kernel: &Kernel, object: Held) {
    let kernel = kernel.clone();
    stage.actor(cpu, "cut off", move || {
        kernel.resize(&object, PAGE_SIZE).expect("memory needs no disk");
        kernel.close(&object).expect("memory needs no disk");
    });
}

/// Cut off for good.
fn is_beyond(user: &User) {
    let seen = user.load(NEAR + PAGE_SIZE);
    assert!(matches!(seen, Err(FaultError::BeyondEnd { .. })), "{seen:?}");
}

/// At the end `user` still has the first page, and not the second.
fn ends_cut_off(kernel: &Kernel, user: User) {
    kernel.at_end(move |_| {
        assert_eq!(user.load(NEAR), Ok(1));
        is_beyond(&user);
    });
}

fn cut_off_against_store(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let object = kernel.shared_memory(2 * PAGE_SIZE).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 2, &object, MapFlags::PRIVATE).expect("room");
    user.store(NEAR, 1).expect("memory");
    ends_cut_off(&kernel, user.twin());
    stage.actor(0, "store", move || {
        let stored = user.store(NEAR + PAGE_SIZE, 2);
        assert!(matches!(stored, Ok(()) | Err(FaultError::BeyondEnd { .. })), "{stored:?}");
    });
    cuts(stage, 1, &kernel, object);
}

fn cut_off_against_fork(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, object) = copied(&kernel);
    ends_cut_off(&kernel, user.twin());
    let ends = kernel.clone();
    stage.actor(0, "fork", move || {
        let child = user.fork().expect("memory");
        let seen = child.load(NEAR + PAGE_SIZE);
        assert!(matches!(seen, Ok(2) | Err(FaultError::BeyondEnd { .. })), "{seen:?}");
        ends_cut_off(&ends, child);
    });
    cuts(stage, 1, &kernel, object);
}

fn cut_off_against_unsharing(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (parent, object) = copied(&kernel);
    let child = parent.fork().expect("memory");
    kernel.at_end({
        let parent = parent.twin();
        move |_| is_beyond(&parent)
    });
    ends_cut_off(&kernel, child.twin());
    stage.actor(0, "unshare", move || {
        parent.store(NEAR, 3).expect("memory");
        assert_eq!(child.load(NEAR), Ok(1));
    });
    cuts(stage, 1, &kernel, object);
}

fn cut_off_against_unmapping(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (parent, object) = copied(&kernel);
    let child = parent.fork().expect("memory");
    ends_cut_off(&kernel, parent);
    stage.actor(0, "unmap", move || {
        child.unmap(NEAR + PAGE_SIZE, 1).expect("memory");
        let gone = child.load(NEAR + PAGE_SIZE);
        assert!(matches!(gone, Err(FaultError::Unmapped { .. })), "{gone:?}");
    });
    cuts(stage, 1, &kernel, object);
}

/// A user who has stored to two shared pages, and maps something else in the place of the second.
fn replaces(stage: &Stage, kernel: &Kernel) -> (User, Held) {
    let object = kernel.shared_memory(2 * PAGE_SIZE).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 2, &object, MapFlags::SHARED).expect("room");
    user.store(NEAR, 1).expect("memory");
    user.store(NEAR + PAGE_SIZE, 2).expect("memory");
    let (actor, twin) = (user.twin(), user.twin());
    kernel.at_end(move |_| {
        assert_eq!((twin.load(NEAR), twin.load(NEAR + PAGE_SIZE)), (Ok(1), Ok(3)))
    });
    stage.actor(0, "replace", move || {
        actor.map(NEAR + PAGE_SIZE, 1).expect("room");
        actor.store(NEAR + PAGE_SIZE, 3).expect("memory");
    });
    (user, object)
}

fn cut_off_against_replacing(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (_, object) = replaces(stage, &kernel);
    cuts(stage, 1, &kernel, object);
}

/// Both revoke pages: who ends first is not to take the other's word with him.
fn cut_off_two_against_replacing(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, object) = replaces(stage, &kernel);
    let other = kernel.shared_memory(2 * PAGE_SIZE).expect("memory");
    user.map_object(FAR, 2, &other, MapFlags::SHARED).expect("room");
    user.store(FAR + PAGE_SIZE, 4).expect("memory");
    cuts(stage, 1, &kernel, object);
    cuts(stage, 0, &kernel, other);
}

fn cut_off_against_exit(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (parent, object) = copied(&kernel);
    let child = parent.fork().expect("memory");
    assert_eq!(child.load(NEAR + PAGE_SIZE), Ok(2));
    ends_cut_off(&kernel, parent);
    stage.actor(0, "exit", move || drop(child));
    cuts(stage, 1, &kernel, object);
}

fn cut_off_against_length(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let disk = Disk::new(1, 2);
    let object = kernel.open_file(disk).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 2, &object, MapFlags::PRIVATE).expect("room");
    let twin = user.twin();
    kernel.at_end(move |_| is_beyond(&twin));
    stage.actor(0, "load", move || {
        let seen = user.load(NEAR + PAGE_SIZE);
        assert!(matches!(seen, Ok(2) | Err(FaultError::BeyondEnd { .. })), "{seen:?}");
    });
    cuts(stage, 1, &kernel, object);
}
