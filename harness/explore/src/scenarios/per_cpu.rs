//! #2355: each CPU has a copy of one state, and they disagree: counters and their sums, TLBs and tables, magazines and
//! the number of free frames.

use rumpvm::FaultError;
use rumpvm_arch::PAGE_SIZE;
use rumpvm_hosted::explored::{Settings, Stage};

use crate::{Kernel, NEAR, Scenario};

const REPORT: &str = "#2355";

pub(super) fn table() -> Vec<Scenario> {
    let three = Settings { cpus: 3, ..Settings::USUAL };
    vec![
        Scenario {
            settings: Settings { ticks: true, ..Settings::USUAL },
            ..Scenario::new(
                "counters-and-sums",
                REPORT,
                "two CPUs touch the same pages while timer ticks come in, and every fault is counted once",
                counters_and_sums,
            )
        },
        Scenario {
            settings: Settings { prefetch: true, ..Settings::USUAL },
            ..Scenario::new(
                "flush-against-activation",
                REPORT,
                "a CPU that looks ahead begins to translate through a space while a page of it is unmapped",
                flush_against_activation,
            )
        },
        Scenario {
            settings: Settings { prefetch: true, ..three },
            ..Scenario::new(
                "flushes-from-two-sides",
                REPORT,
                "two CPUs unmap at once what a third one uses, and look-ahead fills its TLB",
                flushes_from_two_sides,
            )
        },
    ]
}

fn counters_and_sums(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 2).expect("room");
    let twin = user.twin();
    kernel.keep(user.twin());
    let before = kernel.statistics();
    let used = before.frames_total - before.frames_free;
    kernel.at_end(move |kernel| {
        let now = kernel.statistics();
        assert_eq!(now.faults_zero_fill - before.faults_zero_fill, 2, "two pages, two faults");
        assert_eq!(now.tables_made - before.tables_made, 3, "three tables above two pages");
        // Two pages, three tables, one node.
        assert_eq!(now.frames_total - now.frames_free, used + 6);
    });
    for (cpu, user) in [user, twin].into_iter().enumerate() {
        stage.actor(cpu, "touch", move || {
            for page in 0..2 {
                user.store(NEAR + page * PAGE_SIZE, 1).expect("memory");
            }
        });
    }
}

fn flush_against_activation(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 1).expect("room");
    user.store(NEAR, 1).expect("memory");
    // No CPU translates through it now.
    kernel.deactivate();
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "unmap", move || user.unmap(NEAR, 1).expect("memory"));
    stage.actor(1, "load", move || {
        let seen = twin.load(NEAR);
        assert!(matches!(seen, Ok(1) | Err(FaultError::Unmapped { .. })), "{seen:?}");
        kernel.deactivate();
        let again = twin.load(NEAR);
        assert!(again == seen || matches!(again, Err(FaultError::Unmapped { .. })));
    });
}

fn flushes_from_two_sides(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 2).expect("room");
    for page in 0..2 {
        user.store(NEAR + page * PAGE_SIZE, 1).expect("memory");
    }
    kernel.keep(user.twin());
    for cpu in 0..2 {
        let user = user.twin();
        stage.actor(cpu, "unmap", move || {
            let at = NEAR + cpu as u64 * PAGE_SIZE;
            assert_eq!(user.load(at), Ok(1));
            user.unmap(at, 1).expect("memory");
            assert_eq!(user.load(at), Err(FaultError::Unmapped { at }));
        });
    }
    stage.actor(2, "load", move || {
        for page in 0..2 {
            let seen = user.load(NEAR + page * PAGE_SIZE);
            assert!(matches!(seen, Ok(1) | Err(FaultError::Unmapped { .. })), "{seen:?}");
        }
    });
}
