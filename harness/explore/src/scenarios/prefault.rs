//! Seeds 002 and 004, #2137, #2118: a fault works on a backing structure that another thread replaces and frees.

use rumpvm_arch::VirtAddr;
use rumpvm_hosted::explored::{Settings, Stage};

use crate::{Kernel, Scenario};

const AT: VirtAddr = VirtAddr(0x4000_0000);

pub(super) fn table() -> Vec<Scenario> {
    vec![Scenario {
        name: "store-against-fork",
        report: "seed 002, #2137",
        says: "a store copies a page while another thread of the space forks it",
        settings: Settings::default(),
        setup: store_against_fork,
    }]
}

fn store_against_fork(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = kernel.user();
    parent.map(AT, 2).expect("room");
    parent.store(AT, 1).expect("memory");
    let twin = parent.twin();
    stage.actor(0, "store", move || {
        parent.store(AT, 2).expect("memory");
        assert_eq!(parent.load(AT), Ok(2));
    });
    stage.actor(1, "fork", move || {
        let child = twin.fork().expect("memory");
        let seen = child.load(AT).expect("memory");
        assert!(seen == 1 || seen == 2, "{seen} is neither old nor new");
        assert_eq!(child.load(AT), Ok(seen));
        child.store(AT, 3).expect("memory");
        assert!(twin.load(AT).expect("memory") < 3);
    });
}
