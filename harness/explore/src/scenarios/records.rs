//! #2358, #2345: space for records runs out in the middle of an operation; a request is larger than what is to carry
//! it.

use rumpvm::{CallError, FaultError, MapFlags};
use rumpvm_arch::PAGE_SIZE;
use rumpvm_hosted::explored::{Chance, Settings, Stage};

use crate::{FAR, Kernel, NEAR, Scenario, User};

const REPORT: &str = "#2358";

pub(super) fn table() -> Vec<Scenario> {
    let tiny = Settings { frames: 28, ..Settings::USUAL };
    let chances = Settings::USUAL.chances.with(Chance::NoHeap).with(Chance::NoFrame);
    vec![
        Scenario {
            settings: tiny,
            ..Scenario::new(
                "memory-that-ends",
                REPORT,
                "a space fills all memory while another one forks and copies",
                memory_that_ends,
            )
        },
        Scenario {
            settings: Settings { chances, ..Settings::USUAL },
            ..Scenario::new(
                "move-without-records",
                REPORT,
                "pages move to a new place, and there is no memory for what they need there",
                move_without_records,
            )
        },
        Scenario::new(
            "more-than-there-is",
            "#2345",
            "requests larger than memory, than a space, and than a file, while another thread works",
            more_than_there_is,
        ),
    ]
}

/// Memory ended, and nothing else is wrong.
fn is_short<T>(result: &Result<T, FaultError>) -> bool {
    matches!(result, Err(FaultError::NoMemory { .. }))
}

fn memory_that_ends(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let free = |kernel: &Kernel| {
        let mut limbo = 0;
        kernel.mmu.phys.for_each_limbo(|_| limbo += 1);
        kernel.mmu.phys.free_frames() + limbo
    };
    let before = free(&kernel);
    let (greedy, parent) = (kernel.user(), kernel.user());
    greedy.map(NEAR, 16).expect("room");
    parent.map(NEAR, 1).expect("room");
    parent.store(NEAR, 1).expect("memory");
    kernel.at_end(move |kernel| {
        assert_eq!(free(kernel), before, "memory comes back");
    });
    stage.actor(0, "fill", move || {
        let stored = (0..16).map(|page| greedy.store(NEAR + page * PAGE_SIZE, 1));
        let first = stored.into_iter().find(|stored| stored.is_err());
        assert!(first.is_none_or(|it| is_short(&it)));
    });
    stage.actor(1, "fork", move || {
        match parent.fork() {
            Ok(child) => {
                let stored = child.store(NEAR, 2);
                assert!(stored.is_ok() || is_short(&stored));
            }
            Err(error) => assert_eq!(error, CallError::NoMemory),
        }
        assert_eq!(parent.load(NEAR), Ok(1));
    });
}

fn move_without_records(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 2).expect("room");
    user.store(NEAR, 1).expect("memory");
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "move", move || match user.relocate(NEAR, 2, FAR) {
        Ok(_) => {
            let seen = user.load(FAR);
            assert!(matches!(seen, Ok(1 | 2)) || is_short(&seen), "{seen:?}");
        }
        Err(error) => {
            assert_eq!(error, CallError::NoMemory);
            let seen = user.load(NEAR);
            assert!(matches!(seen, Ok(1 | 2)) || is_short(&seen), "{seen:?}");
        }
    });
    stage.actor(1, "store", move || {
        // The second page is not there: only a fault notices a map that stays frozen.
        for at in [NEAR, NEAR + PAGE_SIZE] {
            let stored = twin.store(at, 2);
            let gone = matches!(stored, Err(FaultError::Unmapped { .. }));
            assert!(stored.is_ok() || gone || is_short(&stored), "{stored:?}");
        }
    });
}

fn more_than_there_is(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 1).expect("room");
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "ask", move || {
        assert_eq!(user.map(FAR, 1 << 34), Err(CallError::NoMemory));
        assert_eq!(user.map(FAR, 1 << 36), Err(CallError::NoMemory));
        let object = kernel.shared_memory(PAGE_SIZE).expect("memory");
        user.map_object(FAR, 4, &object, MapFlags::SHARED).expect("a mapping may be longer");
        let beyond = user.store(FAR + PAGE_SIZE, 1);
        assert!(matches!(beyond, Err(FaultError::BeyondEnd { .. })), "{beyond:?}");
        kernel.close(&object).expect("it is mapped");
    });
    stage.actor(1, "work", move || work(&twin));
}

fn work(user: &User) {
    user.store(NEAR, 1).expect("memory");
    assert_eq!(user.load(NEAR), Ok(1));
}
