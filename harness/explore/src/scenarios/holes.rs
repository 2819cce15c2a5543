//! Advice that takes pages away under mappings that stay: guards, and holes in objects.
//!
//! Flow: a thread gives the advice, another one uses the pages -> each access before it, or after it.

use rumpvm::{FaultError, MapFlags};
use rumpvm_arch::{PAGE_SIZE, VirtAddr};
use rumpvm_hosted::explored::Stage;

use crate::{Disk, Kernel, NEAR, Scenario};

const REPORT: &str = "seed 003";

const REMOVE: i32 = 9;
const GUARD: i32 = 102;
const UNGUARD: i32 = 103;

const SECOND: VirtAddr = VirtAddr(NEAR.0 + PAGE_SIZE);

pub(super) fn table() -> Vec<Scenario> {
    let one = |name, says, setup| Scenario::new(name, REPORT, says, setup);
    vec![
        one("guard-against-store", "a guard comes where another thread stores", against_store),
        one(
            "first-guard-against-around",
            "a space's first guard comes to shared memory while a neighbour's fault maps around it",
            against_around,
        ),
        one("guard-against-fork", "guards come and go in a space that forks", against_fork),
        one(
            "guard-of-shared-memory-against-fork",
            "a space with a guard in shared memory forks while its other thread maps around it",
            shared_guard_against_fork,
        ),
        one("hole-against-store", "a hole is made where another space stores", hole_against_store),
        one(
            "hole-against-read",
            "a hole is made in a file of which another thread reads a page in",
            hole_against_read,
        ),
        one(
            "hole-against-write-out",
            "a hole is made in a file that another thread writes out",
            hole_against_write_out,
        ),
    ]
}

fn against_store(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 2).expect("room");
    user.store(SECOND, 1).expect("memory");
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "guard", move || {
        user.advise(NEAR, 2, GUARD).expect("memory");
        for at in [NEAR, SECOND] {
            assert_eq!(user.load(at), Err(FaultError::Guarded { at }));
        }
    });
    stage.actor(1, "store", move || {
        for at in [SECOND, NEAR] {
            let stored = twin.store(at, 2);
            assert!(matches!(stored, Ok(()) | Err(FaultError::Guarded { .. })), "{stored:?}");
        }
    });
}

fn against_around(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    let memory = kernel.shared_memory(2 * PAGE_SIZE).expect("memory");
    user.map_object(NEAR, 2, &memory, MapFlags::SHARED).expect("room");
    user.store(NEAR, 1).expect("memory");
    user.store(SECOND, 2).expect("memory");
    // In memory, and mapped nowhere.
    user.map_object(NEAR, 2, &memory, MapFlags::SHARED).expect("room");
    kernel.close(&memory).expect("it is mapped");
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "guard", move || {
        user.advise(SECOND, 1, GUARD).expect("memory");
        assert_eq!(user.load(SECOND), Err(FaultError::Guarded { at: SECOND }));
    });
    stage.actor(1, "around", move || {
        assert_eq!(twin.load(NEAR), Ok(1));
        let seen = twin.load(SECOND);
        assert!(matches!(seen, Ok(2) | Err(FaultError::Guarded { .. })), "{seen:?}");
    });
}

fn against_fork(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 2).expect("room");
    user.store(NEAR, 1).expect("memory");
    user.advise(SECOND, 1, GUARD).expect("memory");
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "guards", move || {
        user.advise(NEAR, 1, GUARD).expect("memory");
        user.advise(SECOND, 1, UNGUARD).expect("memory");
        assert_eq!(user.load(NEAR), Err(FaultError::Guarded { at: NEAR }));
        assert_eq!(user.load(SECOND), Ok(0));
    });
    stage.actor(1, "fork", move || {
        let child = twin.fork().expect("memory");
        let seen = [NEAR, SECOND].map(|at| child.load(at).ok());
        let orders = [[Some(1), None], [None, None], [None, Some(0)]];
        assert!(orders.contains(&seen), "{seen:?}");
    });
}

fn shared_guard_against_fork(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    let memory = kernel.shared_memory(2 * PAGE_SIZE).expect("memory");
    user.map_object(NEAR, 2, &memory, MapFlags::SHARED).expect("room");
    user.store(NEAR, 1).expect("memory");
    user.store(SECOND, 2).expect("memory");
    user.advise(SECOND, 1, GUARD).expect("memory");
    kernel.close(&memory).expect("it is mapped");
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "fork", move || {
        let child = user.fork().expect("memory");
        assert_eq!(child.load(NEAR), Ok(1));
        assert_eq!(child.load(SECOND), Err(FaultError::Guarded { at: SECOND }));
    });
    stage.actor(1, "around", move || {
        assert_eq!(twin.load(NEAR), Ok(1));
        assert_eq!(twin.load(SECOND), Err(FaultError::Guarded { at: SECOND }));
    });
}

fn hole_against_store(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let memory = kernel.shared_memory(PAGE_SIZE).expect("memory");
    let (user, other) = (kernel.user(), kernel.user());
    for user in [&user, &other] {
        user.map_object(NEAR, 1, &memory, MapFlags::SHARED).expect("room");
        user.store(NEAR, 1).expect("memory");
    }
    kernel.close(&memory).expect("it is mapped");
    kernel.keep(user.twin());
    kernel.keep(other.twin());
    stage.actor(0, "hole", move || {
        user.advise(NEAR, 1, REMOVE).expect("it is memory");
        let seen = user.load(NEAR);
        assert!(matches!(seen, Ok(0 | 2)), "{seen:?}");
    });
    stage.actor(1, "store", move || {
        other.store(NEAR, 2).expect("memory");
        let seen = other.load(NEAR);
        assert!(matches!(seen, Ok(0 | 2)), "{seen:?}");
    });
}

fn hole_against_read(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let disk = Disk::new(1, 2);
    let file = kernel.open_file(disk.clone()).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 2, &file, MapFlags::SHARED).expect("room");
    let twin = user.twin();
    kernel.keep(user.twin());
    kernel.at_end(move |kernel| {
        assert_eq!(disk.byte(1), 0, "the hole is in the file");
        kernel.close(&file).expect("it can be written");
    });
    stage.actor(0, "hole", move || {
        user.advise(SECOND, 1, REMOVE).expect("it can be punched");
        assert_eq!(user.load(SECOND), Ok(0));
    });
    stage.actor(1, "read", move || {
        let seen = twin.load(SECOND);
        assert!(matches!(seen, Ok(0 | 2)), "{seen:?}");
    });
}

fn hole_against_write_out(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let disk = Disk::new(1, 1);
    let file = kernel.open_file(disk.clone()).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 1, &file, MapFlags::SHARED).expect("room");
    user.store(NEAR, 9).expect("memory");
    let twin = user.twin();
    kernel.keep(user.twin());
    kernel.at_end(move |kernel| {
        assert_eq!(disk.byte(0), 0, "nothing that was stored before came back");
        kernel.close(&file).expect("it can be written");
    });
    stage.actor(0, "hole", move || {
        user.advise(NEAR, 1, REMOVE).expect("it can be punched");
        assert_eq!(user.load(NEAR), Ok(0));
    });
    stage.actor(1, "write out", move || twin.sync(NEAR, 1).expect("the disk works"));
}
