//! Seed 004: faults that come while a map is frozen sleep until it thaws, and none of them stays behind.
//!
//! A map is frozen while what is mapped is replaced (mmap over it), moved, forgotten or forked.

use rumpvm_arch::{PAGE_SIZE, VirtAddr};
use rumpvm_hosted::explored::{Settings, Stage};

use crate::{Kernel, NEAR, Scenario};

const REPORT: &str = "seed 004";

/// What is replaced again and again: nobody else looks at it.
const OTHER: VirtAddr = VirtAddr(NEAR.0 + 8 * PAGE_SIZE);

pub(super) fn table() -> Vec<Scenario> {
    vec![
        Scenario {
            settings: Settings { cpus: 3, ..Settings::USUAL },
            ..Scenario::new(
                "stores-while-frozen",
                REPORT,
                "two threads fault again and again while a third one freezes their map twice",
                stores_while_frozen,
            )
        },
        Scenario::new(
            "store-while-frozen",
            REPORT,
            "a thread faults twice while another one freezes their map twice",
            store_while_frozen,
        ),
    ]
}

fn stores_while_frozen(stage: &Stage) {
    freezes(stage, 2);
}

fn store_while_frozen(stage: &Stage) {
    freezes(stage, 1);
}

/// `threads` threads store to two fresh pages each, and another one replaces a page twice.
fn freezes(stage: &Stage, threads: usize) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 9).expect("room");
    // The table and the node are there: a fault is as short as it can be.
    user.store(NEAR + 7 * PAGE_SIZE, 1).expect("memory");
    kernel.keep(user.twin());
    for cpu in 0..threads {
        let user = user.twin();
        stage.actor(cpu, "store", move || {
            for page in 0..2 {
                let at = NEAR + (2 * cpu as u64 + page) * PAGE_SIZE;
                user.store(at, 1).expect("memory");
            }
        });
    }
    stage.actor(threads, "replace", move || {
        for _ in 0..2 {
            user.map(OTHER, 1).expect("memory");
        }
    });
}
