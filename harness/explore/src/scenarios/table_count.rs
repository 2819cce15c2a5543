//! #2296: the live count of a page-table page is wrong after the allocation for a reverse mapping failed.

use rumpvm::{FaultError, MapFlags};
use rumpvm_arch::PAGE_SIZE;
use rumpvm_hosted::explored::{Chance, Settings, Stage};

use crate::{FAR, Kernel, NEAR, Scenario};

const REPORT: &str = "#2296";

pub(super) fn table() -> Vec<Scenario> {
    let chances = Settings::USUAL.chances.with(Chance::NoHeap).with(Chance::NoFrame);
    vec![
        Scenario {
            settings: Settings { chances, ..Settings::USUAL },
            ..Scenario::new(
                "count-without-record",
                REPORT,
                "two threads map one page at a third place, and there is no memory for the list of places",
                count_without_record,
            )
        },
        Scenario::new(
            "count-against-revoke",
            REPORT,
            "a page is revoked from every table while one space that maps it ends and another maps it again",
            count_against_revoke,
        ),
        Scenario::new(
            "count-against-emptying",
            REPORT,
            "one thread empties a table, and frees it, while another one enters a page",
            count_against_emptying,
        ),
    ]
}

fn count_without_record(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let object = kernel.shared_memory(PAGE_SIZE).expect("memory");
    let (one, other) = (kernel.user(), kernel.user());
    for user in [&one, &other] {
        user.map_object(NEAR, 1, &object, MapFlags::SHARED).expect("room");
        user.map_object(FAR, 1, &object, MapFlags::SHARED).expect("room");
    }
    one.store(NEAR, 1).expect("memory");
    kernel.close(&object).expect("it is mapped");
    for (cpu, user) in [one, other].into_iter().enumerate() {
        kernel.keep(user.twin());
        stage.actor(cpu, "map", move || {
            let seen = user.load(FAR);
            assert!(matches!(seen, Ok(1) | Err(FaultError::NoMemory { .. })), "{seen:?}");
            let _ = user.unmap(FAR, 1);
        });
    }
}

fn count_against_revoke(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let object = kernel.shared_memory(PAGE_SIZE).expect("memory");
    let (one, other) = (kernel.user(), kernel.user());
    for user in [&one, &other] {
        user.map_object(NEAR, 1, &object, MapFlags::SHARED).expect("room");
    }
    one.store(NEAR, 1).expect("memory");
    kernel.keep(other.twin());
    stage.actor(0, "exit", move || drop(one));
    stage.actor(1, "revoke", move || {
        let seen = other.load(NEAR);
        assert_eq!(seen, Ok(1));
        kernel.resize(&object, 0).expect("memory needs no disk");
        let gone = other.load(NEAR);
        assert!(matches!(gone, Err(FaultError::BeyondEnd { .. })), "{gone:?}");
        kernel.close(&object).expect("it is mapped");
    });
}

fn count_against_emptying(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(FAR, 1).expect("room");
    user.map(FAR + PAGE_SIZE, 1).expect("room");
    user.store(FAR, 1).expect("memory");
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "empty", move || {
        user.unmap(FAR, 1).expect("memory");
    });
    stage.actor(1, "enter", move || {
        twin.store(FAR + PAGE_SIZE, 2).expect("memory");
        assert_eq!(twin.load(FAR + PAGE_SIZE), Ok(2));
    });
}
